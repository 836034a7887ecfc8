"""rlhf-bench compare"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, find_result, results_option

__all__ = ["compare"]


@click.command(
    cls=BenchCommand,
    examples=["rlhf-bench compare mini strong", "rlhf-bench compare results/hh-test/mini results/hh-test/strong"],
)
@click.argument("a")
@click.argument("b")
@results_option
def compare(a: str, b: str, results: Path) -> None:
    """Compare results A and B, paired by prompt.

    Each is a folder, <suite>/<run>, or a run.
    """
    folder_a, folder_b = find_result(a, results), find_result(b, results)

    from rlhf_bench.compare import compare as compare_results

    click.echo(compare_results(folder_a, folder_b).rstrip("\n"))
