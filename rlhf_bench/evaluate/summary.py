"""Makes every Estimate of metrics.json from a table of per-response scores.

Within a seed, a prompt's samples are averaged and prompts are resampled. Over several seeds prompts are crossed with
seeds; differences of models are taken within a seed first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.analyses.alarms import checks_made, find_alarms
from rlhf_bench.evaluate.analyses.equal_kl import equal_kl
from rlhf_bench.evaluate.analyses.gain import Gain, split_gains
from rlhf_bench.evaluate.analyses.over_optimisation import over_optimisation
from rlhf_bench.evaluate.analyses.tradeoff import HYPERVOLUME_KL, tradeoffs
from rlhf_bench.scorers import METRICS, Metric, describe, found_metrics
from rlhf_bench.scorers.reward import add_reward_z
from rlhf_bench.scorers.rules import suite_metrics
from rlhf_bench.stats import (
    Difference,
    FloatArray,
    crossed,
    crossed_difference,
    crossed_ratio,
    crossed_share,
    crossed_share_difference,
    crossed_std,
    holm,
    share_difference,
)
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import BY_REFERENCE, ScoreTable, score_table
from rlhf_bench.types import REFERENCE, Estimate

NO_MODEL = "the data's own responses, not sampled from a model"
NOT_POOLED = "each seed has a reward model of its own scale: see reward_z, or the seeds one by one"
NOT_AVAILABLE = "not available"
OTHER_COUNTS = "their tokens are counted by different tokenizers; n_words is not"

_RAW = {metric.standardises for metric in METRICS.values() if metric.standardises}  # in units of a seed's reward model


def summarize(
    scores: pd.DataFrame,
    *,
    reference: str,
    seed: int = 0,
    reasons: Mapping[tuple[str, str], str] | None = None,
    hypervolume_kl: float = HYPERVOLUME_KL,
) -> dict[str, Any]:
    """The keys "models", "per_seed", "pairwise", "tradeoff", "over_optimisation", "equal_kl", "gain", "alarms",
    "alarm_checks" and "missing" of metrics.json.

    Estimates are dicts. `scores`: one row per response, keyed by model, seed, prompt_id and sample, with any columns
    that metrics are made from; others are left alone. `reward_z` is computed from `reward`. `reasons`: (model, column)
    -> why it is not there. A pair (a, b) has the later model first, so a difference reads as what the later one gained.
    `seed` is that of resampling alone; `hypervolume_kl` is the suite's.

    Raises UnknownName if the reference has no row, DataError for missing keys or rows that occur twice.
    """
    if "reward" in scores.columns:
        scores = add_reward_z(scores, reference)
    metrics = found_metrics([str(column) for column in scores.columns])
    table = score_table(scores, [*dict.fromkeys(c for metric in metrics for c in metric.sources)])
    if len(table.seeds) == 1:  # of one seed reward_z_std is reward_std by a constant
        metrics = [metric for metric in metrics if not (metric.kind == "std" and metric.standardises)]
    pooled, per_seed, missing = _estimates(table, metrics, reference, seed)
    missing |= _explained(pooled, missing, metrics, reasons or {})
    missing |= _other_counts(table, reference)
    gains, no_gains = _gains(scores, table, reference, seed)
    missing |= no_gains
    splits = {gain.model: gain.split for gain in gains if gain.metric == "reward_z"}
    alarms = find_alarms(table, reference=reference, splits=splits, seed=seed)
    return {
        "models": pooled,
        "per_seed": per_seed,
        "pairwise": list(_pairwise(table, metrics, reference, seed)),
        "tradeoff": list(tradeoffs(table, reference=reference, kl_limit=hypervolume_kl, seed=seed)),
        "over_optimisation": list(over_optimisation(table, reference=reference, seed=seed)),
        "equal_kl": list(equal_kl(table, reference=reference, seed=seed)),
        "gain": [gain.to_dict() for gain in gains],
        "alarms": [alarm._asdict() for alarm in alarms],
        "alarm_checks": checks_made(table, reference=reference),
        "missing": [{"model": model, "metric": name, "reason": reason} for (model, name), reason in missing.items()],
    }


def _gains(scores: pd.DataFrame, table: ScoreTable, reference: str, seed: int) -> tuple[list[Gain], Reasons]:
    """Where the gains came from, and why that is not known of the reference's metrics."""
    found = list(split_gains(scores, reference=reference, models=table.models, seed=seed))
    gains = [one for one in found if isinstance(one, Gain)]
    reasons = [str(one) for one in found if isinstance(one, BadValue)]  # the same of each reward
    return gains, {(reference, "gain"): reasons[0]} if reasons else {}


