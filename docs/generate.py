"""Write what the documentation repeats from the code: docs/cli.md and the table in docs/metrics.md.

python docs/generate.py            # write
python docs/generate.py --check    # exit status 1 if a file is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

DOCS = Path(__file__).parent
WIDTH = 100


def cli_page() -> str:
    """Every command's own help, in the order in which `rlhf-bench --help` lists them."""
    from rlhf_bench.cli import cli

    parts = [
        "# Commands\n",
        "    rlhf-bench COMMAND --help\n",
        "This page holds the help of each command. It is written by `python docs/generate.py`.\n",
    ]
    for name, command in _commands(cli, "rlhf-bench"):
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
    return {metrics: text, DOCS / "cli.md": cli_page()}


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
