"""rlhf-bench train"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import bench_command, checkpoints_option, current_processes, make_progress
from rlhf_bench.errors import BadValue, check_known
from rlhf_bench.runtime.processes import fsdp_is_configured
from rlhf_bench.runtime.writer import Writer
from rlhf_bench.types import STAGES

PROBE_SECONDS = 60.0  # of --dry-run


@bench_command(
    keeps="finished stages and the last saved state are kept",
    keeps_nothing_with=["--explain", "--dry-run"],
    examples=[
        "rlhf-bench train all",
        "rlhf-bench train ppo dpo --recipe mini --run strong --set ppo.kl_coef=0.1 --seeds 3",
    ],
)
@click.argument("stages", nargs=-1, metavar=f"[all|{'|'.join(STAGES)}]...")
@click.option("--recipe", default="mini", help="A recipe's name, or the path of a YAML file.")
@click.option("--run", metavar="NAME", default="default", help="Name of the checkpoints' folder.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one key of the recipe.")
@click.option("--seeds", type=click.IntRange(1, 1000), help="Train every stage with this many seeds.")
@click.option(
    "--sweep",
    metavar="KEY=V1,V2,...",
    help="Train under each of these values of one key, a run RUN.KEY=VALUE each; they share what the key does not "
    "decide.",
)
@click.option("--resume/--no-resume", default=True, help="Continue an interrupted stage, or start it again.")
@click.option(
    "--force",
    is_flag=True,
    help="Train again, and later stages trained from it; the old one is kept until then.",
)
@click.option(
    "--fsdp",
    is_flag=True,
    help="Of several processes: shard models, gradients and optimiser states over them (FSDP).",
)
@click.option("--stop-on-alarm", is_flag=True, help="End a stage at its first alarm; the checkpoint before it is kept.")
@click.option(
    "--report-to",
    metavar="TRACKER",
    multiple=True,
    help="Each row of the log also to tensorboard or wandb (extra tracking); one that fails never stops a training.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Print each key, its meaning and its name in TRL and OpenRLHF; train nothing.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print stages, data, tokens, memory, hours here (measured for a minute) and on a GPU, and what has to be "
    "downloaded; train nothing.",
)
@checkpoints_option
def train(
    *,
    stages: tuple[str, ...],
    recipe: str,
    overrides: tuple[str, ...],
    sweep: str | None,
    fsdp: bool,
    explain: bool,
    dry_run: bool,
    checkpoints: Path,
    **options: Any,
) -> None:
    """Train all stages, or those named.

    A stage that is complete with the same configuration is not trained again, and one that was interrupted continues
    from its last state. Under torchrun or accelerate launch several processes train one model (docs/processes.md).
    """
    processes = current_processes()
    check_known("stage", stages, ["all", *STAGES])
    if explain and dry_run:
        raise BadValue("--explain: given with --dry-run; expected one of the two")
    if explain:
        Writer(processes).write(_explain, stages)
        return

    wanted = _expand(stages, recipe, overrides)
    if dry_run:
        Writer(processes).write(_dry_run, wanted, recipe, overrides)
        return
    fsdp = fsdp or (processes.size > 1 and fsdp_is_configured())
    given = {"recipe": recipe, "overrides": list(overrides), "fsdp": fsdp, "root": checkpoints, **options}
    given |= {"progress": make_progress(), "processes": processes}
    if sweep is not None:
        from trainers.sweep import parse_sweep, train_sweep

        for folder in train_sweep(wanted, parse_sweep(sweep), **given):
            if processes.is_first:
                click.echo(f"checkpoints: {folder}")
        return
    from trainers.pipeline import train as run_stages

    folder = run_stages(wanted, **given)
    if not processes.is_first:
        return
    elsewhere = "" if checkpoints == Path("checkpoints") else f" --checkpoints {checkpoints}"
    click.echo(f"checkpoints: {folder}")
    from rlhf_bench.evaluate.suite import list_suites

    suite = recipe if recipe in list_suites() else "hh-test"
    click.echo(f"next: rlhf-bench eval --suite {suite} --run {folder.name}{elsewhere}")


def _expand(stages: Sequence[str], recipe: str, overrides: Sequence[str]) -> list[str]:
    """The stages in the order of training, each once."""
    if stages and "all" not in stages:
        return [stage for stage in STAGES if stage in stages]
    from trainers.config.ancestry import all_stages
    from trainers.config.loading import load_recipe

    return all_stages(load_recipe(recipe, list(overrides)))


def _dry_run(stages: Sequence[str], recipe: str, overrides: Sequence[str]) -> None:
    from trainers.config.loading import load_recipe
    from trainers.plan.dry_run import dry_run

    load_recipe(recipe, list(overrides))  # what is wrong with it, before the minute of measuring
    click.echo("measuring this machine for about a minute", err=True)
    click.echo(dry_run(stages, recipe=recipe, overrides=overrides, seconds=PROBE_SECONDS).rstrip("\n"))


def _explain(stages: Sequence[str]) -> None:
    from trainers.config.loading import explain
    from trainers.config.peer_names import peer_names

    for stage in [None] if not stages or "all" in stages else dict.fromkeys(stages):
        for key, kind, default, description in explain(stage):
            click.echo(f"{key}  ({kind}{f', default {default}' if default not in ('', 'required') else ''})")
            click.echo(f"    {description}")
            if kind != "section":
                click.echo(f"    {peer_names(key)}")
