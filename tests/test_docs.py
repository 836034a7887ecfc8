"""The documentation is short, and what it repeats from the code is what the code says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from rlhf_bench.cli import cli
from rlhf_bench.evaluate.suite import load_suite
from trainers.config.loading import load_recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = {"cli.md", "cli-judge.md", "cli-more.md", "coverage.md", "coverage-judges.md"}


def test_generated_pages_are_current() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_is_on_one_page() -> None:
    found = [
        line
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("## rlhf-bench ")
    ]
    names = [" ".join(words) for words in command_names(cli)]
    assert sorted(found) == sorted(f"## rlhf-bench {name}" for name in names)


def command_names(group: click.Group) -> Iterator[tuple[str, ...]]:
    return (name for name, _ in all_commands(group))


def all_commands(group: click.Group, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, *above, name)
        else:
            yield (*above, name), command


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 1000
    head = "\n".join(text.splitlines()[:30])
    assert "make bench" in head
    assert "make test" in head


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_are_there(page: Path) -> None:
    folders = "rlhf_bench|trainers|tests|benchmarks|docs"
    for name in re.findall(
        rf"(?<![\w./])(?:{folders})/[\w./-]+\.(?:py|md|yaml|json)\b", page.read_text(encoding="utf-8")
    ):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def documented_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if page.name in GENERATED:
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\$ )+(rlhf-bench [^#\n]+)", text, flags=re.MULTILINE):
            yield page.name, line.strip()


def check_named(words: list[str], given: dict[str, Any]) -> None:
    """Recipes, suites and the keys of --set exist, but for those that stand for the reader's own."""
    if "overrides" in given and "NAME" not in words and not given["recipe"].endswith(".yaml"):
        load_recipe(given["recipe"], given["overrides"])
    if "settings" in given and "NAME" not in words and not (given["suite"] or "").startswith("path/"):
        load_suite(given["suite"] or "hh-test", given["settings"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_pages_name_exist(page: Path) -> None:
    """An option in the running text is one of a command, of a benchmark, or of a launcher."""
    sources = [cli, *(command for _, command in all_commands(cli))]
    known = {name for command in sources for param in command.params for name in (*param.opts, *param.secondary_opts)}
    known |= {"--help", "--num_processes", "--multi_gpu"}
    of_benchmarks = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "benchmarks").rglob("*.py"))
    for option in re.findall(r"`(--[a-z][\w-]*)", page.read_text(encoding="utf-8")):
        assert option in known or f'"{option}"' in of_benchmarks, f"{page.name} names {option}"


@pytest.mark.parametrize(("page", "line"), list(documented_commands()))
def test_documented_commands_are_understood(page: str, line: str) -> None:
    """Every command of the documentation is parsed by click: its words and options exist."""
    words = shlex.split(line.split("|")[0])[1:]
    command: click.Command = cli
    name = "rlhf-bench"
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            return
        assert words[0] in command.commands, f"{page}: {line}"
        name, command = f"{name} {words[0]}", command.commands[words[0]]
        words = words[1:]
    words = [word for word in words if word not in ("--debug", "--quiet")]
    if "--help" in words or any(word in ("...", "COMMAND") for word in words):
        return
    try:
        given = command.make_context(name, [*words]).params
        check_named(words, given)
    except click.UsageError as error:
        if "does not exist" in error.message:  # the files of an example
            return
        pytest.fail(f"{page}: {line}: {error.format_message()}")
    except click.exceptions.Exit:
        pass
