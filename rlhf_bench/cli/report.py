"""rlhf-bench report"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import FOLDER, bench_command, name_values, names_of, results_option, sizes
from rlhf_bench.cli.eval import print_result
from rlhf_bench.cli.results import find_result
from rlhf_bench.errors import BadValue


@bench_command(
    examples=[
        "rlhf-bench report results/hh-test/default",
        'rlhf-bench report default --models sft,ppo --rename ppo="PPO (ours)" --format pdf,svg --columns double',
    ],
)
@click.argument("result", required=False)
@click.option("--show", is_flag=True, help="Only print the table and the paths; draw nothing.")
@click.option("--index", is_flag=True, help="Only write index.html, the list of all results with leaderboards.")
@click.option("--models", metavar="A,B", help="For a paper: the models of one figure and one table.")
@click.option("--metrics", metavar="A,B", help="For a paper: the numbers, such as reward,gold,kl_exact.")
@click.option("--rename", metavar="MODEL=NAME", multiple=True, help="For a paper: the name shown for a model.")
@click.option("--order", metavar="A,B", help="For a paper: the order of the models.")
@click.option("--format", "formats", metavar="A,B", help="For a paper: the figure's formats, of pdf, svg, png.")
@click.option("--style", type=click.Choice(["paper", "slides"]), help="For a paper: the sizes of fonts and figure.")
@click.option("--columns", type=click.Choice(["single", "double"]), help="For a paper: how wide the figure is.")
@click.option(
    "--alpaca-eval",
    "alpaca",
    metavar="FOLDER",
    type=FOLDER,
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
def report(
    *,
    result: str | None,
    show: bool,
    index: bool,
    alpaca: Path | None,
    differences: tuple[str, ...],
    results: Path,
    **choice: Any,
) -> None:
    """Redraw tables, plots and page without a model.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last. An option for a paper writes
    one figure and one table to paper/ in the result instead.
    """
    from rlhf_bench.report import write_report
    from rlhf_bench.report.index import write_index

    if index:
        if result or show or alpaca or differences or any(choice.values()):
            raise BadValue("--index: given with other arguments; expected it alone, or with --results")
        click.echo(f"wrote {write_index(results)}")
        return
    folder, wanted = find_result(result, results), sizes(differences)
    if any(choice.values()):
        others = {"--show": show, "--alpaca-eval": alpaca, "--difference": differences}
        for option in (option for option, value in others.items() if value):
            raise BadValue(f"{option}: given with options for a paper, which write its figure and table alone")
        from rlhf_bench.report.paper import Choice, write_paper

        for path in write_paper(folder, Choice(**_chosen(**choice)), folder / "paper"):
            click.echo(f"wrote {path}")
        return
    if not show:
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


def _chosen(*, rename: tuple[str, ...], **options: str | None) -> dict[str, Any]:
    flags = {"models": "--models", "metrics": "--metrics", "order": "--order", "formats": "--format"}
    lists = {name: names_of(flag, text) for name, flag in flags.items() if (text := options[name])}
    names = name_values("--rename", rename, expected='MODEL=NAME, such as ppo="PPO (ours)"')
    words = {name: text for name in ("style", "columns") if (text := options[name])}
    return {**lists, **words, "rename": names}
