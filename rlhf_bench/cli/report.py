"""rlhf-bench report"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, find_result, results_option, sizes
from rlhf_bench.cli.eval import print_result

__all__ = ["report"]


@click.command(
    cls=BenchCommand,
    examples=["rlhf-bench report results/hh-test/default", "rlhf-bench report --show --difference gold=0.1"],
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
@click.option(
    "--difference",
    "differences",
    metavar="METRIC=SIZE",
    multiple=True,
    help="Also say how many prompts a difference of this size needs, for each pair of models (80 % power at p < 0.05).",
)
@results_option
def report(result: str | None, show: bool, alpaca: Path | None, differences: tuple[str, ...], results: Path) -> None:
    """Redraw tables, plots and page without a model.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder, wanted = find_result(result, results), sizes(differences)
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
    if wanted:
        from rlhf_bench.compare import prompts_for

        for line in prompts_for(folder, wanted):
            click.echo(line)
