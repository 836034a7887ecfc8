"""Why an interval may hold the truth less often than its level says: the mark ‡ of a table.

docs/coverage.md publishes the coverage in these regimes: few prompts, long tails, and shares near 0 or 1; few
training seeds make an interval wide, not wrong. benchmarks/coverage.py measures them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rlhf_bench.types import Estimate

FEW_PROMPTS = 100  # fewer than this
LONG_TAILS = 6.0  # excess kurtosis of the prompts' values, above which a few of them carry the number ...
ENOUGH = 1_000  # ... unless there are so many prompts
FEW_OF_A_KIND = 10  # prompts that the rarer of two answers is expected at
AT_MOST = 6  # models, or pairs of them, that a note names of one quantity

_SEE = "see docs/coverage.md"


class Shown(NamedTuple):
    """One number of a table, as a note names it: `quantity` of `of`."""

    quantity: str
    of: str
    estimate: Estimate
    is_share: bool = False
    near_an_end: bool = False


def has_long_tails(estimate: Estimate) -> bool:
    """True if the prompts' values have long tails, and too few prompts for the interval to come out right with them."""
    return estimate.kurtosis is not None and estimate.kurtosis > LONG_TAILS and estimate.n < ENOUGH


def near_an_end(share: Estimate) -> bool:
    """True for a share of which so many prompts leave fewer than 10 on its rarer side."""
    return share.n > 0 and min(share.value, 1 - share.value) * share.n < FEW_OF_A_KIND


def caution_notes(numbers: Iterable[Shown]) -> list[str]:
    """A note for each regime that some of the numbers are in, naming those that are."""
    known = [number for number in numbers if math.isfinite(number.estimate.low)]
    prompts = max((number.estimate.n for number in known), default=0)
    tails = [number for number in known if not number.is_share and has_long_tails(number.estimate)]
    ends = [number for number in known if number.near_an_end and number.estimate.n >= FEW_PROMPTS]
    notes = []
    if 0 < prompts < FEW_PROMPTS:
        notes.append(f"‡ Only {prompts} prompts: intervals may hold the truth in some 92 % of cases; {_SEE}")
    if tails:
        notes.append(f"‡ Long tails, a few prompts carry the number: {_names(tails)}: some 90 to 94 % of cases; {_SEE}")
    if ends:
        notes.append(f"‡ Near 0 or 1: {_names(ends)}: 86 to 100 % of cases; {_SEE}")
    return notes


def _names(numbers: Sequence[Shown]) -> str:
    of: dict[str, list[str]] = {}
    for number in numbers:
        of.setdefault(number.quantity, []).append(number.of)
    more = {quantity: f" and {len(names) - AT_MOST} more" * (len(names) > AT_MOST) for quantity, names in of.items()}
    return "; ".join(f"{quantity} of {', '.join(names[:AT_MOST])}{more[quantity]}" for quantity, names in of.items())
