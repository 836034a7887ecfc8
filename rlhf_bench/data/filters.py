"""Filters for training data. Each rule reports how many rows it removed; a row counts under the first that removes it.

They are for training: a test split is filtered only where the suite says so, since a filter chooses what is measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_bench.errors import check_known
from rlhf_bench.types import PreferencePair


@dataclass(frozen=True)
class Filters:
    """Rules for a pair; the defaults remove nothing. Lengths are characters, without a response's leading space."""

    drop_ties: bool = False  # chosen and rejected are the same text
    min_chars: int = 0  # the shorter response
    min_length_ratio: float = 0.0  # chosen over rejected
    max_length_ratio: float = math.inf
    max_chars: int | None = None  # the prompt with the longer response

    def reason(self, pair: PreferencePair) -> str | None:
        """Why the pair is removed, in words, or None if it passes."""
        chosen, rejected = len(pair.chosen) - 1, len(pair.rejected) - 1
        if self.drop_ties and pair.chosen == pair.rejected:
            return "identical responses"
        if min(chosen, rejected) < self.min_chars:
            return f"response under {self.min_chars} characters"
        # Multiplied out: no division, and exactly on the bound passes.
        if not self.min_length_ratio * rejected <= chosen <= self.max_length_ratio * rejected:
            return f"length ratio outside [{self.min_length_ratio:g}, {self.max_length_ratio:g}]"
        if self.max_chars is not None and len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) > self.max_chars:
            return f"conversation over {self.max_chars} characters"
        return None


# 4,000 characters are some 1,000 tokens of English, GPT-2's whole context.
FILTERS = {
    "none": Filters(),
    "hh-edge-cases": Filters(drop_ties=True, min_chars=10, min_length_ratio=0.5, max_length_ratio=2.0, max_chars=4_000),
}


def named_filters(name: str) -> Filters:
    """A preset by its name: "none" or "hh-edge-cases"."""
    check_known("filter", [name], FILTERS)
    return FILTERS[name]


def apply_filters(pairs: Iterable[PreferencePair], filters: Filters) -> tuple[list[PreferencePair], dict[str, int]]:
    """The pairs that pass, in their order, and the number that each rule removed."""
    kept: list[PreferencePair] = []
    counts: Counter[str] = Counter()
    for pair in pairs:
        reason = filters.reason(pair)
        if reason is None:
            kept.append(pair)
        else:
            counts[reason] += 1
    return kept, counts
