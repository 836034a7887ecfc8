"""All numbers of a run over pairs in one place: what judge.json holds beside the questions and their cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.judge.analysis.audit import check_biases, judge_rates, repeatability
from rlhf_bench.judge.analysis.length import equal_length_win_rates
from rlhf_bench.judge.analysis.pairs import PAIR_KEYS, blocks, fold, model_scores, win_rates
from rlhf_bench.judge.questions import is_another_sample
from rlhf_bench.stats.agreement import cohen_kappa, cohen_kappas, fleiss_kappa, krippendorff_alpha
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.stats.bradley_terry import PRIOR, Strength, strengths
from rlhf_bench.stats.pigeonhole import crossed_sums, percentile
from rlhf_bench.types import Estimate

__all__ = ["PEOPLE", "agreement", "judges_agreement", "measure", "measured_people", "measured_strengths"]

PEOPLE = "people"  # the server of a judge that is a person
OUTCOMES = (0.0, 0.5, 1.0)
_JUDGING = ["judge", "base_url", "template", "baseline"]


def measure(rows: pd.DataFrame, *, baseline: str) -> dict[str, Any]:
    """All numbers of one judge run, from a row a question with both lengths, and with `gold` where labels are known.

    win_rates      a row a model (`pairs.win_rates`)
    equal_length   the same with the length bias taken out; empty where no pair has an outcome
    audit          `audit.judge_rates`, and repeatability where questions were repeated
    agreement      accuracy and kappa against `gold`; empty without labels
    biases         `audit.check_biases`; empty without labels
    """
    pairs = fold(rows)
    decided = bool(pairs["outcome"].notna().any())
    labelled = decided and "gold" in pairs.columns
    audit = judge_rates(rows)
    if (rows["repeat"] > 0).any():
        audit["repeatability"] = repeatability(rows)
    return {
        "win_rates": win_rates(pairs),
        "equal_length": equal_length_win_rates(pairs, baseline=baseline) if decided else [],
        "audit": audit,
        "agreement": agreement(pairs) if labelled else {},
        "biases": check_biases(pairs) if labelled else [],
    }


def measured_strengths(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Bradley-Terry strengths by each judge, server and template that compared three or more models.

    Judgings against several baselines, a round robin among them, are joined; the baseline of most pairs is 1000. Pairs
    of one model's samples are left out.
    """
    found = []
    rows = rows[~rows["baseline"].astype(str).map(is_another_sample).astype(bool)]
    for (judge, url, template), group in rows.groupby(["judge", "base_url", "template"]):
        pairs = fold(group)
        pairs = pairs[pairs["outcome"].notna()]
        if len({*pairs["model"], *pairs["baseline"]}) > 2:
            baseline = str(pairs["baseline"].mode().iloc[0])
            found.append(
                {
                    "judge": judge,
                    "base_url": url,
                    "template": template,
                    "baseline": baseline,
                    "baselines": sorted(set(pairs["baseline"])),
                    "models": model_strengths(pairs, baseline=baseline),
                }
            )
    return found


def measured_people(rows: pd.DataFrame) -> dict[str, Any]:
    """How far people agree with one another, and each other judge with them; empty without labels.

    raters          names
    pairs           pairs that two or more have labelled
    krippendorff    nominal alpha of win, tie and loss over all pairs; None where nothing can be compared
    fleiss          kappa over the pairs that all of them have labelled; None without such pairs, or with one rater
    between         a row two raters: accuracy of the one by the other, and Cohen's kappa
    judges          a row a run: the same against the people's majority, a tie where there is none; the accuracy of the
                    single answers by order; and the consistency of both orders, where a pair has both
    """
    people = {str(rater): fold(group) for rater, group in rows[rows["base_url"] == PEOPLE].groupby("judge", sort=True)}
    if not people:
        return {}
    ratings = pd.concat(
        [pairs.set_index(list(PAIR_KEYS))["outcome"].rename(rater) for rater, pairs in people.items()], axis=1
    )
    labels = ratings.notna().sum(axis=1)
    complete = ratings[labels == len(people)]
    alpha = krippendorff_alpha(ratings.to_numpy(dtype=np.float64).T)
    counts = np.stack([(complete == outcome).sum(axis=1) for outcome in OUTCOMES], axis=1)
    majority = _majority(ratings)
    judges = []
    for key, group in rows[rows["base_url"] != PEOPLE].groupby(_JUDGING):
        against = judges_agreement({"judge": fold(group), "people": majority})["judge", "people"]
        if against["accuracy"].n:
            judges.append({**dict(zip(_JUDGING, key, strict=True)), **against, **_by_order(group, majority)})
    return {
        "raters": list(people),
        "pairs": int((labels > 1).sum()),
        "krippendorff": _finite(alpha),
        "fleiss": _finite(fleiss_kappa(counts)) if len(people) > 1 and len(complete) else None,
        "between": [
            {"a": a, "b": b, **found} for (a, b), found in judges_agreement(people).items() if found["accuracy"].n
        ],
        "judges": judges,
    }


