"""rlhf-bench selftest"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import bench_command, checkpoints_option, make_progress
from rlhf_bench.errors import BenchError


@bench_command(
    examples=["rlhf-bench selftest", "rlhf-bench selftest --model path/to/checkpoint"],
)
@click.option("--model", metavar="PATH", help="A checkpoint of yours.  [default: the run's sft]")
@click.option("--run", metavar="NAME", default="default", help="The run to take the checkpoint from.")
@checkpoints_option
def selftest(model: str | None, run: str, checkpoints: Path) -> None:
    """Check what must hold exactly on a checkpoint.

    Padding changes nothing, the ratio is 1 at step 0, KL(pi, pi) is 0, DPO's loss is ln 2 at the start.
    """
    from rlhf_bench.selftest import selftest as run_checks

    checks = run_checks(model, run, checkpoints=checkpoints, progress=make_progress())
    for name, ok, detail in checks:
        click.echo(f"{'ok    ' if ok else 'FAILED'}  {name}: {detail}")
    failed = [name for name, ok, _ in checks if not ok]
    if failed:
        raise BenchError(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")
