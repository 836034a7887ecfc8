"""What the alarms of an evaluation say, as lines for the summary and the page."""

from __future__ import annotations

from rlhf_bench.metrics.alarms import CHECKED
from rlhf_bench.report.result import Result

__all__ = ["alarm_lines"]


def alarm_lines(result: Result) -> list[str]:
    """A line an alarm, or one that says what was looked at and found quiet; none where nothing was looked at."""
    found = result.metrics.get("alarms")
    if found is None:
        return []
    return [str(alarm["text"]) for alarm in found] or [f"none. Looked at: {CHECKED}."]
