"""rlhf-bench judge import"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import FILE, bench_command, results_option
from rlhf_bench.cli.judge_options import baseline_option, ledger_option, ledger_path, model_option, samples_option
from rlhf_bench.cli.results import find_result


@bench_command(
    "import",
    examples=[
        "rlhf-bench judge import hh-test/default annotations.json --format alpaca --judge gpt-4-theirs --baseline base",
        "rlhf-bench judge import hh-test/default records.json --format records --judge old --baseline sft --skip-bad",
    ],
)
@click.argument("result")
@click.argument("file", type=FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["alpaca", "records"]),
    required=True,
    help="AlpacaEval's annotations, or a list of objects with both texts and a verdict.",
)
@click.option("--judge", "judge_name", metavar="NAME", required=True, help="Who judged, as tables name it.")
@baseline_option
@model_option
@samples_option
@click.option(
    "--rater",
    metavar="NAME",
    default="people",
    help="Who gave the labels in a column `label` of records, as tables name them.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used, instead of stopping.")
@ledger_option
@results_option
def import_(
    result: str,
    file: Path,
    form: Any,
    judge_name: str,
    baseline: str,
    models: tuple[str, ...],
    samples: int,
    rater: str,
    skip_bad: bool,
    ledger_file: Path | None,
    results: Path,
) -> None:
    """Bring another pipeline's verdicts on this result's responses in, as those of a judge of that name.

    A verdict counts for a pair with the same prompt and the same two texts. It costs nothing, and ledger, tables and
    page say that it was imported. RESULT is a folder, <suite>/<run>, or a run.
    """
    folder = find_result(result, results)

    from rlhf_bench.annotations.foreign import import_foreign, read_foreign
    from rlhf_bench.judge.ledger import Ledger
    from rlhf_bench.judge.questions import Selection
    from rlhf_bench.report.screen import judge_text

    foreign = read_foreign(file, judge=judge_name, form=form, skip_bad=skip_bad)
    with Ledger(ledger_path(ledger_file, results)) as ledger:
        chosen = Selection(models, samples)
        used = import_foreign(folder, foreign, ledger, baseline=baseline, chosen=chosen, rater=rater)
    if foreign.left_out:
        click.echo(foreign.left_out)
    if foreign.note:
        click.echo(foreign.note)
    click.echo(f"{len(foreign.verdicts)} verdicts in {file.name}, {used} of them on this result's pairs")
    click.echo(judge_text(folder, judge=judge_name, base_url=foreign.base_url), nl=False)
