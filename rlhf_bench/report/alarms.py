"""What the alarms of an evaluation, and those of the training before it, say: lines for the summary and the page."""

from __future__ import annotations

from rlhf_bench.judge.forms.builtin import BUILT_IN
from rlhf_bench.metrics.alarms import CHECKS
from rlhf_bench.metrics.judge_alarms import judge_alarms
from rlhf_bench.report.result import Result
from rlhf_bench.store import ANCHORS

__all__ = ["alarm_lines", "training_alarm_lines"]


def alarm_lines(result: Result) -> list[str]:
    """A line an alarm, or one that says what was looked at and found quiet; none where nothing was looked at."""
    found = result.metrics.get("alarms")
    if found is None:
        return []
    pairs = result.metrics.get("pairwise", [])
    by_judge = list(judge_alarms(pairs, result.judge, reference=result.reference)) if result.judge else []
    lines = [*(str(alarm["text"]) for alarm in found), *(alarm.text for alarm in by_judge)]
    looked_at = _looked_at(result)
    return lines or ([f"none. Looked at: {', '.join(looked_at)}."] if looked_at else [])


def _looked_at(result: Result) -> list[str]:
    """The checks whose numbers the reference and another model have."""
    models: dict[str, dict[str, object]] = result.metrics.get("models", {})
    reference = models.get(str(result.manifest.get("reference")), {}).keys()
    others = [
        cells.keys() & reference
        for name, cells in models.items()
        if name != result.manifest.get("reference") and name not in ANCHORS
    ]
    looked_at = [what for what, numbers in CHECKS.items() if any({*numbers} <= there for there in others)]
    judged = [judging for key in ("judgings", "ratings") for judging in result.judge.get(key, [])]
    return [*looked_at, *(["reward against the judges"] if any(j["base_url"] != BUILT_IN for j in judged) else [])]


def training_alarm_lines(result: Result) -> list[str]:
    """A line an alarm that training.json records, or one that says there was none; none without such a record."""
    found = result.metrics.get("training_alarms")
    if found is None:
        return []
    return [f"{a['model']}, seed {a['seed']}, step {a['step']}: {a['message']}" for a in found] or ["none"]