Estimates = dict[str, dict[str, Any]]  # model -> metric -> Estimate, as a dict
Reasons = dict[tuple[str, str], str]  # (model, metric) -> why it is missing


def _estimates(
    table: ScoreTable, metrics: Sequence[Metric], reference: str, seed: int
) -> tuple[Estimates, dict[str, Estimates], Reasons]:
    """The estimates pooled over seeds, those of each seed, and which are missing."""
    one_seed = len(table.seeds) == 1
    pooled: Estimates = {model: {} for model in table.models}
    per_seed: dict[str, Estimates] = {str(s): {m: {} for m in table.models} for s in table.seeds}
    missing: Reasons = {}
    for model in table.models:
        for metric in metrics:
            found = {
                str(s): estimate
                for i, s in enumerate(table.seeds)
                if (estimate := _estimate(table, model, metric, slice(i, i + 1), reference, seed)).n
            }
            for name, estimate in found.items():
                per_seed[name][model][metric.name] = estimate.to_dict()
            if not found:
                if not metric.detail:
                    absent = metric.needs_model and model in ANCHORS
                    missing[model, metric.name] = NO_MODEL if absent else NOT_AVAILABLE
            elif not one_seed and metric.name in _RAW:
                missing[model, metric.name] = NOT_POOLED
            else:
                estimate = next(iter(found.values()))
                if not one_seed:
                    estimate = _estimate(table, model, metric, slice(None), reference, seed)
                if estimate.n:
                    pooled[model][metric.name] = estimate.to_dict()
                else:
                    missing[model, metric.name] = "no prompt has a value under every seed"
    return pooled, per_seed, missing


def _explained(
    pooled: Estimates, missing: Reasons, metrics: Sequence[Metric], reasons: Mapping[tuple[str, str], str]
) -> Reasons:
    """The reasons that are known, by metric: of what is listed as missing, and of what the summary has a column for."""
    columns = [column for _, column in reasons]
    known = {metric.name: metric for metric in [*metrics, *found_metrics(columns)]}
    listed = {metric.name for metric in metrics if not metric.detail}
    explained: Reasons = {}
    for model, cells in pooled.items():
        for name, metric in known.items():
            why = next((reasons[model, c] for c in metric.sources if (model, c) in reasons), None)
            if why is None or name in cells or missing.get((model, name)) == NOT_POOLED:
                continue
            if name in listed or "summary" in metric.tables:
                explained[model, name] = why
    return explained


def _estimate(table: ScoreTable, model: str, metric: Metric, seeds: slice, reference: str, seed: int) -> Estimate:
    """One number of one model, from the (S, P, K) responses of `seeds`."""
    applies = _applies(table, metric.name)
    blocks = [table.block(model, column)[seeds][:, applies] for column in metric.sources]
    if metric.name in BY_REFERENCE:
        estimate = crossed(table.cells(model, metric.name, reference)[seeds], seed=seed)
        return _own_scale(estimate, 0.0) if model == reference else estimate
    if metric.kind == "std" and metric.standardises:
        by = table.block(reference, metric.sources[0])[seeds][:, applies]
        estimate = crossed_std(blocks[0], reference=by, seed=seed)
        return _own_scale(estimate, 1.0) if model == reference else estimate
    if metric.kind == "share":
        return crossed_share(blocks[0], seed=seed)
    if metric.paired:
        return crossed_share_difference(blocks[0], seed=seed).clip(metric.bounds)
    if metric.kind == "std":
        return crossed_std(blocks[0], seed=seed)
    cells = [nanmean(block, axis=2) for block in blocks]  # (S, P)
    if metric.kind == "perplexity":
        return crossed_ratio(-cells[0], cells[1], exponentiate=True, seed=seed)
    if metric.kind == "bits_per_byte":
        return crossed_ratio(-cells[0] / math.log(2), cells[1], seed=seed)
    estimate = crossed(cells[0], seed=seed)
    return estimate.clip(metric.bounds)


