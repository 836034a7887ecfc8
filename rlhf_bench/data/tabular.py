"""One reader of tables for preference data, response files, labels and a suite's prompts, with one policy for bad rows.

A row that cannot be read, or holds something else than its columns promise, is kept in `bad` and named by its place.
`settle` then refuses the file, or with `skip` leaves the rows out and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rlhf_bench.data.parsing import Numbered, data_suffix, is_archive, parse, unpack, zip_members
from rlhf_bench.errors import DataError, nearest

Read = TypeVar("Read")
NAMED = 5  # bad rows that a message names; the others are counted


class Unusable(Exception):
    """This row cannot be used; `str()` says why, to follow "row 3 "."""


@dataclass(frozen=True)
class RawTable:
    """The rows of one file, or of one split of a saved set."""

    name: str
    columns: Sequence[str]  # of all rows, in the order in which they first appear
    rows: Iterable[Numbered]
    n_rows: int  # with those that are in `bad` from the start
    form: str = ""  # "JSON lines", "CSV", ...
    bad: dict[int, str] = field(default_factory=dict)  # rows that cannot be used: the place of each, and why

    def add_bad(self, number: int, why: str) -> None:
        self.bad.setdefault(number, why)  # a row that is read twice is still one

    def read(self, function: Callable[[int, Mapping[str, Any]], Read]) -> list[tuple[int, Read]]:
        """What `function` makes of each place and row, with the place; where it raises Unusable, that is a bad row."""
        found = []
        for number, row in self.rows:
            try:
                found.append((number, function(number, row)))
            except Unusable as why:
                self.add_bad(number, str(why))
        return found

    def settle(self, *, skip: bool, advice: str = "--skip-bad") -> str | None:
        """What was left out, for the log; None if nothing was. `advice`: the option that skips.

        Raises DataError where rows must not be left out (`skip` False), or none would remain.
        """
        if not self.bad:
            return None
        named = "; ".join(f"row {number} {why}" for number, why in sorted(self.bad.items())[:NAMED])
        more = f"; and {len(self.bad) - NAMED:,} more" if len(self.bad) > NAMED else ""
        count = f"{self.name}: {len(self.bad):,} of {self.n_rows:,} rows cannot be used ({named}{more})"
        if len(self.bad) >= self.n_rows:
            raise DataError(f"{count}; no row is left")
        if not skip:
            raise DataError(f"{count}; correct them, or leave them out with {advice}")
        return f"{count}; left out"


def read_table(path: Path) -> RawTable:
    """The rows of a file: JSON lines, JSON, CSV, Parquet, Excel or a log of inspect_ai, compressed or not.

    Raises DataError where the file is missing or a folder, is none of these, or holds no row.
    """
    return parse_table(str(path), read_content(path))


def parse_table(name: str, content: bytes) -> RawTable:
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
    bad: dict[int, str] = {}
    form, rows = parse(name, content, bad.setdefault)
    if not rows and not bad:
        what = f"holds no row (read as {form})" if content else "is empty"
        raise DataError(f"{name!r} {what}; expected at least one row")
    columns = list(dict.fromkeys(str(column) for _, row in rows for column in row))
    table = RawTable(name, columns, rows, len(rows) + len(bad), form, bad)
    if not rows:
        table.settle(skip=True)  # raises: no row is left
    return table


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
