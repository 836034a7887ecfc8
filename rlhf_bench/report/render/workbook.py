"""Tables as one Excel file, a sheet a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet

from rlhf_bench.data.sheets import put, workbook_bytes
from rlhf_bench.files import atomic_write_bytes
from rlhf_bench.report.render.flat import finite, flat
from rlhf_bench.report.table import Table


def write_workbook(path: Path, tables: Iterable[Table]) -> None:
    """Numbers are numbers; text stays text even where it begins like a formula."""
    workbook = Workbook()
    workbook.remove(workbook.worksheets[0])
    for table in tables:
        _fill(workbook.create_sheet(table.name), table)
    atomic_write_bytes(path, workbook_bytes(workbook))


def _fill(sheet: Worksheet, table: Table) -> None:
    titles: list[str] = []
    for column in table.columns:
        titles += [column.title, "low", "high", "n"] if column.interval else [column.title]
    for j, title in enumerate(titles, 1):
        put(sheet.cell(1, j), title)
        sheet.cell(1, j).font = Font(bold=True)
        sheet.column_dimensions[get_column_letter(j)].width = min(60, max(10, len(title) + 2))
    for i, row in enumerate(flat(table)[1], 2):
        for j, value in enumerate(map(finite, row), 1):
            put(sheet.cell(i, j), value)
    for i, note in enumerate(table.notes, len(table.rows) + 3):
        put(sheet.cell(i, 1), note, wrap=False)
    sheet.freeze_panes = "B2"
