"""No nested function of trainers/ reads a name that its enclosing function binds after the nested one is defined.

What a function needs is an argument, or is there where it is defined; a loop that rebinds a closure's names is a hidden
argument list.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent / "trainers"
Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function but for those of functions and classes inside it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, (*Function, ast.ClassDef)):
            yield from own_nodes(child)


def bound(function: ast.AST) -> dict[str, list[int]]:
    """Lines on which a function binds each name, its arguments on its first."""
    lines: dict[str, list[int]] = {}
    for node in own_nodes(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            lines.setdefault(node.id, []).append(node.lineno)
        elif isinstance(node, ast.arg):
            lines.setdefault(node.arg, []).append(getattr(function, "lineno", 0))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines.setdefault(node.name, []).append(node.lineno)
    return lines


def free(function: ast.AST) -> set[str]:
    """Names that a function, or one inside it, reads and does not bind."""
    own = bound(function).keys()
    read = {n.id for n in own_nodes(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    for node in own_nodes(function):
        if isinstance(node, Function):
            read |= free(node)
    return read - own


def late_reads(tree: ast.AST) -> list[str]:
    found = []
    for outer in (node for node in ast.walk(tree) if isinstance(node, Function)):
        names = bound(outer)
        for inner in (node for node in own_nodes(outer) if isinstance(node, Function)):
            end = inner.end_lineno or inner.lineno
            own = getattr(inner, "name", None)
            late = [n for n in sorted(free(inner)) if n != own and any(line > end for line in names.get(n, []))]
            found += [f"line {inner.lineno} reads {name}, which is bound later" for name in late]
    return found


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_closure_reads_a_name_that_is_bound_later(file: Path) -> None:
    assert late_reads(ast.parse(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    def g():\n        return x\n    for x in y:\n        g()", 1),
        ("def f():\n    g = lambda: x\n    x = 1", 1),
        ("def f():\n    def g():\n        return lambda: x\n    x = 1", 1),
        ("def f():\n    x = 1\n    def g():\n        return x\n    x = 2", 1),
        ("def f():\n    x = 1\n    def g():\n        return x\n    return g", 0),
        ("def f(x):\n    def g(y):\n        y, z = x, 1\n        return z\n    y = g(1)", 0),
        ("def f():\n    def g():\n        return g()\n    return g", 0),
    ],
)
def test_what_is_found(source: str, expected: int) -> None:
    assert len(late_reads(ast.parse(source))) == expected
