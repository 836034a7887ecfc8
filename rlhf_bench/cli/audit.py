"""rlhf-bench audit"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import BenchCommand, checkpoints_option, make_progress, results_option

__all__ = ["audit"]


@click.command(
    cls=BenchCommand,
    examples=[
        "rlhf-bench audit --reward-model path/to/reward --data pairs.jsonl --limit 500",
        "rlhf-bench audit --scores scores.jsonl",
    ],
)
@click.option(
    "--run", metavar="NAME", default="default", show_default=True, help="The run of the reward model to audit."
)
@click.option("--reward-model", metavar="PATH", help="A reward model other than the run's own.")
@click.option("--data", metavar="SOURCE", help="Pairs from here.  [default: the data the run was trained on]")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many pairs.")
@click.option(
    "--scores",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Audit these scores instead of a reward model: JSON lines with a pair's two scores or a list a prompt.",
)
@checkpoints_option
@results_option
def audit(
    run: str,
    reward_model: str | None,
    data: str | None,
    limit: int | None,
    scores: Path | None,
    checkpoints: Path,
    results: Path,
) -> None:
    """Find where a reward model is wrong.

    Accuracy by category beside "the longer one", "the shorter one" and an untrained model; calibration; what it pays
    for beside what the labels pay for; slices on which it is right less often than its margins promise; every pair it
    got wrong. Where the run was evaluated, its report page shows the audit.
    """
    if scores is not None:
        if reward_model or data or limit:
            raise click.UsageError("--scores was given with --reward-model, --data or --limit; give --scores alone")
        from rlhf_bench.audit.scores_file import audit_scores, scores_text

        click.echo(scores_text(audit_scores(scores)))
        return
    from rlhf_bench.audit.run import audit as run_audit
    from rlhf_bench.report import audit_text, write_report

    progress = make_progress()
    folder = run_audit(
        run=run,
        reward_model=reward_model,
        data=data,
        limit=limit,
        checkpoints=checkpoints,
        results=results,
        progress=progress,
    )
    click.echo(audit_text(folder))
    click.echo(f"audit: {folder / 'audit.json'}")
    click.echo(f"mistakes: {folder / 'mistakes.jsonl'}")
    if (folder.parent / "report.html").is_file():
        progress.log("drawing the tables and the report page")
        write_report(folder.parent, only=["tables", "page"])
        click.echo(f"report page: {folder.parent / 'report.html'}")
