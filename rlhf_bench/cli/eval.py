"""rlhf-bench eval"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import (
    BenchCommand,
    checkpoints_option,
    make_progress,
    name_values,
    remember_result,
    results_option,
)

__all__ = ["evaluate", "print_result"]


@click.command(
    "eval",
    cls=BenchCommand,
    examples=[
        "rlhf-bench eval --suite hh-test",
        "rlhf-bench eval --suite hh-test --run mini --model mine=path/to/checkpoint --limit 50",
    ],
)
@click.option("--suite", default="hh-test", show_default=True, help="What to evaluate on: rlhf-bench list suites.")
@click.option("--run", metavar="NAME", default="default", show_default=True, help="The run to evaluate.")
@click.option("--model", "models", metavar="NAME=PATH", multiple=True, help="One more model, under a name of yours.")
@click.option("--reference", metavar="NAME", help="The model that KL is taken to.  [default: the suite's, else sft]")
@click.option("--reward-model", metavar="PATH", multiple=True, help="A reward model other than the run's own.")
@click.option("--data", metavar="SOURCE", help="Prompts from here.  [default: the data the run was trained on]")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many prompts.")
@click.option("--samples", type=click.IntRange(min=1), help="Responses a prompt.  [default: the suite's]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the sampling.  [default: the suite's]")
@click.option("--force", is_flag=True, help="Evaluate again what is stored already.")
@checkpoints_option
@results_option
def evaluate(
    suite: str,
    run: str,
    models: tuple[str, ...],
    reference: str | None,
    reward_model: tuple[str, ...],
    data: str | None,
    limit: int | None,
    samples: int | None,
    seed: int | None,
    force: bool,
    checkpoints: Path,
    results: Path,
) -> None:
    """Evaluate checkpoints side by side.

    A run's, and others that are given, on the same prompts. What is stored already is reused; tables, plots and a
    report page are written beside it.
    """
    expected = "NAME=PATH, such as --model mine=checkpoints/mine/dpo"
    named = name_values("--model", models, expected=expected)

    from rlhf_bench.evaluate import evaluate as run_suite
    from rlhf_bench.report import write_report

    progress = make_progress()
    result = run_suite(
        suite,
        run=run,
        models=named,
        reference=reference,
        reward_model=list(reward_model),
        data=data,
        limit=limit,
        samples=samples,
        seed=seed,
        force=force,
        checkpoints=checkpoints,
        results=results,
        progress=progress,
    )
    if not _is_drawn(result):
        progress.log("drawing tables, plots and the report page")
        write_report(result)
    remember_result(result, results)
    print_result(result)


def _is_drawn(result: Path) -> bool:
    """True if the report is no older than the numbers."""
    numbers, page = result / "metrics.json", result / "report.html"
    return page.is_file() and numbers.is_file() and page.stat().st_mtime >= numbers.stat().st_mtime


def print_result(result: Path) -> None:
    """The table, and where the Pareto plot and the page are."""
    from rlhf_bench.report import summary_text

    click.echo(summary_text(result).rstrip("\n"))
    click.echo()
    for label, name in (("Pareto plot", "plots/reward_vs_kl.png"), ("report page", "report.html")):
        path = result / name
        click.echo(f"{label}: {path if path.is_file() else f'not there; draw it with: rlhf-bench report {result}'}")
