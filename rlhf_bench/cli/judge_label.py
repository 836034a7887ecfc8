"""rlhf-bench judge label"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, BenchGroup, find_result, results_option

__all__ = ["label"]


@click.group(
    "label",
    cls=BenchGroup,
    examples=[
        "rlhf-bench judge label sheet hh-test/default --baseline base --limit 50 --out sheet.xlsx",
        "rlhf-bench judge label read hh-test/default sheet.xlsx --rater ann",
    ],
)
def label() -> None:
    """People as judges: a blinded sheet, and the labels that come back in it."""


@label.command(
    "sheet",
    cls=BenchCommand,
    examples=[
        "rlhf-bench judge label sheet hh-test/default --baseline base --limit 50 --out sheet.xlsx",
        "rlhf-bench judge label sheet --baseline sft --model ppo --out pairs.csv",
    ],
)
@click.argument("result", required=False)
@click.option("--baseline", metavar="NAME", required=True, help="The model that the others are compared with.")
@click.option("--model", "models", metavar="NAME", multiple=True, help="Only this model.  [default: all others]")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Responses a prompt.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many prompts.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws order and places.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The sheet: .xlsx or .csv.")
@results_option
def sheet(
    result: str | None,
    baseline: str,
    models: tuple[str, ...],
    samples: int,
    limit: int | None,
    seed: int,
    out: Path,
    results: Path,
) -> None:
    """Write a sheet of pairs without the models' names; a person writes A, B or tie into the column `better`.

    The same sheet may go to several people. Each pair stands in it once, in a drawn order. RESULT is a folder,
    <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder = find_result(result, results)

    from rlhf_bench.judge.labels import write_sheet
    from rlhf_bench.judge.pairs import pairs_of
    from rlhf_bench.store import ResultStore

    responses = ResultStore(folder).read_responses()
    pairs = pairs_of(responses, baseline=baseline, models=models, samples=samples, limit=limit)
    write_sheet(folder, pairs.comparisons, out, seed=seed)
    click.echo(f"{len(pairs.comparisons)} pairs: {out}")
    click.echo(f"with the labels in it: rlhf-bench judge label read {folder} {out} --rater NAME")


@label.command(
    "read",
    cls=BenchCommand,
    examples=[
        "rlhf-bench judge label read hh-test/default sheet.xlsx --rater ann",
        "rlhf-bench judge label read hh-test/default sheet.xlsx --rater bob --skip-bad",
    ],
)
@click.argument("result")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rater", metavar="NAME", required=True, help="Who labelled, as tables name them.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used, instead of stopping.")
@results_option
def read(result: str, file: Path, rater: str, skip_bad: bool, results: Path) -> None:
    """Read a labelled sheet back: its rater is a judge from then on, and others are held against people.

    A row without a label counts as not asked. Reading the labels of a rater again replaces the earlier ones.
    """
    folder = find_result(result, results)

    from rlhf_bench.judge.labels import read_labels, store_labels
    from rlhf_bench.judge.measures import PEOPLE
    from rlhf_bench.judge.show import stored_lines

    labels = read_labels(folder, file, skip_bad=skip_bad)
    store_labels(folder, rater, labels)
    if labels.left_out:
        click.echo(labels.left_out)
    for line in stored_lines(folder, judge=rater, base_url=PEOPLE):
        click.echo(line)
