"""All numbers of a judging in one place: what judge.json holds beside what was asked and paid."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rlhf_bench.judge.agreement import agreement
from rlhf_bench.judge.audit import judge_rates, repeatability
from rlhf_bench.judge.biases import check_biases
from rlhf_bench.judge.bradley_terry import bradley_terry
from rlhf_bench.judge.length import equal_length_win_rates
from rlhf_bench.judge.numbers import win_rates
from rlhf_bench.judge.verdicts import fold

__all__ = ["measure", "measured_strengths"]


def measure(rows: pd.DataFrame, *, baseline: str) -> dict[str, Any]:
    """Of one judging's rows, a row a question with both lengths, and with `gold` where labels are known.

    win_rates      a row a model (`numbers.win_rates`)
    equal_length   the same with the taste for length taken out; empty where no pair has an outcome
    audit          `audit.judge_rates`, and repeatability where questions were asked again
    agreement      accuracy and kappa against `gold`; empty without labels
    biases         `biases.check_biases`; empty without labels
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
                    "models": bradley_terry(pairs, baseline=baseline),
                }
            )
    return found
