"""LaTeX that compiles whatever models are called: read by a strict parser of the little that the tables use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlhf_bench.report.contents import tables
from rlhf_bench.report.render.tex import tex_escape, tex_text
from rlhf_bench.report.result import load_result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.types import Estimate

NASTY = [
    "a_b&c%",
    "{",
    "}",
    "\\",
    "\\\\",
    "[2pt]",
    "*",
    "a\n\nb",
    "$x$",
    "#1",
    "~^",
    "<|x|>",
    "Zoë-Ångström",
    "模型",
    "“q”",
    "-1",
]
# every command that a table may hold: LaTeX's own, and booktabs'
KNOWN = {
    "begin", "end", "centering", "footnotesize", "scriptsize", "caption", "par", "medskip", "toprule", "midrule",
    "bottomrule", "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "times",
    "cdot", "pm", "leq", "geq", "ldots", "dagger", "ddagger", "ss", "o", "O", "alpha", "beta", "lambda", "pi", "rho",
    "uparrow", "downarrow",
}  # fmt: skip


def check(text: str) -> list[list[list[str]]]:
    """The rows of each tabular, as lists of cells. Fails on what TeX would stumble over."""
    assert text.isascii()
    assert "\n\n" not in text
    lines = [line for line in text.split("\n") if not line.startswith("%")]
    assert not any(re.search(r"(?<!\\)(\\\\)*%", line) for line in lines)  # a comment would swallow the line
    body = "\n".join(lines)
    for command in re.findall(r"\\([A-Za-z]+)", body.replace("\\\\", "")):
        assert command in KNOWN | {"r", "H", "v", "c", "k", "u"}, command
    depth, mathematics = 0, False
    for token in re.findall(r"\\.|[{}$#_^&]", body, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0
        mathematics ^= token == "$"
        assert token != "#"
        assert token not in "_^" or mathematics
        assert token != "&" or (depth == 0 and not mathematics)
    assert (depth, mathematics) == (0, False)
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", body):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    found = []
    for columns, inner in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", body, re.DOTALL):
        rows = [line for line in inner.split("\n") if line and not re.fullmatch(r"\\(top|mid|bottom)rule", line)]
        assert all(row.endswith(" \\\\") for row in rows)
        assert not any(row.startswith(("[", "*")) for row in rows)  # the option of the row's end before
        split = [[cell.strip() for cell in re.split(r"(?<!\\)&", row[:-3])] for row in rows]
        assert {len(row) for row in split} == {len(columns)}
        found.append(split)
    assert found
    return found


def table(names: list[str]) -> Table:
    columns = [Column("model", "Model & more"), Column("kl", "KL_exact", 2, interval=True), Column("s", "[s]", 0)]
    rows: list[list[Cell]] = [[name, Estimate(-0.5, -1.0, 2.5, 30), 7] for name in names]
    return Table(
        "t", f"Of {names[0]}", columns, [*rows, ["nothing", None, None]], [f"100% of {name}" for name in names]
    )


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_name_compiles(name: str) -> None:
    ((head, row, last),) = check(tex_text(table([name])))
    assert head == ["Model \\& more", "KL\\_exact", "{[}s]"]
    assert row[1:] == ["$-$0.50 {\\scriptsize [$-$1.00, 2.50]}", "7"]
    assert last == ["nothing", "--", "--"]


def test_all_of_them_in_panels() -> None:
    wide = table(NASTY)
    columns = [*wide.columns, *(Column(f"x{i}", f"x_{i}") for i in range(7))]
    rows: list[list[Cell]] = [[*row, *([0.5] * 7)] for row in wide.rows]
    assert [len(panel[0]) for panel in check(tex_text(Table("t", "T", columns, rows)))] == [6, 5]


def test_the_tables_of_a_report_compile(one_seed: Path, three_seeds: Path) -> None:
    for path in (one_seed, three_seeds):
        for made in tables(load_result(path)):
            if made.is_written:
                check(tex_text(made))


def test_what_becomes_of_other_characters() -> None:
    assert tex_escape("Zoë Ångström ñ ç ő") == 'Zo\\"{e} \\r{A}ngstr\\"{o}m \\~{n} \\c{c} \\H{o}'
    assert tex_escape("模\x07") == "U+6A21U+0007"
    assert tex_escape("6 × 2 … ρ") == "6 $\\times$ 2 \\ldots{} $\\rho$"
    assert tex_escape("a\n\n\tb") == "a b"
    assert tex_escape("[a] *") == "{[}a] *"