def _own_scale(estimate: Estimate, value: float) -> Estimate:
    """The reference's number on the scale that its own responses define: known, not estimated."""
    if not estimate.n:
        return estimate
    return replace(estimate, value=value, low=value, high=value, method=REFERENCE, kurtosis=None)


def metric_difference(name: str, a: FloatArray, b: FloatArray, *, seed: int = 0) -> Difference:
    """a - b of a metric's (S, P, K) responses, paired by seed and prompt: of shares, or of means within their range."""
    metric = describe(name)
    if metric.kind == "share":
        return share_difference(a, b, seed=seed)
    found = crossed_difference(nanmean(a, axis=2), nanmean(b, axis=2), seed=seed)
    if metric.bounds is None:
        return found
    low, high = metric.bounds
    return replace(found, estimate=found.estimate.clip((low - high, high - low)))


def _applies(table: ScoreTable, name: str) -> npt.NDArray[np.bool_] | slice:
    """The prompts that a metric applies to: of a suite's metric of some of its prompts the others are not missing."""
    if not suite_metrics([name]):
        return slice(None)
    of_models = [np.isfinite(block).any(axis=(0, 2)) for block in table.blocks[name].values()]  # (P,) each
    return np.asarray(np.any(of_models, axis=0))


def _other_counts(table: ScoreTable, reference: str) -> dict[tuple[str, str], str]:
    """Why tokens of two models are not compared; the later model first, as in the pairs."""
    players = [model for model in table.models if model not in ANCHORS]
    return {
        (f"{a} - {b}", "n_tokens"): OTHER_COUNTS
        for b, a in combinations(players, 2)
        if "n_tokens" in table.blocks and not table.counts_alike(a, b, reference)
    }


def _pairwise(table: ScoreTable, metrics: Sequence[Metric], reference: str, seed: int) -> Iterator[dict[str, Any]]:
    """One row per metric and pair of models, the later model first; Holm over the pairs within a metric (`p_holm`), and
    over all rows (`p_table`)."""
    standardised = {metric.name for metric in metrics if metric.standardises}
    own_scale = _RAW if len(table.seeds) > 1 else standardised  # the rewards that are not compared
    players = [model for model in table.models if model not in ANCHORS]
    within: list[dict[str, Any]] = []
    for name in (metric.name for metric in metrics if metric.compared and metric.name not in own_scale):
        applies = _applies(table, name)
        blocks = {model: table.block(model, name)[:, applies] for model in players}
        if name in BY_REFERENCE:
            blocks = {model: table.cells(model, name, reference)[..., None] for model in players}
        rows = [
            row
            for earlier, later in combinations(players, 2)
            if (name != "n_tokens" or table.counts_alike(later, earlier, reference))
            and (row := _pair(table, name, later, earlier, blocks[later], blocks[earlier], seed))
        ]
        for row, p in zip(rows, holm([row["p_paired"] for row in rows]), strict=True):
            within.append({**row, "p_holm": p})
    for row, p in zip(within, holm([row["p_paired"] for row in within]), strict=True):
        yield {**row, "p_table": p}


def _pair(
    table: ScoreTable, name: str, a: str, b: str, x: FloatArray, y: FloatArray, seed: int
) -> dict[str, Any] | None:
    """a minus b from their (S, P, K) responses, or None where they share no prompt."""
    found = metric_difference(name, x, y, seed=seed)
    if not found.estimate.n:
        return None
    within = {str(table.seeds[0]): found.estimate}
    if len(table.seeds) > 1:
        within = {
            str(s): metric_difference(name, x[i : i + 1], y[i : i + 1], seed=seed).estimate
            for i, s in enumerate(table.seeds)
        }
    return {
        "metric": name,
        "a": a,
        "b": b,
        "difference": found.estimate.to_dict(),
        "p_paired": found.p_paired,
        "p_wilcoxon": found.p_wilcoxon,
        "effect": found.effect,
        "detectable": found.detectable,
        "per_seed": {s: estimate.to_dict() for s, estimate in within.items() if estimate.n},
    }
