"""rlhf-bench judge"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlhf_bench.cli.base import (
    ABOVE_ZERO,
    COUNT,
    PATH,
    POSITIVE,
    BenchGroup,
    make_progress,
    results_option,
    with_options,
)
from rlhf_bench.cli.judge_import import import_
from rlhf_bench.cli.judge_label import label
from rlhf_bench.cli.judge_ledger import ledger
from rlhf_bench.cli.judge_options import ledger_option, ledger_path, limit_option, model_option, samples_option
from rlhf_bench.cli.results import find_result

if TYPE_CHECKING:
    from rlhf_bench.judge.run import JudgeRun

LIMITS = ("concurrency", "requests_per_minute", "tokens_per_minute", "attempts", "retry_unreadable")


@click.group(
    cls=BenchGroup,
    examples=[
        "rlhf-bench judge plan hh-test/default --judge gpt-4o --baseline base",
        "rlhf-bench judge run hh-test/default --judge gpt-4o --baseline base --max-cost 2.00",
    ],
)
def judge() -> None:
    """Win rates by a judge, its questions, its answers and their cost."""


# What decides which calls are made; `plan` and `run` share it.
question_options = with_options(
    click.argument("result", required=False),
    click.option(
        "--judge",
        "judge_name",
        metavar="NAME",
        required=True,
        help="A model of the server, or one of reward, gold, length, random, which are built in (no API calls).",
    ),
    click.option(
        "--baseline",
        metavar="NAME",
        help="The model that the others are compared with, in pairs.  [default: the suite's, else the reference]",
    ),
    model_option,
    click.option(
        "--template",
        default="pairwise",
        help="pairwise, pairwise-letter, pairwise-reasoned, rank, likert, grade, grade-reasoned, or a YAML file.",
    ),
    click.option(
        "--base-url", metavar="URL", help="An OpenAI-compatible server.  [default: OPENAI_BASE_URL, else OpenAI's]"
    ),
    samples_option,
    limit_option,
    click.option("--again", type=COUNT, default=0, help="Questions that are repeated, to measure repeatability."),
    click.option("--order-seed", type=COUNT, default=0, help="Draws the order of the responses that are ranked."),
    click.option("--temperature", metavar="T", default="0", help="The judge's temperature, or none to send none."),
    click.option("--max-tokens", type=POSITIVE, help="Longest answer.  [default: the template's]"),
    click.option(
        "--schema/--no-schema",
        default=None,
        help="Send the template's JSON schema.  [default: unless the server has refused it]",
    ),
    click.option(
        "--logprobs",
        type=click.IntRange(0, 20),
        default=0,
        help="Log-probabilities requested for each token, for a soft preference.",
    ),
    click.option("--prices", type=PATH, help="A price file of yours.  [default: the packaged list]"),
    ledger_option,
    results_option,
)
batch_option = click.option(
    "--batch", is_flag=True, help="By the server's Batch API: cheaper, within a day; `run` again collects it."
)


@judge.command(
    "plan",
    examples=[
        "rlhf-bench judge plan hh-test/default --judge gpt-4o --baseline base",
        "rlhf-bench judge plan --judge my-model --base-url http://localhost:8000/v1 --baseline sft --limit 50",
    ],
)
@question_options
@batch_option
def plan(batch: bool, **options: Any) -> None:
    """Count pairs, calls, tokens and cost before any call.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    with _prepare(options) as judging:
        for line in judging.plan_lines(batch=batch):
            click.echo(line)


@judge.command(
    "run",
    keeps="what was answered is kept",
    examples=[
        "rlhf-bench judge run hh-test/default --judge gpt-4o --baseline base --max-cost 2.00",
        "rlhf-bench judge run --judge gold --template likert",
    ],
)
@question_options
@click.option(
    "--max-cost", metavar="USD", help="The most this result and judge may cost, over all runs; 0 makes no call."
)
@click.option("--max-calls", type=COUNT, help="The most calls this result and judge may be charged for.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, help="Calls in flight at once.")
@click.option("--requests-per-minute", type=ABOVE_ZERO, help="At most so many requests.")
@click.option("--tokens-per-minute", type=ABOVE_ZERO, help="At most so many tokens, at worst.")
@click.option("--timeout", type=ABOVE_ZERO, default=120.0, help="Seconds a call.")
@click.option(
    "--retry-unreadable",
    type=click.IntRange(0, 10),
    default=0,
    help="Repeats of a question when its answer cannot be read.",
)
@batch_option
@click.option("--wait/--no-wait", default=True, help="Wait for a batch to end.")
@click.option("--poll", type=ABOVE_ZERO, default=30.0, help="Seconds between two looks at a batch.")
@click.option("--attempts", type=click.IntRange(1, 20), default=6, help="Requests a call at most.")
def run(
    *, max_cost: str | None, max_calls: int | None, timeout: float, batch: bool, wait: bool, poll: float, **options: Any
) -> None:
    """Put to the judge the questions without a stored answer, and store its verdicts.

    The template decides the question: which of two responses is better, in both orders; how all models' responses rank,
    in a drawn order and its reverse; or how good each one is. An answer that was received is in the ledger and never
    paid for again; the same command goes on after an interruption.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    from rlhf_bench.judge.client import Limits
    from rlhf_bench.report.screen import judge_text

    limits = Limits(**{name: options.pop(name) for name in LIMITS})
    with _prepare(options, timeout=timeout) as judging:
        if batch:
            judging.run_batch(max_cost=max_cost, max_calls=max_calls, wait=wait, poll=poll, progress=make_progress())
        else:
            judging.run(max_cost=max_cost, max_calls=max_calls, limits=limits, progress=make_progress())
        click.echo(judge_text(judging.folder, judge=judging.judge, **judging.form.names), nl=False)
        if waiting := judging.in_flight():
            click.echo(f"{waiting} calls are in a batch; the same command collects it")
        click.echo(f"tables and page: rlhf-bench report {judging.folder}")


@judge.command(
    "show",
    examples=["rlhf-bench judge show hh-test/default", "rlhf-bench judge show"],
)
@click.argument("result", required=False)
@results_option
def show(result: str | None, results: Path) -> None:
    """Print the win rates and ratings that are stored, and how far to trust the judge.

    RESULT is a folder, <suite>/<run>, or a run; without it, the result evaluated last.
    """
    folder = find_result(result, results)

    from rlhf_bench.report.screen import judge_text

    click.echo(judge_text(folder), nl=False)


def _prepare(options: dict[str, Any], *, timeout: float = 120.0) -> JudgeRun:
    folder = find_result(options.pop("result"), options["results"])

    from rlhf_bench.judge.run import prepare

    path = ledger_path(options.pop("ledger_file"), options["results"])
    return prepare(folder, ledger_path=path, timeout=timeout, **options)


judge.add_command(label)
judge.add_command(import_)
judge.add_command(ledger)
