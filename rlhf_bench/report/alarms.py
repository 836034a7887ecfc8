"""What the alarms of an evaluation, and those of the training before it, say: lines for the summary and the page."""

from __future__ import annotations

from rlhf_bench.judge.builtin import NOBODY
from rlhf_bench.metrics.alarms import CHECKED, CHECKED_SINCE
from rlhf_bench.metrics.judge_alarms import judge_alarms
from rlhf_bench.report.result import Result

__all__ = ["alarm_lines", "training_alarm_lines"]


def alarm_lines(result: Result) -> list[str]:
    """A line an alarm, or one that says what was looked at and found quiet; none where nothing was looked at."""
    found = result.metrics.get("alarms")
    if found is None:
        return []
    by_judge: list[str] = []
    if result.judge:
        pairs = result.metrics.get("pairwise", [])
        by_judge = [alarm.text for alarm in judge_alarms(pairs, result.judge, reference=result.reference)]
    there = {name for cells in result.metrics.get("models", {}).values() for name in cells}
    looked_at = ", ".join([CHECKED, *(what for name, what in CHECKED_SINCE.items() if name in there)])
    if any(judging["base_url"] != NOBODY for key in ("judgings", "ratings") for judging in result.judge.get(key, [])):
        looked_at += ", reward against the judges"
    return [*(str(alarm["text"]) for alarm in found), *by_judge] or [f"none. Looked at: {looked_at}."]


def training_alarm_lines(result: Result) -> list[str]:
    """A line an alarm that training.json records, or one that says there was none; none without such a record."""
    found = result.metrics.get("training_alarms")
    if found is None:
        return []
    return [f"{a['model']}, seed {a['seed']}, step {a['step']}: {a['message']}" for a in found] or ["none"]
