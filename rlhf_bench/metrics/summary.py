"""From a table of per-response scores to every Estimate of metrics.json.

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

from rlhf_bench.metrics.alarms import find_alarms
from rlhf_bench.metrics.curves import over_optimisation
from rlhf_bench.metrics.equal_kl import equal_kl
from rlhf_bench.metrics.registry import (
    COMPARED,
    GOLD_PREFIX,
    METRICS,
    READ_PREFIXES,
    REWARD_PREFIX,
    Metric,
    describe,
    probe_names,
    reader_columns,
)
from rlhf_bench.metrics.table import ScoreTable, add_reward_z, score_table
from rlhf_bench.metrics.tradeoff import HYPERVOLUME_KL, tradeoffs
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
from rlhf_bench.types import Estimate

__all__ = [
    "NOT_AVAILABLE",
    "NOT_POOLED",
    "NO_MODEL",
    "OTHER_COUNTS",
    "add_reward_z",
    "metric_difference",
    "summarize",
]

NO_MODEL = "the data's own responses, not sampled from a model"
ITSELF = "it is the text that the others are compared with"
NOT_POOLED = "each seed has a reward model of its own scale: see reward_z, or the seeds one by one"
NOT_AVAILABLE = "not available"
OTHER_COUNTS = "their tokens are counted by different tokenizers; n_words is not"

_RAW = ("reward", "reward_std")  # in units of one seed's reward model
_OF_SEVERAL = "reward_z_std"  # of one seed it is reward_std by a constant


def summarize(
    scores: pd.DataFrame,
    *,
    reference: str,
    seed: int = 0,
    level: float = 0.95,
    models: Sequence[str] = (),
    reasons: Mapping[tuple[str, str], str] | None = None,
    hypervolume_kl: float = HYPERVOLUME_KL,
) -> dict[str, Any]:
    """The keys "models", "per_seed", "pairwise", "tradeoff", "over_optimisation", "equal_kl", "alarms" and "missing" of
    metrics.json.

    Estimates are dicts. `scores`: a row a response, keyed by model, seed, prompt_id and sample, with any of the columns
    that METRICS names; others are left alone. `reward_z` is computed anew from `reward`. `models` gives the order of
    models that are no stage of training. `reasons` says why a (model, metric) has no value. A pair (a, b)
    has the later model first, so a difference reads as what the later one gained. `seed` sets the resampling alone;
    `hypervolume_kl` is the suite's.

    Raises UnknownName if the reference has no row, DataError for missing keys or rows that occur twice.
    """
    if "reward" in scores.columns:
        scores = add_reward_z(scores, reference)
    metrics = _metrics(scores)
    columns = dict.fromkeys(column for metric in metrics for column in metric.sources)
    table = score_table(scores, list(columns), models=models)
    one_seed, one = len(table.seeds) == 1, str(table.seeds[0])
    metrics = [metric for metric in metrics if not one_seed or metric.name != _OF_SEVERAL]

    pooled: dict[str, dict[str, Any]] = {model: {} for model in table.models}
    per_seed: dict[str, dict[str, dict[str, Any]]] = {str(s): {m: {} for m in table.models} for s in table.seeds}
    missing: dict[tuple[str, str], str] = {}
    for model in table.models:
        for metric in metrics:
            found = {
                str(s): estimate
                for i, s in enumerate(table.seeds)
                if (estimate := _estimate(table, model, metric, slice(i, i + 1), level, seed)).n
            }
            for name, estimate in found.items():
                per_seed[name][model][metric.name] = estimate.to_dict()
            if not found and metric.unit in ("precision", "recall"):
                continue  # said of ROUGE's F already
            if not found:
                missing[model, metric.name] = _default_reason(model, metric)
            elif not one_seed and metric.name in _RAW:
                missing[model, metric.name] = NOT_POOLED
            else:
                # one seed alone is what would be pooled
                estimate = found[one] if one_seed else _estimate(table, model, metric, slice(None), level, seed)
                if estimate.n:
                    pooled[model][metric.name] = estimate.to_dict()
                else:
                    missing[model, metric.name] = "no prompt has a value under every seed"
    for (model, name), reason in (reasons or {}).items():
        if model in pooled and name not in pooled[model] and missing.get((model, name)) != NOT_POOLED:
            missing[model, name] = reason
    missing |= _other_counts(table, reference)
    return {
        "models": pooled,
        "per_seed": per_seed,
        "pairwise": list(_pairwise(table, [metric.name for metric in metrics], reference, level, seed)),
        "tradeoff": list(tradeoffs(table, reference=reference, kl_limit=hypervolume_kl, level=level, seed=seed)),
        "over_optimisation": list(over_optimisation(table, reference=reference, level=level, seed=seed)),
        "equal_kl": list(equal_kl(table, reference=reference, level=level, seed=seed)),
        "alarms": [alarm._asdict() for alarm in find_alarms(table, reference=reference, level=level, seed=seed)],
        "missing": [{"model": model, "metric": name, "reason": reason} for (model, name), reason in missing.items()],
    }


def _metrics(scores: pd.DataFrame) -> list[Metric]:
    """The metrics whose columns are there: further rewards after the first, gold components by name after the gold.

    What a suite asks of its own prompts stands last, in the suite's order.
    """
    probes = probe_names(str(c) for c in scores.columns)
    names = [*(name for name in METRICS if name not in probes), *_read(scores), *probes]
    after_reward = names.index("reward_z") + 1
    names[after_reward:after_reward] = [str(c) for c in scores.columns if str(c).startswith(REWARD_PREFIX)]
    after_gold = names.index("gold") + 1
    names[after_gold:after_gold] = sorted(str(c) for c in scores.columns if str(c).startswith(GOLD_PREFIX))
    found = [describe(name) for name in names]
    return [metric for metric in found if all(column in scores.columns for column in metric.sources)]


def _read(scores: pd.DataFrame) -> list[str]:
    """What language models say of every response, a model after the other."""
    first = reader_columns("")[0]
    models = [str(c).removeprefix(first) for c in scores.columns if str(c).startswith(first)]
    return [f"{prefix}{model}" for model in models for prefix in READ_PREFIXES]


def _default_reason(model: str, metric: Metric) -> str:
    if model == "chosen" and metric.name.startswith("rouge"):
        return ITSELF
    return NO_MODEL if metric.needs_model and model in ANCHORS else NOT_AVAILABLE


def _estimate(table: ScoreTable, model: str, metric: Metric, seeds: slice, level: float, seed: int) -> Estimate:
    """One number of one model, from the (S, P, K) responses of the seeds asked for."""
    asked = _asked(table, metric.name)
    blocks = [table.block(model, column)[seeds][:, asked] for column in metric.sources]
    if metric.kind == "share":
        return crossed_share(blocks[0], level=level, seed=seed)
    if metric.paired:
        return crossed_share_difference(blocks[0], level=level, seed=seed).clip(metric.bounds)
    if metric.kind == "std":
        return crossed_std(blocks[0], level=level, seed=seed)
    cells = [nanmean(block, axis=2) for block in blocks]  # (S, P)
    if metric.kind == "perplexity":
        return crossed_ratio(-cells[0], cells[1], exponentiate=True, level=level, seed=seed)
    if metric.kind == "bits_per_byte":
        return crossed_ratio(-cells[0] / math.log(2), cells[1], level=level, seed=seed)
    estimate = crossed(cells[0], level=level, seed=seed)
    return estimate.clip(metric.bounds)


def metric_difference(name: str, a: FloatArray, b: FloatArray, *, level: float = 0.95, seed: int = 0) -> Difference:
    """a - b of a metric's (S, P, K) responses, paired by seed and prompt: of shares, or of means within their range."""
    metric = describe(name)
    if metric.kind == "share":
        return share_difference(a, b, level=level, seed=seed)
    found = crossed_difference(nanmean(a, axis=2), nanmean(b, axis=2), level=level, seed=seed)
    return replace(found, estimate=found.estimate.clip(_of_difference(metric.bounds)))


