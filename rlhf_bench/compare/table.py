"""The comparison as text of a given width: nothing is left out or cut, whatever the models are called."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rlhf_bench.scorers import describe
from rlhf_bench.stats import Difference, FloatArray, holm

__all__ = ["WIDTH", "Row", "table_lines", "wrapped"]

WIDTH = 100  # characters

_HEAD = (
    ("", "", "", "", "p", "p", "p", "", "detect-"),
    ("A", "B", "B - A", "95 % interval", "paired", "Wilcoxon", "Holm", "d", "able"),
)
_LARGE = 1_000  # from here on one decimal is enough


class Row(NamedTuple):
    metric: str
    model: str
    a: float
    b: float
    found: Difference
    differences: FloatArray  # (S, P), B minus A


def table_lines(rows: Sequence[Row], *, width: int = WIDTH) -> list[str]:
    """A heading a metric, with its number of prompts, and a line a model; Holm's p is over the models of a metric.

    A model whose name leaves no room for its numbers has a line of its own for it.
    """
    groups = [(metric, list(members)) for metric, members in groupby(rows, lambda row: row.metric)]
    cells = [[*zip(members, _cells(members), strict=True)] for _, members in groups]
    numbers = [*_HEAD, *(line for group in cells for _, line in group)]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    room = width - sum(widths) - 2 * len(widths)
    names = [f"  {row.model}" for row in rows]
    left = max((len(name) for name in ["model", *names] if len(name) <= room), default=2)
    lines = [_line(name, line, left, widths) for name, line in zip(("", "model"), _HEAD, strict=True)]
    for (metric, members), group in zip(groups, cells, strict=True):
        lines += wrapped(f"{metric}, {_prompts(members)}", width=width)
        for row, line in group:
            name = f"  {row.model}"
            if len(name) > left:
                lines.append(name)
                name = ""
            lines.append(_line(name, line, left, widths))
    return lines


def wrapped(text: str, *, width: int = WIDTH) -> list[str]:
    """A sentence in lines of that width; what has no space, such as a path, is not broken."""
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _line(name: str, cells: Sequence[str], left: int, widths: Sequence[int]) -> str:
    padded = [name.ljust(left), *(cell.rjust(w) for cell, w in zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()


def _prompts(rows: Sequence[Row]) -> str:
    counts = {row.model: row.found.estimate.n for row in rows}
    if len(set(counts.values())) == 1:
        n = rows[0].found.estimate.n
        return f"{n} prompt{'' if n == 1 else 's'}"
    return "prompts: " + ", ".join(f"{model} {n}" for model, n in counts.items())


def _cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """The numbers of one metric's models."""
    adjusted = holm([row.found.p_paired for row in rows])
    for row, p_holm in zip(rows, adjusted, strict=True):
        digits, estimate = describe(row.metric).digits, row.found.estimate
        yield [
            _number(row.a, digits),
            _number(row.b, digits),
            _number(estimate.value, digits, sign="+"),
            f"[{_number(estimate.low, digits, sign='+')}, {_number(estimate.high, digits, sign='+')}]",
            _p(row.found.p_paired),
            _p(row.found.p_wilcoxon),
            _p(p_holm),
            _number(row.found.effect, 2),
            _number(row.found.detectable, digits),
        ]


def _number(value: float, digits: int, *, sign: str = "") -> str:
    if math.isnan(value):
        return "-"
    return f"{value:{sign}.{digits if abs(value) < _LARGE else min(digits, 1)}f}"


def _p(p: float | None) -> str:
    if p is None or math.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"
