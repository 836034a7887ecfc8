"""The shape of the package: how many files and folders, one meaning a class name, one place that counts processes."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted(file for package in ("rlhf_bench", "trainers") for file in (ROOT / package).rglob("*.py"))


def packages(folder: Path) -> list[str]:
    return [inner.name for inner in folder.iterdir() if (inner / "__init__.py").exists()]


def test_folders_keep_their_size() -> None:
    judge, trainers, root = ROOT / "rlhf_bench" / "judge", ROOT / "trainers", ROOT / "rlhf_bench"
    assert len(list(judge.rglob("*.py"))) <= 26
    assert len(packages(judge)) <= 5
    assert len(list(trainers.glob("*.py"))) <= 12
    assert len(list(root.glob("*.py"))) <= 8


def test_a_class_name_has_one_meaning() -> None:
    """A name that begins with _ is its module's own."""
    found = defaultdict(list)
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(file.relative_to(ROOT).as_posix())
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_only_runtime_knows_which_process_it_is_in() -> None:
    """Others hand what one process does to a `Writer`."""
    runtime = ROOT / "rlhf_bench" / "runtime"
    for file in SOURCES:
        if not file.is_relative_to(runtime):
            assert ".first(lambda" not in file.read_text(encoding="utf-8"), file.relative_to(ROOT)
