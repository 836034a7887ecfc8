"""What stands under every table: that there is one training seed, toy checkpoints, and intervals that cover badly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rlhf_bench.errors import UnknownName
from rlhf_bench.metrics.cautions import Shown, caution_notes, near_an_end
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Table
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate

__all__ = ["cautions", "interval_note", "with_common_notes"]


def with_common_notes(result: Result, table: Table) -> Table:
    """`table` with the warnings about its intervals."""
    warnings = [] if table.cautioned else cautions(table)
    return replace(table, notes=[*table.notes, *warnings])


def cautions(table: Table) -> list[str]:
    """The mark ‡: which Estimates of a table are in a regime whose intervals are known to cover badly."""
    return caution_notes(_numbers(table))


def interval_note(result: Result) -> str:
    cells = [result.estimate(model, result.reward_key) for model in result.models]
    level = next((cell.level for cell in cells if cell), 0.95)
    over = "prompts" if len(result.seeds) == 1 else f"prompts and {len(result.seeds)} seeds"
    return f"value [low, high]: {level:.0%} confidence interval over {over}"


def _numbers(table: Table) -> Iterator[Shown]:
    for row in table.rows:
        named = zip(table.columns, row[: table.keys], strict=False)
        of = " ".join(f"seed {cell}" if column.key == "seed" else str(cell) for column, cell in named)
        for column, cell in zip(table.columns[table.keys :], row[table.keys :], strict=True):
            if isinstance(cell, Estimate) and known(cell):
                is_share = _is_share(column.key)
                yield Shown(column.title, of, cell, is_share, is_share and near_an_end(cell))


def _is_share(metric: str) -> bool:
    try:
        return describe(metric).kind == "share"
    except UnknownName:  # a column that is no metric
        return metric == "win_rate"
