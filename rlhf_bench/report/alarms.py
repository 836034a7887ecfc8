"""What the alarms of an evaluation, and those of the training before it, say: lines for the summary and the page."""

from __future__ import annotations

from rlhf_bench.judge.builtin import NOBODY
from rlhf_bench.report.judge_alarms import judge_alarms
from rlhf_bench.report.result import Result

__all__ = ["alarm_lines", "training_alarm_lines"]


def alarm_lines(result: Result) -> list[str]:
    """A line an alarm, or one that says what was looked at and found quiet; none where nothing was looked at."""
    found = result.metrics.get("alarms")
    if found is None:
        return []
    pairs = result.metrics.get("pairwise", [])
    by_judge = list(judge_alarms(pairs, result.judge, reference=result.reference)) if result.judge else []
    lines = [*(str(alarm["text"]) for alarm in found), *by_judge]
    looked_at = _looked_at(result)
    return lines or ([f"none. Looked at: {', '.join(looked_at)}."] if looked_at else [])


def _looked_at(result: Result) -> list[str]:
    """The checks that the evaluation made, and that of the judges."""
    looked_at = [str(check) for check in result.metrics.get("alarm_checks", [])]
    judged = [judging for key in ("judgings", "ratings") for judging in result.judge.get(key, [])]
    return [*looked_at, *(["reward against the judges"] if any(j["base_url"] != NOBODY for j in judged) else [])]


def training_alarm_lines(result: Result) -> list[str]:
    """A line an alarm that training.json records, or one that says there was none; none without such a record."""
    found = result.metrics.get("training_alarms")
    if found is None:
        return []
    return [f"{a['model']}, seed {a['seed']}, step {a['step']}: {a['message']}" for a in found] or ["none"]
