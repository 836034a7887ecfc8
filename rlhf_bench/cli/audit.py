"""rlhf-bench audit"""

from __future__ import annotations

from glob import glob
from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import POSITIVE, bench_command, checkpoints_option, make_progress, name_values, results_option
from rlhf_bench.errors import BadValue


@bench_command(
    examples=[
        "rlhf-bench audit --reward-model mine=path/to/reward --reward-model dpo=dpo:path/to/dpo,path/to/sft",
        "rlhf-bench audit --scores scores.jsonl",
    ],
)
@click.option("--run", metavar="NAME", default="default", help="The run of the reward model to audit.")
@click.option(
    "--reward-model",
    "reward_models",
    metavar="[NAME=]MODEL",
    multiple=True,
    help="Another reward model; several are compared. A folder or hub name, dpo:POLICY,REFERENCE[,BETA] for the "
    "implicit reward of a policy, or mean:PATH,PATH for an ensemble.",
)
@click.option(
    "--steps",
    metavar="GLOB",
    help="Every checkpoint of a reward model's training, such as 'checkpoints/default/reward-steps/*'.",
)
@click.option("--data", metavar="SOURCE", help="Pairs from here.  [default: the data the run was trained on]")
@click.option("--limit", type=POSITIVE, help="At most this many pairs.")
@click.option(
    "--scores",
    metavar="[NAME=]FILE",
    multiple=True,
    help="Audit these scores instead of a reward model: a row with a pair's two scores or a list a prompt, or "
    "RewardBench's results; several files, of the same prompts, are compared.",
)
@checkpoints_option
@results_option
def audit(*, reward_models: tuple[str, ...], steps: str | None, scores: tuple[str, ...], **options: Any) -> None:
    """Find where a reward model is wrong.

    Accuracy by category beside "the longer one", words alone and an untrained model; calibration; what it pays for
    beside what the labels pay for; slices on which it is right less often than its margins promise; edits that should
    not change a reward; every pair it got wrong. Where the run was evaluated, its report page shows the audit.
    """
    progress = make_progress()
    if scores:
        if reward_models or steps or options["data"] or options["limit"]:
            raise click.UsageError("--scores was given with another option on what to audit; give --scores alone")
        from rlhf_bench.audit.scores_run import run_scores

        files = {name: Path(path) for name, path in _named(scores, "--scores").items()}
        folder = run_scores(files, results=options["results"])
    else:
        from rlhf_bench.audit.run import run_audit

        given = {**_named(reward_models, "--reward-model"), **(_steps(steps) if steps else {})}
        folder = run_audit(reward_models=given, progress=progress, **options)
    from rlhf_bench.report.audit import Audit

    found = Audit(folder)
    progress.log("drawing the tables and plots")
    found.write()
    click.echo(found.text())
    click.echo(f"audit: {folder / 'audit.json'}")
    click.echo(f"tables: {folder.parent / 'tables'}")
    click.echo(f"mistakes: {folder / 'mistakes.jsonl'}")
    if (folder.parent / "report.html").is_file():
        from rlhf_bench.report import write_report

        write_report(folder.parent, only=["tables", "page"])
        click.echo(f"report page: {folder.parent / 'report.html'}")


def _named(given: tuple[str, ...], option: str) -> dict[str, str]:
    """Name -> what is given; one without a name has that of its folder, file or form."""

    def name_of(text: str) -> str:
        form, colon, _ = text.partition(":")
        return form if colon else Path(text).name.partition(".jsonl")[0]

    return name_values(option, given, expected="VALUE or NAME=VALUE", name_of=name_of)


def _steps(pattern: str) -> dict[str, str]:
    """The checkpoints that a pattern names, by their step. Raises BadValue where there are none."""
    folders = [Path(name) for name in glob(pattern) if Path(name).is_dir()]
    if not folders:
        raise BadValue(f"--steps: no folder matches {pattern!r}; train with: --set reward.save_steps=500")

    def step(path: Path) -> int:
        digits = path.name.rpartition("-")[2]
        return int(digits) if digits.isdigit() else 0

    return {path.name: str(path) for path in sorted(folders, key=step)}
