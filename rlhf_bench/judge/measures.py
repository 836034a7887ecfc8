"""All numbers of a judging in one place: what judge.json holds beside what was asked and paid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.judge.agreement import agreement, fleiss_kappa, judges_agreement, krippendorff_alpha
from rlhf_bench.judge.audit import judge_rates, repeatability
from rlhf_bench.judge.biases import check_biases
from rlhf_bench.judge.bradley_terry import bradley_terry
from rlhf_bench.judge.length import equal_length_win_rates
from rlhf_bench.judge.numbers import win_rates
from rlhf_bench.judge.verdicts import PAIR_KEYS, fold, fold_once

__all__ = ["PEOPLE", "measure", "measured_people", "measured_strengths"]

PEOPLE = "people"  # the server of a judge that is a person
_JUDGING = ["judge", "base_url", "template", "baseline"]


def measure(
    rows: pd.DataFrame, *, baseline: str, fold: Callable[[pd.DataFrame], pd.DataFrame] = fold
) -> dict[str, Any]:
    """Of one judging's rows, a row a question with both lengths, and with `gold` where labels are known.

    win_rates      a row a model (`numbers.win_rates`)
    equal_length   the same with the taste for length taken out; empty where no pair has an outcome
    audit          `audit.judge_rates`, and repeatability where questions were asked again
    agreement      accuracy and kappa against `gold`; empty without labels
    biases         `biases.check_biases`; empty without labels

    `fold` is `verdicts.fold_once` where each pair was shown once.
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

    Judgings against several baselines, a round robin among them, are joined; the baseline of most pairs is 1000.
    """
    found = []
    for (judge, url, template), group in rows.groupby(["judge", "base_url", "template"]):
        pairs = _folded(group)
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
                    "models": bradley_terry(pairs, baseline=baseline),
                }
            )
    return found


def measured_people(rows: pd.DataFrame) -> dict[str, Any]:
    """How far people agree with one another, and each other judge with them; empty where nobody labelled.

    raters          names
    pairs           pairs that two or more have labelled
    krippendorff    nominal alpha of win, tie and loss over all pairs; None where nothing can be compared
    fleiss          kappa over the pairs that all of them have labelled; None without such pairs, or with one rater
    between         a row two raters: accuracy of the one by the other, and Cohen's kappa
    judges          a row a judging: the same against the people's majority, a tie where there is none
    """
    people = {
        str(rater): fold_once(group) for rater, group in rows[rows["base_url"] == PEOPLE].groupby("judge", sort=True)
    }
    if not people:
        return {}
    ratings = pd.concat(
        [pairs.set_index(list(PAIR_KEYS))["outcome"].rename(rater) for rater, pairs in people.items()], axis=1
    )
    labels = ratings.notna().sum(axis=1)
    complete = ratings[labels == len(people)]
    alpha = krippendorff_alpha(ratings.to_numpy(dtype=np.float64).T)
    counts = np.stack([(complete == outcome).sum(axis=1) for outcome in (0.0, 0.5, 1.0)], axis=1)
    majority = _majority(ratings)
    judges = []
    for key, group in rows[rows["base_url"] != PEOPLE].groupby(_JUDGING):
        against = judges_agreement({"judge": _folded(group), "people": majority})["judge", "people"]
        if against["accuracy"].n:
            judges.append({**dict(zip(_JUDGING, key, strict=True)), **against})
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


def _majority(ratings: pd.DataFrame) -> pd.DataFrame:
    """Pairs with what most raters said, a tie where two outcomes are as frequent; of (pairs, raters) outcomes."""
    counts = np.stack([(ratings == outcome).sum(axis=1) for outcome in (0.0, 0.5, 1.0)], axis=1)
    most = counts == counts.max(axis=1, keepdims=True)
    outcome = np.where(most.sum(axis=1) == 1, np.array([0.0, 0.5, 1.0])[counts.argmax(axis=1)], 0.5)
    outcome = np.where(counts.sum(axis=1) > 0, outcome, np.nan)
    return ratings.index.to_frame(index=False).assign(outcome=outcome)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _folded(rows: pd.DataFrame) -> pd.DataFrame:
    """People, and other pipelines, see a pair once; where any pair has both orders, both are needed of all."""
    first = rows[rows["repeat"] == 0]
    return fold(rows) if first.duplicated(list(PAIR_KEYS)).any() else fold_once(first)
