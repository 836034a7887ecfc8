"""rlhf-bench judge ledger"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import FILE, BenchGroup, results_option, with_options
from rlhf_bench.cli.judge_options import ledger_option, ledger_path
from rlhf_bench.errors import StoreError

ledger_options = with_options(ledger_option, results_option)


@click.group(
    "ledger",
    cls=BenchGroup,
    examples=["rlhf-bench judge ledger stats", "rlhf-bench judge ledger export answers.jsonl"],
)
def ledger() -> None:
    """The calls to judges and their answers."""


@ledger.command(
    "stats",
    examples=["rlhf-bench judge ledger stats", "rlhf-bench judge ledger stats --ledger other/judge.sqlite"],
)
@ledger_options
def stats(ledger_file: Path | None, results: Path) -> None:
    """Calls, outcomes, tokens and cost, by judge and server."""
    path = _existing(ledger_file, results)

    from rlhf_bench.judge.client.budget import dollars
    from rlhf_bench.judge.ledger.transfer import ledger_stats

    rows = ledger_stats(path)
    for row in rows:
        outcomes = ", ".join(f"{count} {name}" for name, count in row.outcomes.items())
        click.echo(
            f"{row.judge} at {row.base_url}: {row.calls} calls ({outcomes or 'none finished'}), {row.prompt_tokens} + "
            f"{row.completion_tokens} tokens, {dollars(row.cost)} charged"
        )
    if not rows:
        click.echo(f"{path}: empty")


@ledger.command(
    "verify",
    examples=["rlhf-bench judge ledger verify", "rlhf-bench judge ledger verify --ledger other/judge.sqlite"],
)
@ledger_options
def verify(ledger_file: Path | None, results: Path) -> None:
    """Check the file, the calls' keys and the answers' hashes; status 1 if anything is wrong."""
    path = _existing(ledger_file, results)

    from rlhf_bench.judge.ledger.transfer import verify_ledger

    found = verify_ledger(path)
    for fault in found.faults:
        click.echo(fault)
    counts = f"{found.calls} calls, {found.attempts} attempts, {found.verdicts} verdicts"
    if found.faults:
        raise StoreError(f"{path}: {len(found.faults)} faults in {counts}; restore the file from an export or a backup")
    click.echo(f"{path}: {counts}; all as they were written")


@ledger.command(
    "export",
    examples=[
        "rlhf-bench judge ledger export answers.jsonl",
        "rlhf-bench judge ledger export saved.jsonl --ledger results/judge.sqlite.damaged-1",
    ],
)
@click.argument("out", type=FILE)
@ledger_options
def export(out: Path, ledger_file: Path | None, results: Path) -> None:
    """Write the ledger to OUT as JSON lines; of a damaged one what can be read."""
    path = _existing(ledger_file, results)

    from rlhf_bench.files import atomic_file
    from rlhf_bench.judge.ledger.transfer import export_ledger, verify_ledger

    rows = 0
    with atomic_file(out) as file:
        for line in export_ledger(path):
            file.write(line.encode("utf-8"))
            rows += 1
        if not rows and path.stat().st_size:
            verify_ledger(path)  # raises where it is no ledger; an empty one is exported as it is
    click.echo(f"{rows} rows: {out}")


@ledger.command(
    "import",
    examples=[
        "rlhf-bench judge ledger import answers.jsonl",
        "rlhf-bench judge ledger import answers.jsonl --ledger other/judge.sqlite",
    ],
)
@click.argument("source", type=FILE)
@ledger_options
def import_(source: Path, ledger_file: Path | None, results: Path) -> None:
    """Add what SOURCE, an export, holds and the ledger lacks: all of it, or nothing."""
    from rlhf_bench.judge.ledger.transfer import import_ledger

    found = import_ledger(ledger_path(ledger_file, results), source)
    new = ", ".join(f"{count} {table}" for table, count in found.new.items())
    click.echo(f"new: {new}; {found.known} rows were there already")


def _existing(ledger_file: Path | None, results: Path) -> Path:
    path = ledger_path(ledger_file, results)
    if not path.is_file():
        raise StoreError(f"there is no ledger at {path}; one is made by `rlhf-bench judge run`, or named with --ledger")
    return path
