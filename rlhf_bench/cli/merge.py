"""rlhf-bench merge"""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import PATH, bench_command


@bench_command(
    examples=[
        "rlhf-bench merge checkpoints/default/dpo dpo-merged",
        "rlhf-bench merge checkpoints/default/reward reward-merged",
    ],
)
@click.argument("adapter", type=PATH)
@click.argument("output", type=PATH)
def merge(adapter: Path, output: Path) -> None:
    """Write an ADAPTER, merged into its base, to the new folder OUTPUT: a plain model that needs no peft.

    Nothing here needs a merged model: adapters are trained from, evaluated and scored with as they are.
    """
    from rlhf_bench.modeling.merge import merge as run

    run(adapter, output)
    click.echo(f"model: {output}")