def _by_order(rows: pd.DataFrame, labels: pd.DataFrame) -> dict[str, Any]:
    """Accuracy of the answers in each order against the labels of their pairs, and the consistency of the orders."""
    first = rows[rows["repeat"] == 0]
    first = first.assign(score=model_scores(first)).merge(
        labels.rename(columns={"outcome": "label"}), on=list(PAIR_KEYS)
    )
    both = first["score"].notna() & first["label"].notna()
    right = np.where(both, first["score"] == first["label"], np.nan)
    first = first.assign(right=right)
    accuracy = {
        str(order): bounded_mean(blocks(group, ["right"])[0]) for order, group in first.groupby("order", sort=True)
    }
    found = {"order_accuracy": {order: one for order, one in accuracy.items() if one.n}}
    return {**found, "consistency": judge_rates(rows)["consistency"]}


def _majority(ratings: pd.DataFrame) -> pd.DataFrame:
    """(pairs, raters) outcomes -> pairs with the most frequent one, a tie where two are as frequent."""
    counts = np.stack([(ratings == outcome).sum(axis=1) for outcome in OUTCOMES], axis=1)
    most = counts == counts.max(axis=1, keepdims=True)
    outcome = np.where(most.sum(axis=1) == 1, np.array(OUTCOMES)[counts.argmax(axis=1)], 0.5)
    outcome = np.where(counts.sum(axis=1) > 0, outcome, np.nan)
    return ratings.index.to_frame(index=False).assign(outcome=outcome)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def agreement(pairs: pd.DataFrame, *, seed: int = 0) -> dict[str, Estimate]:
    """Gives "accuracy" and "cohen_kappa" of folded pairs with the column `gold` (1, 0.5 or 0 for the model).

    Accuracy is the share of pairs with the label's outcome (win, tie, loss); kappa is over the same three
    categories. Pairs without an outcome or a label are left out.
    """
    both = pairs[pairs[["outcome", "gold"]].notna().all(axis=1)]
    if both.empty:
        n_missing = pairs["prompt_id"].nunique()
        nothing = Estimate(math.nan, math.nan, math.nan, 0, method="none", n_missing=n_missing)
        return {"accuracy": nothing, "cohen_kappa": nothing}
    same = both.assign(same=(both["outcome"] == both["gold"]).astype(np.float64))
    (block,) = blocks(same, ["same"])
    accuracy = bounded_mean(block, seed=seed)
    return {"accuracy": accuracy, "cohen_kappa": _kappa_estimate(both, accuracy, seed=seed)}


def _kappa_estimate(both: pd.DataFrame, accuracy: Estimate, *, seed: int) -> Estimate:
    """Bootstrapped over prompts and seeds; where all agree, the exact interval of the accuracy at the same margins."""
    columns = {
        f"{row}{column}": ((both["outcome"] == a) & (both["gold"] == b)).astype(np.float64)
        for row, a in enumerate(OUTCOMES)
        for column, b in enumerate(OUTCOMES)
    }
    found = blocks(both.assign(**columns), list(columns))
    features = np.stack([np.nansum(block, axis=2) for block in found], axis=2)  # (S, P, 9)
    table = features.sum(axis=(0, 1)).reshape(3, 3)
    value = cohen_kappa(table)
    n, n_seeds = features.shape[1], features.shape[0]
    if accuracy.value in (0.0, 1.0) and math.isfinite(value):
        shares = table / table.sum()
        expected = float(shares.sum(axis=0) @ shares.sum(axis=1))
        low, high = ((limit - expected) / (1 - expected) for limit in (accuracy.low, accuracy.high))
        return Estimate(value, low, high, n, method=accuracy.method, n_seeds=n_seeds)
    kappas = cohen_kappas(crossed_sums(features, seed=seed).reshape(-1, 3, 3))
    return percentile(value, kappas, n=n, n_seeds=n_seeds)


def judges_agreement(judges: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], dict[str, Estimate]]:
    """(a, b) -> accuracy and kappa of judge a against judge b, over the pairs that both decided.

    `judges` maps a name to folded pairs; people are judges too.
    """
    found = {}
    for a, b in combinations(judges, 2):
        other = judges[b][[*PAIR_KEYS, "outcome"]].rename(columns={"outcome": "gold"})
        joined = judges[a].drop(columns="gold", errors="ignore").merge(other, on=list(PAIR_KEYS))
        found[a, b] = agreement(joined)
    return found


def model_strengths(pairs: pd.DataFrame, *, baseline: str, seed: int = 0, prior: float = PRIOR) -> list[Strength]:
    """Bradley-Terry strengths from folded pairs, strongest first; a pair without an outcome is left out."""
    pairs = pairs[pairs["outcome"].notna()]
    models = sorted({*pairs["model"].astype(str), *pairs["baseline"].astype(str)})
    at = {model: i for i, model in enumerate(models)}
    i, j = (pairs[side].astype(str).map(at).to_numpy(dtype=np.int64) for side in ("model", "baseline"))
    at_seed, seeds = pd.factorize(pairs["seed"], sort=True)
    at_prompt, prompts = pd.factorize(pairs["prompt_id"], sort=True)
    outcome = pairs["outcome"].to_numpy(dtype=np.float64)
    wins = np.zeros((len(seeds), len(prompts), len(models), len(models)))
    np.add.at(wins, (at_seed, at_prompt, i, j), outcome)
    np.add.at(wins, (at_seed, at_prompt, j, i), 1 - outcome)
    return strengths(wins, models, baseline=baseline, seed=seed, prior=prior)
