"""rlhf-bench compare"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, find_result, results_option, sizes

__all__ = ["compare"]


@click.command(
    cls=BenchCommand,
    examples=["rlhf-bench compare default strong", "rlhf-bench compare default strong --difference gold=0.1"],
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--difference",
    "differences",
    metavar="METRIC=SIZE",
    multiple=True,
    help="Say how many prompts a difference of this size needs (80 % power at p < 0.05).",
)
@results_option
def compare(a: str, b: str, differences: tuple[str, ...], results: Path) -> None:
    """Compare results A and B, paired by prompt.

    Each is a folder, <suite>/<run>, or a run. The table has a heading for each metric, with its number of prompts, and
    a line for each model: p by the paired test of the mean, by Wilcoxon's signed-rank test, and the first corrected
    by Holm over the models; d is Cohen's d for pairs; detectable is the smallest difference that so many prompts show
    in 80 % of repetitions. It fits 100 columns.
    """
    wanted = sizes(differences)
    folder_a, folder_b = find_result(a, results), find_result(b, results)

    from rlhf_bench.compare import compare as compare_results

    click.echo(compare_results(folder_a, folder_b, wanted).rstrip("\n"))
