"""rlhf-bench compare"""

from __future__ import annotations

import math
from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, find_result, name_values, results_option
from rlhf_bench.errors import BadValue

__all__ = ["compare"]


@click.command(
    cls=BenchCommand,
    examples=["rlhf-bench compare mini strong", "rlhf-bench compare mini strong --difference gold=0.1"],
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
    sizes = _sizes(differences)
    folder_a, folder_b = find_result(a, results), find_result(b, results)

    from rlhf_bench.compare import compare as compare_results

    click.echo(compare_results(folder_a, folder_b, sizes).rstrip("\n"))


def _sizes(given: tuple[str, ...]) -> dict[str, float]:
    expected = "METRIC=SIZE with a size above 0, such as gold=0.1"
    sizes: dict[str, float] = {}
    for metric, text in name_values("--difference", given, expected=expected).items():
        try:
            sizes[metric] = float(text)
        except ValueError:
            sizes[metric] = math.nan
        if not 0 < sizes[metric] < math.inf:
            raise BadValue(f"--difference: given {metric}={text!r}, expected {expected}")
    return sizes
