"""Tables as Markdown, CSV, LaTeX (booktabs) and Excel."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from rlhf_bench.data.sheets import put, workbook_bytes
from rlhf_bench.files import atomic_write_bytes, atomic_write_text
from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.best_of_n import best_of_n_table
from rlhf_bench.report.cells import Cell, Table, column_text
from rlhf_bench.report.equal_kl import equal_kl_table
from rlhf_bench.report.judge import JUDGE_KEYS, judge_tables
from rlhf_bench.report.kl import kl_table
from rlhf_bench.report.pareto import pareto_table
from rlhf_bench.report.responses import responses_markdown, responses_table
from rlhf_bench.report.result import Result
from rlhf_bench.report.rouge import rouge_table
from rlhf_bench.report.tables import gold_table, missing_lines, pairwise_table, per_seed_table, summary_table
from rlhf_bench.report.tex import tex_text
from rlhf_bench.types import Estimate

__all__ = ["csv_text", "flat", "markdown_text", "report_tables", "write_tables", "write_workbook"]

_ALWAYS = 4  # of `report_tables`: written even without a row


def report_tables(result: Result) -> list[tuple[Table, int]]:
    """Every table of a report, each with the number of columns that name a row; some may have no row.

    summary, pairwise, per_seed and gold stand first.
    """
    return [
        (summary_table(result), 1), (pairwise_table(result), 3), (per_seed_table(result), 2), (gold_table(result), 1),
        (rouge_table(result), 1), (kl_table(result), 1), (pareto_table(result), 2), (equal_kl_table(result), 3),
        (best_of_n_table(result), 1),
        *zip(judge_tables(result), JUDGE_KEYS, strict=True),
    ]  # fmt: skip


def write_tables(result: Result, folder: Path) -> list[Path]:
    """summary, pairwise, per_seed and gold as .md, .csv and .tex; summary.xlsx with a sheet for each; responses.md.

    rouge, kl, pareto, equal_kl, best_of_n and the judges' tables as well, where there is something to show; old ones
    are removed where there is not.
    """
    tables: list[tuple[Table, int]] = []
    for i, (table, keys) in enumerate(report_tables(result)):
        if i < _ALWAYS or table.rows:
            tables.append((table, keys))
        else:
            for suffix in (".md", ".csv", ".tex"):
                (folder / f"{table.name}{suffix}").unlink(missing_ok=True)
    written: list[Path] = []

    def write(name: str, text: str) -> None:
        atomic_write_text(folder / name, text)
        written.append(folder / name)

    sections = {
        "Alarms": alarm_lines(result),
        "Alarms while training": training_alarm_lines(result),
        "Not available": missing_lines(result),
    }
    for table, keys in tables:
        write(f"{table.name}.md", markdown_text(table, sections=sections if table.name == "summary" else {}))
        write(f"{table.name}.csv", csv_text(table))
        write(f"{table.name}.tex", tex_text(table, keys=keys))
    write("responses.md", responses_markdown(result))
    write_workbook(folder / "summary.xlsx", [*(table for table, _ in tables), responses_table(result)])
    return [*written, folder / "summary.xlsx"]


def markdown_text(table: Table, *, sections: Mapping[str, Sequence[str]] | None = None) -> str:
    """A heading, a pipe table, the notes, and lists under headings of their own; an empty list is left out."""
    header = [column.title for column in table.columns]
    lines = [f"# {table.title}", "", _pipes(header), _pipes(["---", *["---:"] * (len(header) - 1)])]
    for row in table.rows:
        lines.append(_pipes([column_text(cell, c) for cell, c in zip(row, table.columns, strict=True)]))
    for note in table.notes:
        lines += ["", _inline(note)]
    for heading, items in (sections or {}).items():
        if items:
            lines += ["", f"## {heading}", "", *(f"- {_inline(item)}" for item in items)]
    return "\n".join(lines) + "\n"


def csv_text(table: Table) -> str:
    """One row a table row, full precision; an Estimate takes four columns: value, _low, _high, _n. Empty: none."""
    header, rows = flat(table)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if value is None else value for value in map(_finite, row)])
    return buffer.getvalue()


def flat(table: Table) -> tuple[list[str], list[list[str | float | int | None]]]:
    """Names of columns, and rows without an Estimate: it takes four columns, value, _low, _high and _n."""
    estimates = _estimate_columns(table)
    header: list[str] = []
    for i, column in enumerate(table.columns):
        header.append(column.key)
        header += [f"{column.key}_{part}" for part in ("low", "high", "n")] if i in estimates else []
    return header, [_flat(row, estimates) for row in table.rows]


def write_workbook(path: Path, tables: Iterable[Table]) -> None:
    """One sheet a table. Numbers are numbers; text stays text even where it begins like a formula."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for table in tables:
        _fill(workbook.create_sheet(table.name), table)
    atomic_write_bytes(path, workbook_bytes(workbook))


def _fill(sheet: Worksheet, table: Table) -> None:
    estimates = _estimate_columns(table)
    titles: list[str] = []
    for i, column in enumerate(table.columns):
        titles += [column.title, "low", "high", "n"] if i in estimates else [column.title]
    for j, title in enumerate(titles, 1):
        put(sheet.cell(1, j), title)
        sheet.cell(1, j).font = Font(bold=True)
        sheet.column_dimensions[get_column_letter(j)].width = min(60, max(10, len(title) + 2))
    for i, row in enumerate(table.rows, 2):
        for j, value in enumerate(map(_finite, _flat(row, estimates)), 1):
            put(sheet.cell(i, j), value)
    for i, note in enumerate(table.notes, len(table.rows) + 3):
        put(sheet.cell(i, 1), note, wrap=False)
    sheet.freeze_panes = "B2"


def _estimate_columns(table: Table) -> set[int]:
    return {i for i, column in enumerate(table.columns) if column.interval}


def _flat(row: list[Cell], estimates: set[int]) -> list[str | float | int | None]:
    """The row with each Estimate as value, low, high, n."""
    values: list[str | float | int | None] = []
    for i, cell in enumerate(row):
        if isinstance(cell, Estimate):
            values += [cell.value, cell.low, cell.high, cell.n]
        else:
            values += [None] * 4 if i in estimates else [cell]
    return values


def _finite(value: str | float | int | None) -> str | float | int | None:
    """NaN becomes None; infinities are kept as text."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(_inline(cell) for cell in cells) + " |"


def _inline(text: str) -> str:
    """Text for one cell or line of Markdown: no line break, no cell border, no HTML ("< 0.001" is none)."""
    text = " ".join(text.split())
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")
    text = re.sub("<(?! )", "&lt;", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # an underscore inside a word is never emphasis
