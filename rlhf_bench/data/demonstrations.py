"""Demonstrations: one response to a prompt, to be imitated. What SFT learns from where it is no preference data.

Rows have instruction[/input] or prompt, and output, response, completion or answer: alpaca and its descendants. Of rows
with a label as well (KTO's) the desirable responses are demonstrations, and the others are left out.
"""

from __future__ import annotations

from functools import cached_property

from rlhf_bench.data.columns import detect
from rlhf_bench.data.labelled import LabelledResponse, read_labelled
from rlhf_bench.data.sources import open_source
from rlhf_bench.data.splits import Fractions, default_fractions, split_of
from rlhf_bench.data.tabular import RawTable
from rlhf_bench.errors import DataError
from rlhf_bench.types import stable_hash


class Demonstrations:
    """The demonstrations of a source, read once: its train split, of which a share of the prompts validates."""

    def __init__(self, source: str, *, seed: int = 0, skip_bad: bool = False) -> None:
        self.source, self.seed, self.skip_bad = source, seed, skip_bad
        self.empty = 0  # rows without a prompt or a response, which are left out
        self.undesirable = 0  # rows with a label that says so, which are left out

    def split(self, name: str) -> list[LabelledResponse]:
        """The demonstrations of "train" or "validation". Raises DataError where none is left, or rows are unusable."""
        validation = default_fractions(len(self._all)).validation
        shares = Fractions(1.0 - validation, validation, 0.0)
        found = [one for one in self._all if split_of(one.prompt, self.seed, shares) == name]
        if not found:
            raise DataError(f"no demonstration is left in split {name!r} of {self.source}; give more rows")
        return found

    @property
    def fingerprint(self) -> str:
        return stable_hash(*(text for one in self._all for text in (one.prompt, one.response)))

    @cached_property
    def _all(self) -> list[LabelledResponse]:
        parts = open_source(self.source, None).splits.get("train", [])
        return [one for part in parts for one in self._part(part)]

    def _part(self, part: RawTable) -> list[LabelledResponse]:
        rows, dropped = read_labelled(part, detect(part.columns, None, part.name, demonstrations=True))
        part.settle(skip=self.skip_bad, advice="--set data.skip_bad=true")
        good = [row for row in rows if row.desirable]
        self.empty += sum(map(len, dropped.values()))
        self.undesirable += len(rows) - len(good)
        return good
