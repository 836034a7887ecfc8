"""rlhf-bench judge label"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlhf_bench.cli.base import COUNT, FILE, BenchGroup, Decorated, results_option
from rlhf_bench.cli.judge_options import pair_options
from rlhf_bench.cli.results import find_result

if TYPE_CHECKING:
    from rlhf_bench.judge.questions import PairComparison


@click.group(
    "label",
    cls=BenchGroup,
    examples=[
        "rlhf-bench judge label sheet hh-test/default --baseline base --limit 50 --out sheet.xlsx",
        "rlhf-bench judge label read hh-test/default sheet.xlsx --rater ann",
    ],
)
def label() -> None:
    """People as judges: a blinded sheet or page, and the labels that come back from it."""


seed_option = click.option("--seed", type=COUNT, default=0, help="Draws order and places.")


def out_option(endings: str) -> Callable[[Decorated], Decorated]:
    return click.option("--out", type=FILE, required=True, help=f"The file to write: {endings}.")


@label.command(
    "sheet",
    examples=[
        "rlhf-bench judge label sheet hh-test/default --baseline base --limit 50 --out sheet.xlsx",
        "rlhf-bench judge label sheet --baseline sft --model ppo --out pairs.csv",
    ],
)
@pair_options
@seed_option
@out_option(".xlsx or .csv")
@results_option
def sheet(out: Path, seed: int, **options: Any) -> None:
    """Write a sheet of pairs without the models' names; a person writes A, B or tie into the column `better`.

    The same sheet may go to several people. Each pair occurs once, in a drawn order. RESULT is a folder,
    <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder, comparisons = _pairs(**options)

    from rlhf_bench.judge.people import write_sheet

    write_sheet(folder, comparisons, out, seed=seed)
    click.echo(f"{len(comparisons)} pairs: {out}")
    click.echo(f"with the labels in it: rlhf-bench judge label read {folder} {out} --rater NAME")


@label.command(
    "page",
    examples=[
        "rlhf-bench judge label page hh-test/default --baseline base --limit 50 --out label.html",
        "rlhf-bench judge label page --baseline sft --model ppo --out label.html",
    ],
)
@pair_options
@seed_option
@out_option(".html")
@results_option
def page(out: Path, seed: int, **options: Any) -> None:
    """Write the sheet as one HTML file that shows a pair at a time: keys A, B and T label it.

    It opens from disk in any browser, which keeps the labels so far; what it downloads is read as a sheet is. The same
    file may go to several people. RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder, comparisons = _pairs(**options)

    from rlhf_bench.judge.people import write_label_page

    name = write_label_page(folder, comparisons, out, seed=seed)
    click.echo(f"{len(comparisons)} pairs: {out}")
    click.echo(f"with what it downloads: rlhf-bench judge label read {folder} labels-{name}.csv --rater NAME")


def _pairs(
    result: str | None, results: Path, baseline: str, models: tuple[str, ...], samples: int, limit: int | None
) -> tuple[Path, list[PairComparison]]:
    folder = find_result(result, results)

    from rlhf_bench.judge.questions import Selection, pairs_of
    from rlhf_bench.store import ResultStore

    responses = ResultStore(folder).read_responses()
    return folder, pairs_of(responses, baseline, Selection(models, samples, limit)).comparisons


@label.command(
    "read",
    examples=[
        "rlhf-bench judge label read hh-test/default sheet.xlsx --rater ann",
        "rlhf-bench judge label read hh-test/default sheet.xlsx --rater bob --skip-bad",
    ],
)
@click.argument("result")
@click.argument("file", type=FILE)
@click.option("--rater", metavar="NAME", required=True, help="Who labelled, as tables name them.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used, instead of stopping.")
@results_option
def read(result: str, file: Path, rater: str, skip_bad: bool, results: Path) -> None:
    """Read a labelled sheet, or what a page downloaded: its rater is a judge from then on.

    Other judges are compared with people. A row without a label counts as missing. Reading the labels of a rater again
    replaces the earlier ones.
    """
    folder = find_result(result, results)

    from rlhf_bench.judge.analysis import PEOPLE
    from rlhf_bench.judge.people import read_labels, store_labels
    from rlhf_bench.report.screen import judge_text

    labels, left_out = read_labels(folder, file, skip_bad=skip_bad)
    store_labels(folder, rater, labels)
    if left_out:
        click.echo(left_out)
    click.echo(judge_text(folder, judge=rater, base_url=PEOPLE), nl=False)
