"""rlhf-bench compare"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import PATH, bench_command, results_option, sizes
from rlhf_bench.cli.results import find_result
from rlhf_bench.errors import UsageError


@bench_command(
    examples=[
        "rlhf-bench compare default strong --difference gold=0.1",
        "rlhf-bench compare --published table.csv",
    ],
)
@click.argument("given", metavar="[A B]", nargs=-1)
@click.option(
    "--difference",
    "differences",
    metavar="METRIC=SIZE",
    multiple=True,
    help="Say how many prompts a difference of this size needs (80 % power at p < 0.05).",
)
@click.option(
    "--published",
    metavar="FILE",
    type=PATH,
    help="In place of A and B: a published table with the columns model, mean, sd and n. Each pair's difference, "
    "unpaired, and the correlation of the two models' scores from which on it is significant.",
)
@results_option
def compare(given: tuple[str, ...], differences: tuple[str, ...], published: Path | None, results: Path) -> None:
    """Compare results A and B, paired by prompt.

    Each is a folder, <suite>/<run>, or a run. The table has a heading for each metric, with its number of prompts, and
    a line for each model: p by the paired test of the mean, by Wilcoxon's signed-rank test, and the first corrected
    by Holm over the models; d is Cohen's d for pairs; MDE is the smallest difference that so many prompts show in
    80 % of repetitions. It fits 100 columns.
    """
    if published is not None:
        if given or differences:
            raise UsageError("--published: given with results or --difference; expected FILE alone")
        from rlhf_bench.compare import compare_published

        click.echo(compare_published(published).rstrip("\n"))
        return
    if len(given) != 2:
        named = ", ".join(given) or "nothing"
        raise UsageError(f"compare: given {named}, expected two results, A and B, or --published FILE")
    wanted = sizes(differences)
    folder_a, folder_b = (find_result(name, results) for name in given)

    from rlhf_bench.compare import compare as compare_results

    click.echo(str(compare_results(folder_a, folder_b, wanted)).rstrip("\n"))
