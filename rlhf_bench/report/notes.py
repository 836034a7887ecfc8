"""The notes that all tables have: one training seed, toy checkpoints, intervals that cover badly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlhf_bench.errors import UnknownName
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Table
from rlhf_bench.scorers import describe
from rlhf_bench.stats.cautions import Shown, caution_notes, near_an_end
from rlhf_bench.types import Estimate


def with_common_notes(result: Result, table: Table) -> Table:
    """`table` with the notes that hold for all tables of the result, first, and the warnings about its intervals."""
    estimates = any(isinstance(cell, Estimate) for row in table.rows for cell in row)
    first = first_notes(result) if estimates else []
    warnings = [] if table.cautioned else caution_notes(_numbers(table))
    return replace(table, notes=[*first, *table.notes, *warnings])


def first_notes(result: Result) -> list[str]:
    """That there is one training seed, and what its intervals leave out; and `toy_lines`."""
    option = "; train more: --seeds 3" if result.metrics.get("training") else ""
    one_seed = [f"One training seed: intervals and p leave out retraining{option}"] if len(result.seeds) == 1 else []
    return [*one_seed, *toy_lines(result.manifest)]


def toy_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Which models come from a toy recipe; nothing where none does."""
    return _toy([name for name, entries in manifest["models"].items() if any(entry.get("toy") for entry in entries)])


def audit_toy_note(audit: Mapping[str, Any]) -> list[str]:
    """Which audited reward models come from a toy recipe; nothing where none does."""
    return _toy([entry["name"] for entry in audit.get("reward_model", []) if entry.get("toy")])


def _toy(names: Sequence[str]) -> list[str]:
    return [f"Toy recipe, its numbers mean nothing: {', '.join(names)}"] if names else []


def interval_note(result: Result) -> str:
    cells = [result.estimate(model, result.reward_key) for model in result.models]
    level = next((cell.level for cell in cells if cell), 0.95)
    over = "prompts" if len(result.seeds) == 1 else f"prompts and {len(result.seeds)} seeds"
    return f"value [low, high]: {level:.0%} confidence interval over {over}"


def _numbers(table: Table) -> Iterator[Shown]:
    """The table's Estimates, as the warning ‡ about intervals that are known to cover badly needs them."""
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
