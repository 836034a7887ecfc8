"""rlhf-bench push"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import bench_command, checkpoints_option, results_option
from rlhf_bench.errors import check_known


@bench_command(
    examples=[
        "rlhf-bench push default --to my-organisation/hh-mini --dry-run",
        "rlhf-bench push default dpo grpo --to my-organisation/hh-mini --private",
    ],
)
@click.argument("run")
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@click.option("--to", required=True, metavar="ORG/NAME", help="Each checkpoint becomes ORG/NAME-STAGE[-seed-N].")
@click.option("--dry-run", is_flag=True, help="Print what would be uploaded, and the first card; upload nothing.")
@click.option("--private", is_flag=True, help="New repositories are private.")
@checkpoints_option
@results_option
def push(
    run: str, stages: tuple[str, ...], to: str, dry_run: bool, private: bool, checkpoints: Path, results: Path
) -> None:  # fmt: skip
    """Upload a run's checkpoints to the Hugging Face hub.

    Weights, tokenizer, configuration, log, and a model card with the metrics and intervals that the results hold. The
    token is the one that huggingface_hub finds; it is never printed or stored.
    """
    from rlhf_bench.cli.publish import plan_uploads, upload
    from rlhf_bench.modeling.checkpoints import find_run
    from rlhf_bench.types import STAGES

    check_known("stage", stages, STAGES)
    planned = plan_uploads(find_run(checkpoints, run), to, stages=stages, results=results)
    for each in planned:
        click.echo(f"{each.repo}  {each.size / 1e6:.1f} MB from {each.folder}: {', '.join([*each.files, 'README.md'])}")
    if dry_run:
        click.echo(f"\n{planned[0].repo}, README.md:\n\n{planned[0].card}\nnothing was uploaded (--dry-run)")
        return
    for each in planned:
        click.echo(f"uploaded: {upload(each, private=private)}")
