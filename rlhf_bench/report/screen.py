"""What a terminal shows of a result: the main table and a few lines under it; the judges' tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_bench.errors import StoreError
from rlhf_bench.report.alarms import checked_for, raised_alarms
from rlhf_bench.report.contents import tables
from rlhf_bench.report.notes import first_notes, with_common_notes
from rlhf_bench.report.render.terminal import block, fits, text_of, wrapped
from rlhf_bench.report.result import Result, known, load_result
from rlhf_bench.report.table import ALWAYS, MAIN, Table
from rlhf_bench.report.tables.judge_forms import SECTION
from rlhf_bench.report.tables.summary import missing_lines, summary_table
from rlhf_bench.report.verdict import verdict
from rlhf_bench.types import Estimate

_UNDER = 6  # lines under the table


def summary_text(folder: Path, *, width: int = 120) -> str:
    """The main columns of a result as plain text for a terminal so wide, and at most six lines under them."""
    result = load_result(folder)
    table = with_common_notes(result, summary_table(result))
    columns, stacked = _fitting(table, width)
    prompts, samples = result.manifest["data"].get("n_prompts", "?"), result.sampling.get("samples", "?")
    seeds = f"training seed{'' if len(result.seeds) == 1 else 's'} {', '.join(map(str, result.seeds))}"
    head = f"{table.title}: {prompts} prompts × {samples} samples, {seeds}, reference {result.reference}"
    lines = [*wrapped(head, width), *block(table, columns, width, stacked=stacked), *_under(result, table, width)]
    return "\n".join(lines) + "\n"


def _under(result: Result, table: Table, width: int) -> list[str]:
    """What has to be known first: the seeds, the verdict, the alarms; the rest is counted, and is on the page."""
    seeds, alarms = first_notes(result), raised_alarms(result)
    first = [_short("; ".join(seeds), width)] if seeds else []
    last = [_short(f"Alarms: {len(alarms)}: {alarms[0]}", width)] if alarms else []
    if not alarms and (checked := checked_for(result)):
        last = [f"Alarms: none in {len(checked)} checks"]
    room = _UNDER - len(first) - len(last) - 1
    verdicts: list[str] = []
    for sentence in verdict(result):
        found = wrapped(sentence, width)
        if len(verdicts) + len(found) <= room:
            verdicts += found
        elif not verdicts:
            verdicts = wrapped(_short(sentence, (width - 2) * room), width)[:room]
    counts = {
        ("line", " on numbers not available"): len(missing_lines(result)),
        ("note", ""): len(table.notes) - len(seeds),
        ("alarm", ""): len(alarms),
    }
    on_the_page = ", ".join(f"{n} {what}{'' if n == 1 else 's'}{rest}" for (what, rest), n in counts.items() if n)
    return [*first, *verdicts, *last, *([_short(f"On the page: {on_the_page}", width)] if on_the_page else [])]


def _short(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")


def judge_text(folder: Path, **wanted: str) -> str:
    """What judges found, as plain text, in the judgings that have what is `wanted`: judge="gpt-4o", for instance.

    Raises StoreError where nothing was judged.
    """
    result = load_result(folder)
    judge = result.judge
    if not any(judge.get(key) for key in ("judgings", "ratings", "rankings")):
        raise StoreError(
            f"{folder} was not judged; do it with: rlhf-bench judge run {folder} --judge length --baseline NAME"
        )
    judge = {form: _wanted(rows, wanted) if isinstance(rows, list) else rows for form, rows in judge.items()}
    # strengths join the judgings against several baselines
    judge["strengths"] = _wanted(result.judge.get("strengths", []), {**wanted, "baseline": None})
    found = tables(replace(result, judge=judge), section=SECTION)
    return "\n".join(text_of(table, width=120) for table in found if table.rows)


def _wanted(rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, str | None]) -> list[Mapping[str, Any]]:
    """The rows that have the values that are wanted; None is any value, as is a key that the row lacks."""
    return [row for row in rows if all(value in (None, row.get(key, value)) for key, value in wanted.items())]


def _fitting(table: Table, width: int) -> tuple[list[int], bool]:
    """The columns that fit the terminal, and whether their intervals are below the values.

    Columns of the tier MAIN are left out from the right until the others fit.
    """
    numbers = range(table.keys, len(table.columns))
    cells = {j: [row[j] for row in table.rows] for j in numbers if table.columns[j].tier <= MAIN}
    shown = [j for j in cells if any(known(c) if isinstance(c, Estimate) else c is not None for c in cells[j])]
    stacked = not fits(table, shown, width)
    while not fits(table, shown, width, stacked=stacked) and len(shown) > 1:
        spare = [j for j in shown if table.columns[j].tier != ALWAYS]
        shown.remove(spare[-1] if spare else shown[-1])
    return shown, stacked
