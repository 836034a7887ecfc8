"""The alarms of an evaluation and of the training before it, as lines for the summary and the page."""

from __future__ import annotations

from rlhf_bench.judge.forms.builtin import BUILT_IN
from rlhf_bench.report.judge_alarms import judge_alarms
from rlhf_bench.report.result import Result
from rlhf_bench.types import Alarm


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
