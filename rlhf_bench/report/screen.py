"""What a terminal shows of a result: the main table and a few lines under it; the judges' tables; an audit's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rlhf_bench.errors import StoreError
from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.contents import tables
from rlhf_bench.report.render.terminal import block, fits, text_of, wrapped
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import ALWAYS, MAIN, Table
from rlhf_bench.report.tables.judge_forms import SECTION
from rlhf_bench.report.tables.reward_model import table_of_audit
from rlhf_bench.report.tables.summary import missing_lines, summary_table
from rlhf_bench.types import Estimate

__all__ = ["audit_text", "judge_text", "summary_text"]


def summary_text(result: Result, *, width: int = 120) -> str:
    """The main columns as plain text for a terminal `width` characters wide, and what has to be known of them."""
    table = summary_table(result)
    columns, stacked = _fitting(table, width)
    prompts, samples = result.manifest["data"].get("n_prompts", "?"), result.sampling.get("samples", "?")
    seeds = f"training seed{'' if len(result.seeds) == 1 else 's'} {', '.join(map(str, result.seeds))}"
    head = f"{table.title}: {prompts} prompts × {samples} samples, {seeds}, reference {result.reference}"
    lines = [*wrapped(head, width), *block(table, columns, width, stacked=stacked)]
    lines += [line for note in table.notes for line in wrapped(note, width)]
    lines += [f"Alarm: {line}" for line in [*alarm_lines(result), *training_alarm_lines(result)]]
    lines += [f"Not available: {line}" for line in missing_lines(result)]
    return "\n".join(lines) + "\n"


def judge_text(result: Result, **wanted: str) -> str:
    """All tables of judge.json; of those judgings that have what is `wanted` (judge="gpt-4o", template="likert@1").

    Raises StoreError where nothing was judged.
    """
    judge = result.judge
    if not any(judge.get(key) for key in ("judgings", "ratings", "rankings")):
        path = result.path
        raise StoreError(
            f"{path} was not judged; do it with: rlhf-bench judge run {path} --judge length --baseline NAME"
        )
    judge = {
        form: [row for row in rows if all(row.get(key, value) == value for key, value in wanted.items())]
        if isinstance(rows, list)
        else rows
        for form, rows in judge.items()
    }
    found = tables(replace(result, judge=judge), section=SECTION)
    return "\n".join(text_of(table, width=120) for table in found if table.rows)


def audit_text(audit: Mapping[str, Any]) -> str:
    """Accuracy by category beside its baselines, of audit.json: of all seeds together, then of each seed over all."""
    table = table_of_audit(audit)
    rows = [row for row in table.rows if row[0] == table.rows[0][0] or row[1] in ("all", "unseen categories")]
    return text_of(replace(table, rows=rows), width=120)


def _fitting(table: Table, width: int) -> tuple[list[int], bool]:
    """The columns that fit the terminal, and whether their intervals stand below the values.

    Columns of the tier MAIN are left out from the right until the others fit.
    """
    numbers = range(table.keys, len(table.columns))
    shown = [j for j in numbers if table.columns[j].tier <= MAIN and _has_value(table, j)]
    stacked = not fits(table, shown, width)
    while not fits(table, shown, width, stacked=stacked) and len(shown) > 1:
        spare = [j for j in shown if table.columns[j].tier != ALWAYS]
        shown.remove(spare[-1] if spare else shown[-1])
    return shown, stacked


def _has_value(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows]
    return any(known(cell) if isinstance(cell, Estimate) else cell is not None for cell in cells)