def _of_difference(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """Between what the difference of two numbers of this range lies."""
    return None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])


def _asked(table: ScoreTable, name: str) -> npt.NDArray[np.bool_] | slice:
    """The prompts that a metric applies to: for what a suite asks of some of its prompts the others are not missing."""
    if not probe_names([name]):
        return slice(None)
    return np.asarray(np.isfinite(table.blocks[name]).any(axis=(0, 1, 3)))


def _other_counts(table: ScoreTable, reference: str) -> dict[tuple[str, str], str]:
    """Why tokens of two models are not compared; the later model first, as in the pairs."""
    players = [model for model in table.models if model not in ANCHORS]
    return {
        (f"{a} - {b}", "n_tokens"): OTHER_COUNTS
        for b, a in combinations(players, 2)
        if "n_tokens" in table.blocks and not table.counts_alike(a, b, reference)
    }


def _pairwise(
    table: ScoreTable, names: Sequence[str], reference: str, level: float, seed: int
) -> Iterator[dict[str, Any]]:
    """A row a metric and pair of models, the later model first; Holm over the pairs within a metric (`p_holm`), and
    over all rows (`p_table`)."""
    own_scale = "reward" if len(table.seeds) > 1 else "reward_z"  # the reward that is not compared
    players = [model for model in table.models if model not in ANCHORS]
    compared = [*COMPARED, *(name for name in names if name.startswith(REWARD_PREFIX)), *probe_names(names)]
    within: list[dict[str, Any]] = []
    for name in (n for n in compared if n in names and n != own_scale):
        asked = _asked(table, name)
        blocks = {model: table.block(model, name)[:, asked] for model in players}
        rows = [
            row
            for earlier, later in combinations(players, 2)
            if (name != "n_tokens" or table.counts_alike(later, earlier, reference))
            and (row := _pair(table, name, later, earlier, blocks[later], blocks[earlier], level, seed))
        ]
        for row, p in zip(rows, holm([row["p_paired"] for row in rows]), strict=True):
            within.append({**row, "p_holm": p})
    for row, p in zip(within, holm([row["p_paired"] for row in within]), strict=True):
        yield {**row, "p_table": p}


def _pair(
    table: ScoreTable, name: str, a: str, b: str, x: FloatArray, y: FloatArray, level: float, seed: int
) -> dict[str, Any] | None:
    """a minus b from their (S, P, K) responses, or None where they share no prompt."""
    found = metric_difference(name, x, y, level=level, seed=seed)
    if not found.estimate.n:
        return None
    within = {str(table.seeds[0]): found.estimate}
    if len(table.seeds) > 1:
        within = {
            str(s): metric_difference(name, x[i : i + 1], y[i : i + 1], level=level, seed=seed).estimate
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
