"""Demonstrations: one response to a prompt, to be imitated. What SFT learns from where it is no preference data.

Rows have instruction[/input] or prompt, and output, response, completion or answer: alpaca and its descendants. Of rows
with a label as well (KTO's) the desirable responses are demonstrations, and the others are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from rlhf_bench.data.columns import Cells, Layout, Names, detect, read_prompt, read_rows
from rlhf_bench.data.files import Part
from rlhf_bench.data.hh import clean_response
from rlhf_bench.data.labelled import LabelledResponse, read_labelled
from rlhf_bench.data.pairs import check_texts
from rlhf_bench.data.sources import open_source
from rlhf_bench.data.splits import Fractions, default_fractions, split_of
from rlhf_bench.errors import DataError
from rlhf_bench.types import stable_hash

_PROMPTS = ("instruction", "prompt", "question", "query")
_RESPONSES = ("output", "response", "completion", "answer")


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

    def _part(self, part: Part) -> list[LabelledResponse]:
        layout = _labelled_layout(part)
        rows, dropped = _read_demonstrations(part) if layout is None else read_labelled(part, layout)
        part.bad.settle(part.n_rows, skip=self.skip_bad, advice="--set data.skip_bad=true")
        good = [row for row in rows if row.desirable]
        self.empty += sum(map(len, dropped.values()))
        self.undesirable += len(rows) - len(good)
        return good


def _read_demonstrations(part: Part) -> tuple[list[LabelledResponse], dict[str, list[int]]]:
    """The demonstrations of a part without labels, and the rows left out by each rule."""
    found, dropped = read_rows(part, _column_names(part.columns, part.name), _demonstration)
    return [one for _, one in found], dropped


def _demonstration(cells: Cells) -> LabelledResponse:
    prompt, response = read_prompt(cells), clean_response(cells.text("completion"))
    check_texts(prompt, response)
    return LabelledResponse(prompt, response, desirable=True)


def _labelled_layout(part: Part) -> Layout | None:
    """The layout of a part with prompt, completion and label; None for another."""
    if "label" not in {column.strip().lower() for column in part.columns}:
        return None
    layout = detect(part.columns, None, part.name)
    return layout if layout.kind == "labelled" else None


def _column_names(columns: Sequence[str], source: str) -> Names:
    """Field -> column. Raises DataError where there is no prompt or no response."""
    there = {column.strip().lower(): column for column in reversed(columns)}
    prompt = next((name for name in _PROMPTS if name in there), None)
    response = next((name for name in _RESPONSES if name in there), None)
    if prompt is None or response is None:
        raise DataError(
            f"{source} has the columns {', '.join(columns) or 'none'}; expected demonstrations: instruction[/input] or "
            "prompt, and output, response, completion or answer"
        )
    names = {"instruction" if prompt == "instruction" else "prompt": there[prompt], "completion": there[response]}
    return names | {field: there[field] for field in ("input", "system") if field in there}
