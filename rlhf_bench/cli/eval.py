"""rlhf-bench eval"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rlhf_bench.cli.base import (
    COUNT,
    PATH,
    POSITIVE,
    bench_command,
    checkpoints_option,
    current_processes,
    make_progress,
    results_option,
)
from rlhf_bench.cli.eval_given import request_fields
from rlhf_bench.cli.eval_judge import EvalJudge, judge_options
from rlhf_bench.cli.results import find_result, remember_result
from rlhf_bench.errors import BadValue, ModelError, UsageError
from rlhf_bench.runtime.processes import fsdp_is_configured

GROUPS = {
    "Inputs": [
        "--suite", "--run", "--model", "--curve", "--responses", "--columns", "--strip", "--data", "--split", "--limit",
        "--skip-bad", "--from", "--checkpoints",
    ],
    "Sampling": ["--prompt-template", "--samples", "--best-of-n", "--frontier", "--seed", "--set"],
    "Scoring": ["--reference", "--reward-model", "--perplexity-model"],
    "Judge": ["--judge", "--base-url", "--max-cost", "--max-calls", "--annotations", "--difficulty"],
    "Output": ["--results", "--force"],
}  # fmt: skip


@bench_command(
    "eval",
    context_settings={"allow_extra_args": True},
    groups=GROUPS,
    keeps="what was finished is kept",
    examples=[
        "rlhf-bench eval --suite safety --run default --limit 50",
        "rlhf-bench eval --responses mine=outputs.jsonl --responses theirs=model_outputs.json",
    ],
)
@click.option(
    "--suite", help="What to evaluate on: rlhf-bench list suites.  [default: hh-test; responses for files alone]"
)
@click.option(
    "--run",
    metavar="NAME",
    help="The run to evaluate.  [default: default; none for --responses, or --model with --data]",
)
@click.option(
    "--model",
    "models",
    metavar="NAME=PATH",
    multiple=True,
    help="One more model: a folder, an adapter, a hub name, with @REVISION if need be, or server:MODEL, a model of "
    "--base-url, with ,weights=PATH for its KL. {seed} in a path is the number of each of the run's seeds.",
)
@click.option(
    "--curve",
    "curves",
    metavar="NAME=GLOB",
    multiple=True,
    help="Checkpoints of one method, such as grpo='checkpoints/default/grpo-steps/*': each becomes a model "
    "NAME@FOLDER, and together a curve of reward against KL. {seed} in the path is the number of each of the "
    "run's seeds.",
)
@click.option(
    "--prompt-template",
    "templates",
    metavar="[NAME=]TEMPLATE",
    multiple=True,
    help="Template of the prompts of --model, or with NAME= of a --reward-model or --perplexity-model: hh, plain, "
    "alpaca, chatml, llama2, chat (the tokenizer's own), or pair (of reward models: an encoder's two texts).  "
    "[default: that of its training.json; without one chat where the tokenizer has a template, else hh]",
)
@click.option(
    "--responses",
    metavar="[NAME=]FILE",
    multiple=True,
    help="Responses written elsewhere: jsonl, json, csv, parquet or xlsx, of one model or several.",
)
@click.option(
    "--columns",
    metavar="ROLE=NAME,...",
    help="Columns of the response files, where they are not recognised: prompt, response, reference, model.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out rows of response files and of --data that cannot be used.")
@click.option(
    "--strip",
    metavar="KIND,...",
    help="Take out of the responses of files: prompt (repeated at the beginning), think (blocks of thought), special "
    "(special tokens as text).",
)
@click.option(
    "--reference",
    metavar="NAME",
    help="The model that KL is taken to.  [default: the suite's; without a run the first given]",
)
@click.option(
    "--reward-model",
    "reward_models",
    metavar="[NAME=]PATH",
    multiple=True,
    help="A reward model in place of the run's own; further ones score beside the first.",
)
@click.option(
    "--perplexity-model",
    "perplexity_models",
    metavar="NAME=PATH",
    multiple=True,
    help="A causal language model, as for --model, that scores every response, of files too: its perplexity, and bits "
    "per byte.",
)
@click.option("--data", metavar="SOURCE", help="Prompts from here.  [default: the data the run was trained on]")
@click.option(
    "--split",
    metavar="NAME",
    help="Split of the data: train, validation, test, all; of hh-mini also test_unseen and test_new.  [default: the "
    "suite's; all of a file of --data that the run was not trained on]",
)
@click.option("--limit", type=POSITIVE, help="At most this many prompts.")
@click.option("--samples", type=POSITIVE, help="Responses a prompt.  [default: the suite's]")
@click.option(
    "--best-of-n",
    metavar="N",
    type=COUNT,
    help="Sample the reference N times a prompt, such as 64, and show what choosing the best of n gives; 0: do not.  "
    "[default: the suite's]",
)
@click.option(
    "--frontier",
    metavar="N",
    type=COUNT,
    help="Sample the reference N times a prompt, such as 64, and estimate the most reward that is possible at each KL, "
    "and each model's share of it; 0: do not.  [default: the suite's]",
)
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of the suite's file, such as --set wording=natural or --set top_p=0.9.",
)
@click.option(
    "--seed",
    type=COUNT,
    help="Seed of the choice of prompts, of the sampling and of the bootstrap.  [default: the suite's]",
)
@click.option(
    "--from",
    "manifest",
    metavar="MANIFEST",
    type=PATH,
    help="Repeat the evaluation of a manifest.json; no other option about what is evaluated is taken. Its judge judges "
    "again if it is built in; for one of a server give --judge and its limit again.",
)
@judge_options
@click.option(
    "--annotations",
    metavar="FILE",
    type=PATH,
    help="Only print what AlpacaEval's annotations.json holds: win rate, standard error and counts as AlpacaEval 2, "
    "and the rate at equal length; or the tables of Arena-Hard's or MT-Bench's judgments.",
)
@click.option(
    "--difficulty",
    "difficulties",
    metavar="FILE",
    multiple=True,
    type=PATH,
    help="With --annotations: AlpacaEval 2's length-controlled win rate, by these difficulties of its instructions "
    "(index, value), its df_gamed.csv, or annotations that hold its glm_preference.",
)
@click.option("--force", is_flag=True, help="Evaluate again what is stored already; the old result is kept until then.")
@checkpoints_option
@results_option
def evaluate(
    *,
    manifest: Path | None,
    annotations: Path | None,
    difficulties: tuple[Path, ...],
    force: bool,
    results: Path,
    **options: Any,
) -> None:
    """Evaluate checkpoints and responses side by side.

    A run's checkpoints, other models, and responses that were written elsewhere, on the same prompts. What is stored
    already is reused; tables, plots and a report page are written beside it. Under torchrun or accelerate launch
    several processes divide the work and give the same rows (docs/processes.md).
    """
    _refuse_argument(click.get_current_context().args, results)
    judge = {name: options.pop(name) for name in ("judge", "base_url", "max_cost", "max_calls")}
    caps: dict[str, Any] = {}
    if any(str(given).partition("=")[2].startswith("server:") for given in options["models"]):
        options["model_url"] = judge["base_url"]
        caps = {name: judge[name] for name in ("max_cost", "max_calls")}
        if judge["judge"] is None:
            judge = dict.fromkeys(judge)
    checkpoints = options.pop("checkpoints")
    given = request_fields(options | {"base_url": options.pop("model_url", None)})
    if annotations is not None:
        if manifest or judge["judge"] or judge["max_cost"] or any(given.values()):
            raise BadValue("--annotations: given with options about what is evaluated; expected it alone")
        from rlhf_bench.annotations.alpaca import annotations_text

        click.echo(annotations_text(annotations, difficulty=difficulties))
        return
    if difficulties:
        raise BadValue("--difficulty: given without --annotations, of which it controls the length; give both")
    from rlhf_bench.evaluate.request import Request, read_request
    from rlhf_bench.evaluate.run import run_request
    from rlhf_bench.report import write_report
    from rlhf_bench.report.index import write_index

    if manifest is None:
        request, key = Request.of(**given, checkpoints=checkpoints), None
    else:
        if any(given.values()):
            raise BadValue("--from: given with other options about what is evaluated; expected it alone")
        request, key = read_request(manifest)
    progress = make_progress()
    judging = EvalJudge.of(judge.pop("judge"), **judge)
    if judging is None:
        judging = EvalJudge.again(request.judge, progress)  # none but of a manifest
    else:
        request = request.model_copy(update={"judge": judging.manifest_entry})
    processes = current_processes()
    if processes.size > 1 and fsdp_is_configured():
        raise BadValue(
            "eval: accelerate's configuration sets FSDP, but an evaluation holds whole models in each process; "
            "expected distributed_type: MULTI_GPU, as in docs/accelerate/one-node.yaml"
        )
    result = run_request(
        request, force=force, results=results, expected=key, progress=progress, processes=processes, **caps
    )
    if not processes.is_first:
        return
    if judging is not None:
        judging.judge(result, results=results, progress=progress)
    if not _is_drawn(result):
        progress.log("drawing tables, plots and the report page")
        write_report(result)
    write_index(results)
    remember_result(result)
    print_result(result)
    _report_failed(result)


def _report_failed(result: Path) -> None:
    """Raise ModelError where a model could not be evaluated, so that the exit status is not 0."""
    from rlhf_bench.store import ResultStore

    failed = ResultStore(result).read_metrics().get("failed", [])
    if failed:
        names = ", ".join(dict.fromkeys(str(one["model"]) for one in failed))
        raise ModelError(
            f"{names}: could not be evaluated, and the others were: {failed[0]['reason']}; put that right and evaluate "
            "again with --force"
        )


def _refuse_argument(given: Sequence[str], results: Path) -> None:
    """Raise BadValue where anything is given that is no option, with what shows it if it is a result."""
    if not given:
        return
    try:
        find_result(given[0], results)
    except UsageError:
        advice = "give what is evaluated as options; see: rlhf-bench eval --help"
    else:
        advice = f"it is a result, which is shown and drawn by: rlhf-bench report {given[0]}"
    raise BadValue(f"eval: given the argument {given[0]!r}, expected options alone; {advice}")


def _is_drawn(result: Path) -> bool:
    """True if the report is no older than the numbers and the judge's verdicts."""
    numbers, page = result / "metrics.json", result / "report.html"
    newer = [path for path in (numbers, result / "judge" / "judge.json") if path.is_file()]
    return page.is_file() and numbers in newer and all(page.stat().st_mtime >= path.stat().st_mtime for path in newer)


def print_result(result: Path) -> None:
    """The table, as wide as the terminal, a few lines under it, and the paths of plot, page and tables."""
    from rlhf_bench.report.screen import summary_text

    width = min(120, shutil.get_terminal_size(fallback=(120, 24)).columns)
    click.echo(summary_text(result, width=width).rstrip("\n"))
    click.echo()
    undrawn = f"not there; draw it with: rlhf-bench report {result}"
    missing = "none, it needs rewards and KL" if _is_drawn(result) else undrawn
    names = {"Pareto plot": "plots/reward_vs_kl.png", "report page": "report.html", "tables": "tables"}
    for label, path in ((label, result / name) for label, name in names.items()):
        click.echo(f"{label}: {path if path.exists() else missing}")
