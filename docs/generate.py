"""Write what the documentation repeats from the code: the commands' pages and the table in docs/metrics.md.

python docs/generate.py            # write
python docs/generate.py --check    # exit status 1 if a file is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

DOCS = Path(__file__).parent
WIDTH = 100


class Page(NamedTuple):
    """A page that holds the help of some commands."""

    title: str
    opening: str
    commands: tuple[str, ...]  # how their names begin, after `rlhf-bench`


COMMAND_PAGES = {
    "cli.md": Page(
        "Commands",
        "Train checkpoints, evaluate and compare them, examine a reward model, and draw a result again. The commands\n"
        "for [judges](cli-judge.md) and [all others](cli-more.md) have pages of their own.",
        ("train", "eval", "audit", "compare", "report"),
    ),
    "cli-judge.md": Page(
        "Commands for judges",
        "Plan a judge run and its cost, start it, read it, and let people label the same pairs\n"
        "([how it works](judge.md)).",
        ("judge plan", "judge run", "judge show", "judge label", "judge import"),
    ),
    "cli-more.md": Page(
        "More commands",
        "Look into the ledger of verdicts, try checkpoints by hand, merge and publish them, list what there is,\n"
        "prepare data, and test a checkpoint.",
        ("judge ledger", "demo", "merge", "push", "list", "data", "selftest"),
    ),
}


def command_page(page: Page) -> str:
    """The commands' own help, in the order in which `rlhf-bench --help` lists them."""
    from rlhf_bench.cli import cli

    parts = [
        f"# {page.title}\n",
        f"{page.opening}\n",
        "    rlhf-bench COMMAND --help\n",
        "This is the help that the commands print; `python docs/generate.py` writes the page.\n",
    ]
    for name, command in _commands(cli, "rlhf-bench"):
        if name.removeprefix("rlhf-bench ").startswith(page.commands):
            with click.Context(command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH) as context:
                parts.append(f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def metrics_table() -> str:
    """One row per metric, from the registry."""
    from rlhf_bench.scorers import METRICS

    arrow = {True: "higher", False: "lower", None: ""}
    rows = ["| metric | column | unit | better | definition |", "| --- | --- | --- | --- | --- |"]
    for m in METRICS.values():
        rows.append(f"| `{m.name}` | {m.title} | {m.unit} | {arrow[m.higher_is_better]} | {m.description} |")
    return "\n".join(rows)


def pages() -> dict[Path, str]:
    metrics = DOCS / "metrics.md"
    text = re.sub(
        r"(<!-- generated: metrics -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{metrics_table()}\n{found[2]}",
        metrics.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    return {metrics: text} | {DOCS / name: command_page(page) for name, page in COMMAND_PAGES.items()}


def main(arguments: list[str]) -> int:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path} is out of date; run: python docs/generate.py")
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
