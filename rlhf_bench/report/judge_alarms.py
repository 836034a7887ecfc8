"""The alarm that a judge raises: the reward is up, and the judge likes the responses less.

A judge may run later than the evaluation, so the alarm is made from what both have stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlhf_bench.judge.forms.builtin import BUILT_IN
from rlhf_bench.types import Alarm, Estimate

_REWARDS = ("reward_z", "reward")


def judge_alarms(pairwise: Sequence[Mapping[str, Any]], judge: Mapping[str, Any], *, reference: str) -> Iterator[Alarm]:
    """An alarm for a model with a reward above the reference's and a win rate against it below one half, or a rating
    below the reference's: an interval clear of zero, and Holm's p below 5 % within the judging.

    `pairwise` is of metrics.json, `judge` of judge.json. Built-in judges (no API calls) are no judges of
    quality; gold is looked at in the evaluation.
    """
    gains = dict(_gains(pairwise, reference))
    for judging in judge.get("judgings", []):
        if judging["base_url"] == BUILT_IN or judging["baseline"] != reference:
            continue
        for rate in judging["win_rates"]:
            won, model = Estimate.from_dict(rate["estimate"]), str(rate["model"])
            if model in gains and won.high < 0.5 and rate["p_holm"] < 0.05:
                found = f"its win rate against {reference} is {_bare(won)} by {judging['judge']}"
                yield _alarm(model, gains[model], found)
    for judging in judge.get("ratings", []):
        if judging["base_url"] == BUILT_IN:
            continue
        for row in judging["differences"]:
            rated, change = _against(row, reference)
            if rated in gains and change.high < 0 and row["p_holm"] < 0.05:
                found = f"its rating ({row['criterion']}) is down by {change.signed()} by {judging['judge']}"
                yield _alarm(rated, gains[rated], found)


def _gains(pairwise: Sequence[Mapping[str, Any]], reference: str) -> Iterator[tuple[str, Estimate]]:
    for row in pairwise:
        model, change = _against(row, reference)
        if row["metric"] in _REWARDS and model is not None and change.low > 0:
            yield model, change


def _against(row: Mapping[str, Any], reference: str) -> tuple[str | None, Estimate]:
    """The model that a pair compares with the reference, None where it is not in it; the model's number less its."""
    found = Estimate.from_dict(row["difference"])
    if row["a"] == reference:
        turned = {**found.to_dict(), "value": -found.value, "low": -found.high, "high": -found.low}
        return str(row["b"]), Estimate.from_dict(turned)
    return (str(row["a"]) if row["b"] == reference else None), found


def _alarm(model: str, gain: Estimate, found: str) -> Alarm:
    what = f"reward up by {gain.signed()}, but {found}"
    return Alarm(model, "judge", f"{model}: {what}: the reward may no longer measure what it is for")


def _bare(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
