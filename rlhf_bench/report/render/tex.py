"""Tables as LaTeX: booktabs, no other package, and nothing that a model may be called can break it.

pdflatex knows few characters beyond ASCII, so each of the others becomes a command, a letter without its accent, or its
number.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

from rlhf_bench.report.table import Table, number_text
from rlhf_bench.types import Estimate

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",  # a dash in the default encoding
    '"': "''",  # \textquotedbl needs another font encoding than the default
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "…": r"\ldots{}",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "π": r"$\pi$",
    "ρ": r"$\rho$",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c", "\u0328": "k",
}  # fmt: skip
_OPTIONS = ("[", "*")  # at the start of a row these belong to the end of the row before
_PANEL = 5  # columns beside the keys: more of them with intervals do not fit a page


def tex_escape(text: str) -> str:
    """`text` for LaTeX, on one line: a blank line inside a caption would end it."""
    line = " ".join(text.split())
    escaped = "".join(_COMMANDS.get(character) or _plain(character) for character in line)
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(_OPTIONS) else escaped


def _plain(character: str) -> str:
    """ASCII as it is, an accented letter as its command, `U+6F22` for what has none."""
    if character.isascii():
        return character if character.isprintable() else f"U+{ord(character):04X}"
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return f"\\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"U+{ord(character):04X}"


def tex_text(table: Table) -> str:
    r"""A LaTeX float: \input it after \usepackage{booktabs}. Wide tables become panels, one below the other.

    The columns that name a row are repeated in each panel.
    """
    keys = range(table.keys)
    numbers = range(table.keys, len(table.columns))
    panels = [numbers[i : i + _PANEL] for i in range(0, len(numbers), _PANEL)]
    lines = ["% needs \\usepackage{booktabs}", "\\begin{table*}", "\\centering", "\\footnotesize"]
    lines.append(f"\\caption{{{tex_escape(table.title)}. {tex_escape(' '.join(map(_sentence, table.notes)))}}}")
    for number, panel in enumerate(panels):
        columns = [*keys, *panel]
        lines += ["\\par\\medskip"] if number else []
        lines += [f"\\begin{{tabular}}{{{'l' * table.keys}{'r' * len(panel)}}}", "\\toprule"]
        lines += [_row(tex_escape(table.columns[j].title) for j in columns), "\\midrule"]
        lines += [_row(_cell(table, i, j) for j in columns) for i in range(len(table.rows))]
        lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join([*lines, "\\end{table*}"]) + "\n"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _cell(table: Table, row: int, column: int) -> str:
    cell = table.rows[row][column]
    if isinstance(cell, Estimate) and math.isfinite(cell.value):
        digits = table.columns[column].digits
        value, low, high = (number_text(x, digits) for x in (cell.value, cell.low, cell.high))
        sign = table.mark(row, column).sign
        return f"{_number(value)}{sign} {{\\scriptsize [{_number(low)}, {_number(high)}]}}"
    text = table.text(row, column)
    return tex_escape(text) if isinstance(cell, str) else _number(text)


def _number(text: str) -> str:
    return f"$-${text[1:]}" if text.startswith("-") else tex_escape(text)


def _sentence(note: str) -> str:
    return note if note.endswith((".", ":", "?")) else f"{note}."
