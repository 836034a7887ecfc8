"""rlhf-bench report"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, find_result, results_option
from rlhf_bench.cli.eval import print_result

__all__ = ["report"]


@click.command(
    cls=BenchCommand,
    examples=["rlhf-bench report results/hh-test/mini", "rlhf-bench report --show --alpaca-eval outputs/"],
)
@click.argument("result", required=False)
@click.option("--show", is_flag=True, help="Only print the table and the paths; draw nothing.")
@click.option(
    "--alpaca-eval",
    "alpaca",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write each model's responses here as AlpacaEval's model_outputs.json.",
)
@results_option
def report(result: str | None, show: bool, alpaca: Path | None, results: Path) -> None:
    """Redraw tables, plots and page without a model.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder = find_result(result, results)
    if not show:
        from rlhf_bench.report import write_report

        for path in write_report(folder):
            click.echo(f"wrote {path}")
        click.echo()
    if alpaca is not None:
        from rlhf_bench.report.alpaca import write_alpaca

        for path in write_alpaca(folder, alpaca):
            click.echo(f"wrote {path}")
        click.echo()
    print_result(folder)
