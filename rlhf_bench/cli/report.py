"""rlhf-bench report"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, find_result, results_option
from rlhf_bench.cli.eval import print_result

__all__ = ["report"]


@click.command(
    cls=BenchCommand,
    examples=["rlhf-bench report results/hh-test/mini", "rlhf-bench report --show"],
)
@click.argument("result", required=False)
@click.option("--show", is_flag=True, help="Only print the table and the paths; draw nothing.")
@results_option
def report(result: str | None, show: bool, results: Path) -> None:
    """Redraw tables, plots and page without a model.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder = find_result(result, results)
    if not show:
        from rlhf_bench.report import write_report

        for path in write_report(folder):
            click.echo(f"wrote {path}")
        click.echo()
    print_result(folder)
