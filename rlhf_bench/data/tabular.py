"""Any table that a file can hold, told by its content and not by its ending: its rows, and what is wrong with others.

Response files come from everywhere, so unlike the readers in `files` this one goes on after a row that cannot be read
and keeps count of it (`BadRows`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.data.files import Numbered, csv_rows, first_line, json_rows, jsonl_rows, parquet_rows, read_bytes
from rlhf_bench.errors import DataError, nearest

__all__ = ["NAMED", "BadRows", "Table", "read_table"]

NAMED = 5  # bad rows that a message names; the others are counted
_SHEET = "responses"  # of the sheets in a workbook the one with this name is read, else the first


class BadRows:
    """The rows of one file that cannot be used: where each stands, and why."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[tuple[int, str]] = []

    def add(self, number: int, why: str) -> None:
        self.found.append((number, why))

    def settle(self, total: int, *, skip: bool) -> str | None:
        """What was left out of `total` rows, for the log; None if nothing was.

        Raises DataError where rows must not be left out (`skip` False), or none would remain.
        """
        if not self.found:
            return None
        named = "; ".join(f"row {number} {why}" for number, why in sorted(self.found)[:NAMED])
        more = f"; and {len(self.found) - NAMED:,} more" if len(self.found) > NAMED else ""
        count = f"{self.source}: {len(self.found):,} of {total:,} rows cannot be used ({named}{more})"
        if len(self.found) >= total:
            raise DataError(f"{count}; no row is left")
        if not skip:
            raise DataError(f"{count}; correct them, or leave them out with --skip-bad")
        return f"{count}; left out"


class Table(NamedTuple):
    form: str  # "JSON lines", "CSV", ...
    columns: list[str]  # of all rows, in the order in which they first appear
    rows: list[Numbered]


def read_table(path: Path, bad: BadRows) -> Table:
    """The rows of a JSON-lines, JSON, CSV (comma, semicolon or tab), Parquet or Excel file, gzipped or not.

    Rows that are no object, or of another length than the header, go to `bad`. Raises DataError where the file is
    missing, is none of these, is not UTF-8, or holds no row at all.
    """
    if path.is_dir():
        raise DataError(f"response file {str(path)!r} is a folder; expected a file: give the path of one in it")
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        hint = f"did you mean {close!r} beside it?" if close else "give the path of a file that exists"
        raise DataError(f"response file {str(path)!r} does not exist; {hint}")
    content = read_bytes(path, packed=_starts(path, b"\x1f\x8b"))
    if content and not content.strip():
        raise DataError(f"{str(path)!r} holds blank lines only; expected a prompt and a response in each row")
    form, rows = _parse(path, content, bad)
    if not rows and not bad.found:
        raise DataError(f"{str(path)!r} is empty; expected a prompt and a response in each row")
    return Table(form, list(dict.fromkeys(str(column) for _, row in rows for column in row)), rows)


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _parse(path: Path, content: bytes, bad: BadRows) -> tuple[str, list[Numbered]]:
    if content.startswith(b"PAR1"):
        return "Parquet", parquet_rows(path, content)
    if content.startswith(b"PK\x03\x04"):
        return "Excel", _sheet_rows(path, content, bad)
    start = content.lstrip()[:1]
    if start == b"[":
        return "a JSON list", json_rows(path, content, bad.add)
    if start == b"{":
        if _is_one_object(content):
            raise DataError(f"{str(path)!r} holds one JSON object; expected a list of objects, one for each row")
        return "JSON lines", jsonl_rows(path, content, bad.add)
    header = content.lstrip().split(b"\n", 1)[0]
    delimiter = max(",;\t", key=lambda mark: header.count(mark.encode()))
    return "CSV", csv_rows(path, content, bad.add, delimiter=delimiter)


def _is_one_object(content: bytes) -> bool:
    """True for an object that spans lines; a single line with an object is a JSON-lines file of one row."""
    if b"\n" not in content.strip() or content.lstrip().split(b"\n", 1)[0].rstrip().endswith(b"}"):
        return False
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _sheet_rows(path: Path, content: bytes, bad: BadRows) -> list[Numbered]:
    from openpyxl import load_workbook

    try:
        # A response that begins with "=" was made a formula by whoever wrote the file: its text is what was meant.
        workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=False)
        sheet = workbook[_SHEET if _SHEET in workbook.sheetnames else workbook.sheetnames[0]]
        lines = [[_cell(value) for value in line] for line in sheet.iter_rows(values_only=True)]
    except Exception as error:  # openpyxl raises whatever zip and XML readers do
        raise DataError(f"{str(path)!r} is no readable Excel file ({first_line(error)}); save it again") from error
    header: Sequence[str | None] = lines[0] if lines else []
    if len(set(header)) < len(header):
        header = [name if name and name not in header[:i] else None for i, name in enumerate(header)]
    rows: list[Numbered] = []
    for number, line in enumerate(lines[1:], start=1):
        if all(cell is None for cell in line):
            continue
        rows.append((number, {name: cell for name, cell in zip(header, line, strict=False) if name}))
    return rows


def _cell(value: Any) -> str | None:
    """A cell as text: a response that is "42" is stored as a number."""
    return None if value is None else str(value)
