"""The mark ‡ under a table: which of its numbers are in a regime whose intervals are known to cover badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlhf_bench.errors import UnknownName
from rlhf_bench.report.cells import Cell, Column
from rlhf_bench.report.result import known
from rlhf_bench.scorers import describe
from rlhf_bench.stats.cautions import Shown, caution_notes, near_an_end
from rlhf_bench.types import Estimate

__all__ = ["cautions"]


def cautions(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, keys: int = 1) -> list[str]:
    """Notes on the Estimates of a table whose first `keys` columns name a row."""
    return caution_notes(_numbers(columns, rows, keys))


def _numbers(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], keys: int) -> Iterator[Shown]:
    for row in rows:
        names = [f"seed {cell}" if c.key == "seed" else str(cell) for c, cell in zip(columns, row[:keys], strict=False)]
        of = " ".join(names)
        for column, cell in zip(columns[keys:], row[keys:], strict=True):
            if isinstance(cell, Estimate) and known(cell):
                is_share = _is_share(column.key)
                yield Shown(column.title, of, cell, is_share, is_share and near_an_end(cell))


def _is_share(metric: str) -> bool:
    try:
        return describe(metric).kind == "share"
    except UnknownName:  # a column that is no metric
        return metric == "win_rate"
