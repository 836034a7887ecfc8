"""The results folder, made of the parts that are stored.

The numbers of all responses are held together, for the statistics; their texts and the terms of their tokens, which are
most of the bytes, pass through a shard at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.analyses.best_of_n import best_of_n_curve, best_of_n_fit, probability_held
from rlhf_bench.evaluate.analyses.cuts import CUT_CHECK, Cut, cut_alarms, find_cuts
from rlhf_bench.evaluate.analyses.frontier import ABOVE, frontier_alarms, frontier_curve
from rlhf_bench.evaluate.analyses.phrases import CHECK, Texts, phrase_alarms
from rlhf_bench.evaluate.plan import Plan
from rlhf_bench.evaluate.sources import ModelSource, RewardModelSource
from rlhf_bench.evaluate.summary import summarize
from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.scorers import SCORERS
from rlhf_bench.scorers.base import CUT, Corpus, Missing
from rlhf_bench.scorers.kl import KL_COLUMNS
from rlhf_bench.scorers.perplexity import PERPLEXITY_PREFIXES, language_model_columns
from rlhf_bench.scorers.reward import add_reward_z, reward_scales, with_reward_z
from rlhf_bench.scorers.rouge import LEFT_OUT, ROUGE_PARTS, UNICODE, UNSEEN
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.store import ANCHORS, PartStore, ResultStore
from rlhf_bench.store.parts import LISTS

TEXTS = 500  # texts of a corpus at most: its numbers depend on how many there are
INEXACT = "sampled at another temperature than 1, or from the likeliest tokens alone: KL is not to what is sampled"
# Columns that are no scores, like those that begin with CUT.
NO_SCORES = ("prompt", "response", "reference", "finish_reason", "n_prompt_tokens", LEFT_OUT)


Shards = Mapping[str, Sequence[list[str]]]  # "model", "anchor" or "pool" -> the shards of each such part


class Failed(NamedTuple):
    """A model that could not be evaluated under a seed."""

    model: str
    seed: int
    reason: str


def collect(
    store: ResultStore, parts: PartStore, plan: Plan, shards: Shards, failed: Sequence[Failed] = ()
) -> list[str]:
    """Write responses, scores, pool, training logs and, last of all, metrics; the parts are removed then.

    Returns what is to be logged of it: a line for whatever was too long and read in part.
    """
    stored = [*shards["model"], *shards["anchor"]]
    numbers, corpora, missing = with_corpus_numbers(parts, stored)
    rows = pd.concat(numbers, ignore_index=True)
    del numbers  # as large as the rows
    store.write_responses(chain.from_iterable(map(parts.responses, stored)))
    cuts, cuts_known = _cuts(plan, rows)
    marks, accuracies = _marks(plan, rows), _reward_accuracies(plan, rows)
    scores = _scores(rows)
    del rows  # as large as the scores
    summary = summarize(
        scores, reference=plan.reference, seed=plan.suite.seed, reasons=missing,
        hypervolume_kl=plan.suite.hypervolume_kl,
    )  # fmt: skip
    _add_phrases(summary, corpora, plan.reference)
    _write_scores(store, scores, parts, stored)
    _copy_logs(store, plan)
    if shards["pool"]:
        _add_pool(summary, store, plan, [parts.numbers(pool) for pool in shards["pool"]], scores)
    summary["cuts"] = [cut.text for cut in cuts]
    summary["alarms"] += [alarm._asdict() for alarm in cut_alarms(cuts)]
    summary["alarm_checks"] += [CUT_CHECK] if cuts_known else []
    which = {one: "everything" if len(plan.seeds) == 1 else f"seed {one.seed}" for one in failed}
    lacking = {(one.model, which[one]): one.reason for one in failed}
    store.write_metrics(
        {
            **summary,
            "missing": [*summary["missing"], *_rows(plan.missing | lacking)],
            "failed": [one._asdict() for one in failed],
            "training": training_costs(plan.models),
            "training_alarms": training_alarms(plan.models, plan.reward_models),
            "reward_model": accuracies,
            "marks": marks,
        }
    )
    parts.remove()
    return list(summary["cuts"])


def _add_pool(
    summary: dict[str, Any], store: ResultStore, plan: Plan, drawn: Sequence[pd.DataFrame], scores: pd.DataFrame
) -> None:
    """Add best of n and the frontier, from the pool of the reference's responses, which is written."""
    pool = with_reward_z(pd.concat(drawn, ignore_index=True), reward_scales(scores, plan.reference))
    store.write_pool(pool.dropna(axis=1, how="all"))
    standardised = add_reward_z(scores, plan.reference) if "reward_z" in pool else scores
    own = standardised[standardised["model"] == plan.reference]
    summary["best_of_n"] = best_of_n_curve(pool, own, seed=plan.suite.seed)
    summary["best_of_n_held"] = probability_held(pool)
    summary["over_optimisation"] += best_of_n_fit(pool, seed=plan.suite.seed)
    _add_frontier(summary, plan, pool, standardised)


