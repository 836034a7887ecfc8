"""Options that several commands of `rlhf-bench judge` share: each is written once."""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import Decorated

__all__ = [
    "baseline_option",
    "ledger_option",
    "ledger_path",
    "limit_option",
    "model_option",
    "pair_options",
    "samples_option",
]


def baseline_option(command: Decorated) -> Decorated:
    return click.option(
        "--baseline", metavar="NAME", required=True, help="The model that the others are compared with."
    )(command)


def model_option(command: Decorated) -> Decorated:
    return click.option(
        "--model", "models", metavar="NAME", multiple=True, help="Only this model.  [default: all others]"
    )(command)


def samples_option(command: Decorated) -> Decorated:
    return click.option(
        "--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Responses a prompt."
    )(command)


def limit_option(command: Decorated) -> Decorated:
    return click.option("--limit", type=click.IntRange(min=1), help="At most this many prompts.")(command)


def pair_options(command: Decorated) -> Decorated:
    """Which pairs of a result: against which model, of which models, how many."""
    for option in (limit_option, samples_option, model_option, baseline_option):
        command = option(command)
    return click.argument("result", required=False)(command)


def ledger_option(command: Decorated) -> Decorated:
    return click.option(
        "--ledger",
        "ledger_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The ledger.  [default: judge.sqlite in --results]",
    )(command)


def ledger_path(given: Path | None, results: Path) -> Path:
    """The ledger that all runs share, unless another is given."""
    return given or results / "judge.sqlite"
