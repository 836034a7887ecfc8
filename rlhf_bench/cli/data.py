"""rlhf-bench data"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import COUNT, FOLDER, BenchGroup, name_values


@click.group(
    cls=BenchGroup,
    examples=[
        "rlhf-bench data prepare hh-mini --out data/hh-mini",
        "rlhf-bench data prepare pairs.jsonl --out data/pairs",
    ],
)
def data() -> None:
    """Prepare data sets for training and evaluation."""


@data.command(
    "prepare",
    examples=[
        "rlhf-bench data prepare hh-mini --out data/hh-mini",
        "rlhf-bench data prepare pairs.jsonl.gz --out data/pairs --filter hh-edge-cases --seed 1",
    ],
)
@click.argument("source")
@click.option("--out", type=FOLDER, required=True, help="Folder to save the DatasetDict in.")
@click.option("--filter", "filters", default="none", help="Filters of the training split.")
@click.option("--seed", type=COUNT, default=0, help="Seed of the splits.")
@click.option(
    "--column", "columns", metavar="OURS=THEIRS", multiple=True, help="A column's name, such as prompt=question."
)
@click.option("--revision", help="Revision of a hub data set.  [default: the pinned one]")
@click.option(
    "--ranked", type=click.Choice(["all", "adjacent"]), default="all",
    help="Which pairs K ranked responses make.")  # fmt: skip
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used.")
def prepare(*, source: str, out: Path, filters: str, columns: tuple[str, ...], **options: Any) -> None:
    """Filter and split SOURCE, and save train, validation and test as a DatasetDict.

    SOURCE is hh-mini, a hub data set, a file or a folder: rlhf-bench list data.
    """
    mapping = name_values("--column", columns, expected="OURS=THEIRS, such as --column prompt=question")

    from rlhf_bench.data import Reader, named_filters
    from rlhf_bench.data import prepare as run_prepare

    reader = Reader(source, columns=mapping or None, **options)
    prepared = run_prepare(reader, out, filters=named_filters(filters))
    for note in next(iter(prepared.values())).notes:
        click.echo(note)
    for split, found in prepared.items():
        removed = "".join(f", {n} removed: {rule}" for rule, n in found.counts.items() if n and rule != "read")
        click.echo(f"{split}: {len(found)} pairs{removed}, fingerprint {found.fingerprint}")
    click.echo(f"saved: {out}")