def _cuts(plan: Plan, rows: pd.DataFrame) -> tuple[list[Cut], bool]:
    """What was too long and read in part, and whether that is known of any response."""
    sampling = plan.sampling
    limits = (sampling.max_prompt_tokens, sampling.max_new_tokens) if sampling else (None, None)
    known = any(str(name).startswith(CUT) and rows[name].notna().any() for name in rows)
    return find_cuts(rows, max_prompt=limits[0], max_response=limits[1]), known


def _scores(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that are scores and have a value: without a reward column nothing can be standardised; an all-NaN one
    is worse than none."""
    names = [name for name in rows.columns if name not in NO_SCORES and not name.startswith(CUT)]
    return rows[[name for name in names if rows[name].notna().any()]]


def _add_frontier(summary: dict[str, Any], plan: Plan, pool: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Add the frontier and its alarm, or why there is none. `scores` with reward_z where the pool has it."""
    try:
        if plan.sampling is not None and not plan.sampling.exact:
            raise BadValue(INEXACT)
        curve = frontier_curve(pool, scores, seed=plan.suite.seed)
    except BadValue as error:
        summary["missing"] += _rows({(plan.reference, "frontier"): str(error)})
        return
    summary["frontier"] = curve
    summary["alarms"] += [alarm._asdict() for alarm in frontier_alarms(curve)]
    if any(row["excess"] for row in curve["models"].values()):
        summary["alarm_checks"].append(ABOVE)


def _add_phrases(summary: dict[str, Any], corpora: Texts, reference: str) -> None:
    """Add the alarm of phrases, which needs the texts."""
    texts = {(model, seed): found for (model, seed), found in corpora.items() if model not in ANCHORS}
    seeds = {seed for model, seed in texts if model == reference}
    if any(model != reference and seed in seeds for model, seed in texts):
        summary["alarms"] += [alarm._asdict() for alarm in phrase_alarms(texts, reference=reference)]
        summary["alarm_checks"].append(CHECK)


def _rows(missing: Mapping[tuple[str, str], str]) -> list[dict[str, str]]:
    return [{"model": model, "metric": metric, "reason": reason} for (model, metric), reason in missing.items()]


def with_corpus_numbers(
    parts: PartStore, stored: Sequence[Sequence[str]]
) -> tuple[list[pd.DataFrame], dict[tuple[str, int], list[str]], dict[tuple[str, str], str]]:
    """The numbers of each part's responses, those of its texts together included; the texts; why columns are missing.

    The texts of a model and seed are the first responses to the first prompts, which are in the order of a hash; their
    numbers are on their rows, NaN elsewhere.
    """
    corpora = [list(islice(parts.first_responses(part), TEXTS)) for part in stored]
    sizes = [sum(len(text.encode()) for text in texts) for texts in corpora]
    n_bytes = min((size for size in sizes if size), default=0)
    numbers: list[pd.DataFrame] = []
    by_model: dict[tuple[str, int], list[str]] = {}
    missing: dict[tuple[str, str], str] = {}
    for part, texts in zip(stored, corpora, strict=True):
        rows = parts.numbers(part)
        model = str(rows["model"].iloc[0])
        by_model[model, int(rows["seed"].iloc[0])] = texts
        first = np.flatnonzero(rows["sample"] == 0)[:TEXTS]
        why = parts.missing(part)
        for name, values in chain.from_iterable(s.corpus(Corpus(texts, n_bytes)).items() for s in SCORERS):
            if isinstance(values, Missing):
                why[name] = values.reason
            else:
                rows[name] = np.nan
                rows.loc[first, name] = values
        missing |= {(model, column): reason for column, reason in why.items()}
        numbers.append(rows)
    return numbers, by_model, missing


def _write_scores(store: ResultStore, scores: pd.DataFrame, parts: PartStore, stored: Sequence[Sequence[str]]) -> None:
    """`scores` with the LISTS that are known, in their places among the columns."""
    order = dict.fromkeys(chain(chain.from_iterable(map(parts.columns, stored)), scores.columns))
    columns = [name for name in order if name in scores.columns or name in LISTS]
    groups = _groups(scores, columns, parts, [*chain.from_iterable(stored)])
    store.write_scores(scores, columns=columns, groups=groups)


def _groups(
    scores: pd.DataFrame, columns: Sequence[str], parts: PartStore, shards: Sequence[str]
) -> Iterator[pd.DataFrame]:
    start = 0
    for shard in shards:
        lists = {name: parts.column(shard, name).to_numpy() for name in LISTS if name in columns}
        size = parts.count(shard)
        yield scores.iloc[start : start + size].assign(**lists)[list(columns)]
        start += size


def _copy_logs(store: ResultStore, plan: Plan) -> None:
    """Copy the log of every stage, so that a report needs no checkpoint."""
    own = [(source.name, source.seed, source.path) for source in plan.models]
    own += [("reward", seed, sources[0].path) for seed, sources in plan.reward_models.items() if sources]
    for name, seed, path in own:
        if (path / "log.jsonl").exists():
            store.copy_log(name, seed, path / "log.jsonl")


def training_costs(models: Iterable[ModelSource]) -> dict[str, list[dict[str, Any]]]:
    """What each model cost to train: one row per seed. Models that were not trained here have none.

    `seconds` are of its own stage, `seconds_with_reward` of the reward model that it was trained with as well.
    """
    costs: dict[str, list[dict[str, Any]]] = {}
    for source in models:
        if source.training is not None:
            cost = {key: source.training[key] for key in ("samples", "tokens", "seconds")}
            whole = {"seconds_with_reward": cost["seconds"] + _reward_seconds(source)}
            costs.setdefault(source.name, []).append({"seed": source.seed, **cost, **whole})
    return costs


def _reward_seconds(source: ModelSource) -> float:
    """What the reward model that a stage was trained with took; 0 for a stage without one, or where it is gone."""
    if "reward" not in ((source.training or {}).get("parents") or {}):
        return 0.0
    return float((read_training(source.path.parent / "reward") or {}).get("seconds", 0.0))


def training_alarms(
    models: Iterable[ModelSource], reward_models: Mapping[int, Sequence[RewardModelSource]]
) -> list[dict[str, Any]] | None:
    """Alarms that were raised while the models and each seed's own reward model were trained; None where no record
    has an entry of alarms. A row has model, seed, name, step and message."""
    records = [(source.name, source.seed, source.training) for source in models]
    records += [("reward", seed, read_training(own[0].path)) for seed, own in reward_models.items() if own]
    recorded = [
        (name, seed, training["alarms"]) for name, seed, training in records if training and "alarms" in training
    ]
    if not recorded:
        return None
    return [{"model": name, "seed": seed, **alarm} for name, seed, alarms in recorded for alarm in alarms]


def _reward_accuracies(plan: Plan, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Accuracy of each seed's reward model on the evaluation's own pairs; empty where there are none."""
    if not any(item.chosen is not None and item.rejected is not None for item in plan.items):
        return []
    return [_reward_accuracy(rows, seed, plan) for seed, own in plan.reward_models.items() if own]


def _reward_accuracy(rows: pd.DataFrame, seed: int, plan: Plan) -> dict[str, Any]:
    """Accuracy of one seed's reward model, a tie one half."""
    mine = rows.loc[rows["seed"] == seed, ["model", "prompt_id", "reward"]].set_index("prompt_id")
    chosen = mine.loc[mine["model"] == "chosen", "reward"]
    rejected = mine.loc[mine["model"] == "rejected", "reward"].reindex(chosen.index)
    right = (chosen > rejected).astype(float) + 0.5 * (chosen == rejected).astype(float)
    samples = np.asarray(right, dtype=np.float64)[None, :, None]  # (S, P, K)
    accuracy = bounded_mean(samples, seed=plan.suite.seed)
    return {"seed": seed, "accuracy": accuracy.to_dict(), "ceiling": plan.prompts.ceiling}


def _marks(plan: Plan, rows: pd.DataFrame) -> dict[str, str]:
    """Metrics with numbers that need a warning, and the warning."""
    marks: dict[str, str] = {}
    for name in (source.name for source in plan.language_models):
        n = int(rows[language_model_columns(name)[0]].isna().sum())
        if n:
            why = f"without {n:,} of {len(rows):,} responses, which are longer than {name} can read"
            marks |= dict.fromkeys((f"{prefix}{name}" for prefix in PERPLEXITY_PREFIXES), why)
    n, read = (int(rows[name].fillna(0).astype(bool).sum()) if name in rows else 0 for name in (LEFT_OUT, "rougeL"))
    if n and read:
        why = f"without {n:,} responses: {UNSEEN}"
        marks |= dict.fromkeys((name for name in ROUGE_PARTS if not name.endswith(UNICODE)), why)
    if plan.sampling is not None and not plan.sampling.exact:
        s = plan.sampling
        why = f"biased: sampled at temperature {s.temperature:g}, top-p {s.top_p:g}, top-k {s.top_k}"
        marks |= dict.fromkeys((column for column in rows.columns if column in KL_COLUMNS), why)
    return marks
