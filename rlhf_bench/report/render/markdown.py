"""Tables as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rlhf_bench.report.table import Table


def markdown_text(table: Table, *, sections: Mapping[str, Sequence[str]] | None = None) -> str:
    """A heading, a pipe table, the notes, and lists under headings of their own; an empty list is left out."""
    header = [column.title for column in table.columns]
    lines = [f"# {table.title}", "", _pipes(header), _pipes(["---", *["---:"] * (len(header) - 1)])]
    lines += [_pipes([table.text(i, j) for j in range(len(header))]) for i in range(len(table.rows))]
    for note in table.notes:
        lines += ["", _inline(note)]
    for heading, items in (sections or {}).items():
        if items:
            lines += ["", f"## {heading}", "", *(f"- {_inline(item)}" for item in items)]
    return "\n".join(lines) + "\n"


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(_inline(cell) for cell in cells) + " |"


def _inline(text: str) -> str:
    """Text for one cell or line of Markdown: no line break, no cell border, no HTML ("< 0.001" is none)."""
    text = " ".join(text.split())
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*")
    text = re.sub("<(?! )", "&lt;", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # an underscore inside a word is never emphasis
