"""The alarms of an evaluation, of its judges and of the training before it, as lines for the summary and the page.

A judge may run later than the evaluation, so its alarm is made from what both have stored: the reward is up, and the
judge likes the responses less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlhf_bench.judge.forms.builtin import BUILT_IN
from rlhf_bench.report.result import Result
from rlhf_bench.types import Alarm, Estimate

_REWARDS = ("reward_z", "reward")


def found_alarms(result: Result) -> list[Alarm]:
    """The alarms of the evaluation and of its judges."""
    pairs = result.metrics.get("pairwise", [])
    by_judge = list(judge_alarms(pairs, result.judge, reference=result.reference)) if result.judge else []
    return [*(Alarm(**alarm) for alarm in result.metrics.get("alarms") or []), *by_judge]


def raised_alarms(result: Result) -> list[str]:
    """A line an alarm of the evaluation, of its judges and of the training before it."""
    return [*(alarm.text for alarm in found_alarms(result)), *_of_training(result)]


def alarm_lines(result: Result) -> list[str]:
    """A line an alarm of the evaluation, or one that names the checks without one; none where nothing was checked."""
    if result.metrics.get("alarms") is None:
        return []
    lines = [alarm.text for alarm in found_alarms(result)]
    checked = checked_for(result)
    return lines or ([f"none. Checked: {', '.join(checked)}."] if checked else [])


def training_alarm_lines(result: Result) -> list[str]:
    """A line an alarm that training.json records, or `none`; nothing without such a record."""
    return [] if result.metrics.get("training_alarms") is None else _of_training(result) or ["none"]


def _of_training(result: Result) -> list[str]:
    found = result.metrics.get("training_alarms") or []
    return [f"{a['model']}, seed {a['seed']}, step {a['step']}: {a['message']}" for a in found]


def checked_for(result: Result) -> list[str]:
    """The checks that the evaluation made, and that of the judges."""
    checked = [str(check) for check in result.metrics.get("alarm_checks", [])]
    judged = [judging for key in ("judgings", "ratings") for judging in result.judge.get(key, [])]
    return [*checked, *(["reward against the judges"] if any(j["base_url"] != BUILT_IN for j in judged) else [])]


def judge_alarms(pairwise: Sequence[Mapping[str, Any]], judge: Mapping[str, Any], *, reference: str) -> Iterator[Alarm]:
    """An alarm for a model with a reward above the reference's and a win rate against it below one half, or a rating
    below the reference's: an interval clear of zero, and Holm's p below 5 % within the judge run.

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
                rate_text = f"{won.value:.2f} [{won.low:.2f}, {won.high:.2f}]"
                found = f"its win rate against {reference} is {rate_text} by {judging['judge']}"
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
