"""Tables as plain text of a given width: intervals beside the values where they fit, else on a line below.

What does not fit beside each other becomes panels, one below the other; nothing is cut.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rlhf_bench.report.table import Table

_NAME = 24  # characters of a row's name; a longer one has a line of its own
_GAP = 2


class _Column(NamedTuple):
    heads: list[str]  # lines of the heading
    cells: list[list[str]]  # for each row its lines
    width: int


def text_of(table: Table, *, width: int) -> str:
    """Title, table and notes."""
    notes = [line for note in table.notes for line in wrapped(note, width)]
    return "\n".join([*wrapped(table.title, width), *table_lines(table, width=width), *notes]) + "\n"


def table_lines(table: Table, *, width: int) -> list[str]:
    """Every column that has a value, in as many panels as it takes; the columns that name a row are repeated."""
    columns = [j for j in range(table.keys, len(table.columns)) if any(row[j] is not None for row in table.rows)]
    stacked = not fits(table, columns, width)
    lines: list[str] = []
    while columns:
        count = max(1, max(n for n in range(len(columns) + 1) if fits(table, columns[:n], width, stacked=stacked)))
        lines += [*([""] if lines else []), *block(table, columns[:count], width, stacked=stacked)]
        columns = columns[count:]
    return lines


def fits(table: Table, columns: Sequence[int], width: int, *, stacked: bool = False) -> bool:
    room = width - sum(_column(table, j, stacked).width + _GAP for j in columns)
    return room >= min(_NAME, _longest_name(table))


def block(table: Table, columns: Sequence[int], width: int, *, stacked: bool = False) -> list[str]:
    """One panel between rules; a line names the rows that have all but the last of their keys in common."""
    made = [_column(table, j, stacked) for j in columns]
    room = width - sum(column.width + _GAP for column in made)
    left = max(4, min(_longest_name(table), _NAME, room))
    rule = "─" * (left + sum(column.width + _GAP for column in made))
    head = table.columns[table.keys - 1].title
    return [rule, *_headings(head, made, left), rule, *_body(table, made, left, width), rule]


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines of that width; what has no space, such as a path, is not broken."""
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _body(table: Table, columns: Sequence[_Column], left: int, width: int) -> Iterator[str]:
    before: list[str] = []
    for i, row in enumerate(table.rows):
        *group, name = (str(cell) for cell in row[: table.keys])
        if group != before:
            yield from wrapped(", ".join(group), width)
            before = group
        name = f"  {name}" if group else name
        if len(name) > left:
            yield name
            name = ""
        lines = max((len(column.cells[i]) for column in columns), default=1)
        for at in range(lines):
            cells = [column.cells[i][at] if at < len(column.cells[i]) else "" for column in columns]
            yield _line(name if at == 0 else "", cells, columns, left)


def _headings(head: str, columns: Sequence[_Column], left: int) -> Iterator[str]:
    height = max((len(column.heads) for column in columns), default=1)
    for at in range(height):
        cells = [([""] * (height - len(column.heads)) + column.heads)[at] for column in columns]
        yield _line(head if at == height - 1 else "", cells, columns, left)


def _line(name: str, cells: Sequence[str], columns: Sequence[_Column], left: int) -> str:
    padded = [cell.rjust(column.width) for cell, column in zip(cells, columns, strict=True)]
    return (" " * _GAP).join([name.ljust(left), *padded]).rstrip()


def _column(table: Table, column: int, stacked: bool) -> _Column:
    texts = [table.text(i, column) for i in range(len(table.rows))]
    cells = [text.replace(" [", "\n[").split("\n") if stacked else [text] for text in texts]
    title = table.columns[column].title
    widest = max([len(line) for lines in cells for line in lines] + [len(word) for word in title.split()])
    return _Column(textwrap.wrap(title, widest), cells, widest)


def _longest_name(table: Table) -> int:
    indent = 2 if table.keys > 1 else 0
    names = [str(row[table.keys - 1]) for row in table.rows]
    return indent + max(map(len, [table.columns[table.keys - 1].title, *names]))
