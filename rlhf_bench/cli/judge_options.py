"""Options that several commands of `rlhf-bench judge` share: each is written once."""

from __future__ import annotations

from pathlib import Path

import click

from rlhf_bench.cli.base import FILE, POSITIVE, with_options

baseline_option = click.option(
    "--baseline", metavar="NAME", required=True, help="The model that the others are compared with."
)
model_option = click.option(
    "--model", "models", metavar="NAME", multiple=True, help="Only this model.  [default: all others]"
)
samples_option = click.option("--samples", type=POSITIVE, default=1, help="Responses a prompt.")
limit_option = click.option("--limit", type=POSITIVE, help="At most this many prompts.")
# Which pairs of a result: against which model, of which models, how many.
pair_options = with_options(
    click.argument("result", required=False), baseline_option, model_option, samples_option, limit_option
)
ledger_option = click.option(
    "--ledger", "ledger_file", type=FILE, help="The ledger.  [default: judge.sqlite in --results]"
)


def ledger_path(given: Path | None, results: Path) -> Path:
    """The ledger that all runs share, unless another is given."""
    return given or results / "judge.sqlite"
