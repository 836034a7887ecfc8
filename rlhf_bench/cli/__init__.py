"""The command line. Commands import what they need when they run, so that `--help` answers at once."""

from __future__ import annotations

import click

from rlhf_bench import __version__
from rlhf_bench.cli.audit import audit
from rlhf_bench.cli.base import BenchGroup, current_processes
from rlhf_bench.cli.compare import compare
from rlhf_bench.cli.data import data
from rlhf_bench.cli.demo import demo
from rlhf_bench.cli.eval import evaluate
from rlhf_bench.cli.judge import judge
from rlhf_bench.cli.list import list_
from rlhf_bench.cli.merge import merge
from rlhf_bench.cli.push import push
from rlhf_bench.cli.report import report
from rlhf_bench.cli.selftest import selftest
from rlhf_bench.cli.train import train
from rlhf_bench.errors import BadValue

__all__ = ["cli", "main"]

DIVIDED = ("train", "eval")  # what several processes do together


@click.group(
    cls=BenchGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=["rlhf-bench train all", "rlhf-bench eval --suite hh-test"],
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--quiet", is_flag=True, help="Show no progress; results and errors are still printed.")
@click.version_option(__version__, prog_name="rlhf-bench")
@click.pass_context
def cli(context: click.Context, debug: bool, quiet: bool) -> None:
    """Train a base, SFT, reward, PPO, GRPO and DPO checkpoint, and compare them so that it can be believed."""
    if current_processes().size > 1 and context.invoked_subcommand not in DIVIDED:
        raise BadValue(
            f"{context.invoked_subcommand} runs in one process; expected {' or '.join(DIVIDED)} under torchrun or "
            "accelerate launch: start it without them"
        )


for command in (train, evaluate, judge, audit, compare, report, demo, merge, push, list_, data, selftest):
    cli.add_command(command)


def main() -> None:
    cli()
