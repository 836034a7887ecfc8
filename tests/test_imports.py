"""Imports run one way; read from the source, so that a lazy import counts as well."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from rlhf_bench.errors import MissingExtra

ROOT = Path(__file__).parent.parent

# A folder may import from its own level and from those above it in this list. What notebooks import from
# rlhf_bench.evaluate and rlhf_bench.audit give tables and figures, so these have their place below report; the modules
# beside them do not.
DOORS = ("evaluate/__init__", "audit/__init__")
_BEHIND = {"evaluate.evaluate", "evaluate.Evaluation", "audit.audit", "audit.Audit"}
LEVELS = [
    ["errors", "types", "config", "files", "progress", "hub", "__init__"],
    ["stats"],
    ["data"],
    ["runtime"],
    ["modeling"],
    ["scorers"],
    ["store"],
    ["judge"],
    ["annotations"],
    ["evaluate"],
    ["audit"],
    ["report"],
    ["compare"],
    [*DOORS],
    ["selftest"],
    ["demo"],
    ["cli", "__main__"],
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
# The command line loads trainers when these commands run, never when it is imported.
LAZY_TRAINERS = {"rlhf_bench/cli/train.py", "rlhf_bench/cli/list.py", "rlhf_bench/selftest/checks.py"}
HEAVY = {"torch", "transformers", "datasets", "accelerate"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, at the top level) of each import; `from a import b` counts as a.b, since b may be a module."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    in_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        top = id(node) not in in_functions
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import; write rlhf_bench.<module>"
            yield from ((f"{node.module}.{alias.name}", node.lineno, top) for alias in node.names)


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def unit(file: Path) -> str:
    """The first name below rlhf_bench: `rlhf_bench/report/screen.py` -> "report"."""
    for door in DOORS:
        if file == ROOT / "rlhf_bench" / f"{door}.py":
            return door
    return file.relative_to(ROOT / "rlhf_bench").parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", sources("rlhf_bench"), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_run_one_way(file: Path) -> None:
    own = unit(file)
    assert own in LEVEL, f"{own} has no place in LEVELS; add it there"
    for module, line, top in imported(file):
        where = f"{file.relative_to(ROOT)}:{line} imports {module}"
        package, _, rest = module.partition(".")
        if package == "trainers":
            assert file.relative_to(ROOT).as_posix() in LAZY_TRAINERS, where
            assert not top, f"{where} at its top"
        if package == "rlhf_bench":
            package_name = rest.split(".")[0]
            name = f"{package_name}/__init__" if rest in _BEHIND else package_name
            level = LEVEL.get(name, 0)  # a name of rlhf_bench/__init__.py itself, such as __version__
            assert level <= LEVEL[own], where


def test_modules_import_in_no_circle() -> None:
    """Within a package too, where the levels say nothing; those for types alone and those in functions count."""
    files = {module_name(file): file for package in ("rlhf_bench", "trainers") for file in sources(package)}
    imports: dict[str, set[str]] = {}
    for name, file in files.items():
        found = {module for module, _, _ in imported(file)}
        imports[name] = {m if m in files else m.rpartition(".")[0] for m in found} & files.keys() - {name}
    assert imports["rlhf_bench.evaluate.run"] >= {"rlhf_bench.evaluate.plan", "rlhf_bench.store"}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_report_imports_no_torch_and_no_evaluation() -> None:
    for file in sources("rlhf_bench/report"):
        for module, line, _ in imported(file):
            assert not module.startswith("rlhf_bench.evaluate"), f"{file.relative_to(ROOT)}:{line} imports {module}"
            assert module.split(".")[0] not in HEAVY, f"{file.relative_to(ROOT)}:{line} imports {module}"


def test_scorers_and_report_load_no_torch() -> None:
    """Nor through what they import, so that a report can be redrawn where torch is slow to load or missing; nor nltk,
    which imports scikit-learn."""
    modules = ("rlhf_bench.scorers", "rlhf_bench.scorers.rules", "rlhf_bench.report.page", "rlhf_bench.report.files")
    code = (
        f"import sys, {', '.join(modules)}; rlhf_bench.scorers.rules.refuses('No.');"
        f"print(sorted({HEAVY | {'nltk', 'sklearn'}!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, rlhf_bench.cli; print(sorted({HEAVY | {'pandas', 'rich', 'trainers'}!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "file",
    [file for package in ("rlhf_bench", "trainers") for file in sources(package) if file.stem != "__main__"],
    ids=lambda file: file.relative_to(ROOT).as_posix(),
)
def test_all_names_what_is_there(file: Path) -> None:
    name = module_name(file)
    try:
        module = importlib.import_module(name)
    except MissingExtra as missing:
        pytest.skip(str(missing))
    names = getattr(module, "__all__", None)
    if names is None:
        return  # a module: an underscore marks what is private in it
    assert len(set(names)) == len(names)
    for public in names:
        assert hasattr(module, public), f"{name}.__all__ names {public!r}, which is not there"
