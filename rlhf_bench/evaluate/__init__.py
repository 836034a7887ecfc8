"""Evaluate models and texts side by side: `evaluate(...)` gives an `Evaluation`, its tables and figures.

request    what is evaluated: enough to repeat it, and to see that it is stored already
plan       which models, texts, prompts and reward models that means; everything is checked here
           named_models: the run's models and those that are given
prompts    the prompts of data, of a suite or of response files; matching: those that files share
run        a model under a seed after the other, a shard of the prompts at a time
models     the models of one seed, each loaded once
responses  responses as rows; scoring: every number of each
collect    the results folder, made of what is stored
summary    every estimate of metrics.json; analyses: what compares models and curves
manifest   what a result is made of

This module is what notebooks import. It alone knows the report, since an Evaluation gives its tables and figures; the
modules beside it do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf_bench.progress import Progress
    from rlhf_bench.report.evaluation import Evaluation

__all__ = ["Evaluation", "evaluate"]


def evaluate(
    suite: str | None = None,
    *,
    force: bool = False,
    results: Path = Path("results"),
    progress: Progress | None = None,
    **request: Any,
) -> Evaluation:
    """Run a suite over a run's checkpoints, models and response files; gives what is stored, as frames and figures.

    A model other than the reference that cannot be evaluated is left out: `Evaluation.missing` says why.

    suite: a name or a YAML file; hh-test, or `responses` where the prompts are those of response files
    force: evaluate again what is stored already; the old result is kept until the new one is whole
    results: the folder of all results; another configuration gets a folder of its own below it
    request: what is evaluated, such as run="mini" or models={"mine": "path"}: the fields of `request.Request`

    Raises:
        UsageError: an unknown suite, model, field or value.
        CheckpointError: a checkpoint that is missing, damaged or stale.
        DataError: data or a response file that cannot be used.
        StoreError: the results folder cannot be written, or what it holds has lost rows.
    """
    from rlhf_bench.evaluate.request import Request
    from rlhf_bench.evaluate.run import run_request
    from rlhf_bench.report.evaluation import Evaluation

    made = Request.of(suite, **request)
    return Evaluation(run_request(made, force=force, results=Path(results), progress=progress))


def __getattr__(name: str) -> Any:
    """`Evaluation`, when it is first used: the modules beside this one are imported without the report."""
    if name == "Evaluation":
        from rlhf_bench.report.evaluation import Evaluation

        return Evaluation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
