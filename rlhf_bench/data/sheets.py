"""Spreadsheets: text stays text, whatever it begins with, and the same cells are the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from openpyxl import Workbook, load_workbook
from openpyxl.cell import Cell as SheetCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
from openpyxl.styles import Alignment
from openpyxl.writer.excel import ExcelWriter

_SHEET = "responses"  # of the sheets in a workbook the one with this name is read, else the first
_EXCEL_CELL = 32_767  # characters that a cell of Excel can hold
_FORMULA = ("=", "+", "-", "@")
_NO_TIME = datetime(1980, 1, 1)  # the first moment that a zip can name


def sheet_rows(content: bytes) -> list[tuple[int, Mapping[str, Any]]]:
    """The rows of a workbook below their header, numbered from 1, each cell as text: "42" is stored as a number."""
    # A response that begins with "=" was made a formula by the program that wrote the file: its text is read.
    workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=False)
    sheet = workbook[_SHEET if _SHEET in workbook.sheetnames else workbook.sheetnames[0]]
    lines = [[None if cell is None else str(cell) for cell in line] for line in sheet.iter_rows(values_only=True)]
    header = lines[0] if lines else []
    names = [name if name and name not in header[:i] else None for i, name in enumerate(header)]
    return [
        (number, {name: cell for name, cell in zip(names, line, strict=False) if name})
        for number, line in enumerate(lines[1:], start=1)
        if any(cell is not None for cell in line)
    ]


def sheet_text(text: str) -> str:
    """`text` as a cell can hold it: without what XML forbids, \\n at line ends, cut to what Excel allows.

    XML's readers turn a carriage return into a line's end.
    """
    text = ILLEGAL_CHARACTERS_RE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text if len(text) <= _EXCEL_CELL else text[: _EXCEL_CELL - 1] + "…"


def put(cell: SheetCell, value: str | float | int | None, *, wrap: bool = True) -> None:
    """Fill a cell. Text that begins like a formula, or does after spaces, stays text, also once someone edits it."""
    if isinstance(value, str):
        text = sheet_text(value)
        cell.value = text
        cell.data_type = "s"  # openpyxl would make a formula of "=..."
        cell.quotePrefix = text.lstrip().startswith(_FORMULA)  # and Excel would, once the cell is edited
        if wrap and len(text) > 60:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    elif value is not None:
        cell.value = value


def csv_cell(text: str) -> str:
    """`text` for a CSV that a spreadsheet opens: an apostrophe before what it would take for a formula."""
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def workbook_bytes(workbook: Workbook) -> bytes:
    """The .xlsx file, the same bytes whenever it is written.

    `Workbook.save` would put the clock into the properties and into the date of every part of the zip.
    """
    workbook.properties.created = workbook.properties.modified = _NO_TIME
    written, dateless = io.BytesIO(), io.BytesIO()
    ExcelWriter(workbook, ZipFile(written, "w")).save()  # closes it
    with ZipFile(written) as parts, ZipFile(dateless, "w") as file:
        for name in parts.namelist():
            file.writestr(ZipInfo(name, _NO_TIME.timetuple()[:6]), parts.read(name), ZIP_DEFLATED)
    return dateless.getvalue()
