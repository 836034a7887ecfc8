"""One reader of tables for preference data, response files, labels and a suite's prompts, with one policy for bad rows.

A row that cannot be read, or holds something else than its columns promise, is collected in `BadRows` and named by its
place. `BadRows.settle` then refuses the file, or with `skip` leaves the rows out and says so.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.data.parsing import Numbered, data_suffix, is_archive, parse, unpack, zip_members
from rlhf_bench.errors import DataError, nearest

NAMED = 5  # bad rows that a message names; the others are counted


class Unusable(Exception):
    """This row cannot be used; `str()` says why, to follow "row 3 "."""


class BadRows:
    """The rows of one source that cannot be used: the place of each, and why."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: dict[int, str] = {}  # a row that is read twice is still one

    def add(self, number: int, why: str) -> None:
        self.found.setdefault(number, why)

    def settle(self, total: int, *, skip: bool, advice: str = "--skip-bad") -> str | None:
        """What was left out of `total` rows, for the log; None if nothing was. `advice`: the option that skips.

        Raises DataError where rows must not be left out (`skip` False), or none would remain.
        """
        if not self.found:
            return None
        named = "; ".join(f"row {number} {why}" for number, why in sorted(self.found.items())[:NAMED])
        more = f"; and {len(self.found) - NAMED:,} more" if len(self.found) > NAMED else ""
        count = f"{self.source}: {len(self.found):,} of {total:,} rows cannot be used ({named}{more})"
        if len(self.found) >= total:
            raise DataError(f"{count}; no row is left")
        if not skip:
            raise DataError(f"{count}; correct them, or leave them out with {advice}")
        return f"{count}; left out"


class RawTable(NamedTuple):
    form: str  # "JSON lines", "CSV", ...
    columns: list[str]  # of all rows, in the order in which they first appear
    rows: list[Numbered]


def read_table(path: Path, bad: BadRows) -> RawTable:
    """The rows of a file: JSON lines, JSON, CSV, Parquet, Excel or a log of inspect_ai, compressed or not.

    Raises DataError where the file is missing or a folder, is none of these, or holds no row.
    """
    return parse_table(str(path), read_content(path), bad)


def parse_table(name: str, content: bytes, bad: BadRows) -> RawTable:
    """Read a file's unpacked content as `read_table` does; a zip file has to hold one file."""
    while is_archive(content):
        members = zip_members(name, content)
        members = {inside: packed for inside, packed in members.items() if data_suffix(inside)} or members
        if len(members) != 1:
            raise DataError(f"{name!r} holds {len(members)} files ({', '.join(members)}); unpack it, and give one file")
        ((inside, packed),) = members.items()
        content = unpack(inside, packed)
    if content and not content.strip():
        raise DataError(f"{name!r} holds blank lines only; expected at least one row")
    form, rows = parse(name, content, bad.add)
    if not rows and not bad.found:
        what = f"holds no row (read as {form})" if content else "is empty"
        raise DataError(f"{name!r} {what}; expected at least one row")
    if not rows:
        bad.settle(len(bad.found), skip=True)  # raises: no row is left
    return RawTable(form, list(dict.fromkeys(str(column) for _, row in rows for column in row)), rows)


def read_content(path: Path) -> bytes:
    """A file's bytes without their compression. Raises DataError where it is missing or cannot be read."""
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder; expected a file: give the path of one in it")
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        hint = f"did you mean {close!r} beside it?" if close else "give the path of a file that exists"
        raise DataError(f"file {str(path)!r} does not exist; {hint}")
    try:
        return unpack(str(path), path.read_bytes())
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror or error})") from error


def is_nothing(value: Any) -> bool:
    """True for null and for NaN, by which pandas writes it."""
    return value is None or (isinstance(value, float) and math.isnan(value))
