"""Numbers of judge.json as text for a terminal, and the lines that every form has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlhf_bench.types import Estimate

__all__ = ["asked_line", "estimate_text", "mixed_models_line", "p_text", "share_lines", "share_text"]


def asked_line(about: str, row: Mapping[str, Any]) -> str:
    """What was judged, how its questions ended, and what this result and judge were charged so far."""
    counts = ", ".join(f"{count} {status}" for status, count in row["questions"].items())
    cost = f", ${row['cost_usd']:.4f} charged so far" if "cost_usd" in row else ""
    return f"{about}, questions: {counts}{cost}"


def mixed_models_line(row: Mapping[str, Any]) -> list[str]:
    models = row.get("reported_models", {})
    if len(models) < 2:
        return []
    named = ", ".join(f"{name} ({count})" for name, count in models.items())
    return [f"  the server reported several models, so these verdicts are mixed: {named}"]


def share_lines(head: str, cells: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Rates of nothing at all, such as no failed call, are left out."""
    texts = [
        f"{title} {share_text(Estimate.from_dict(dict(cell)))}"
        for title, cell in cells.items()
        if cell is not None and cell["value"] > 0
    ]
    return [f"  {head}: {', '.join(texts)}"] if texts else []


def share_text(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:.1%}"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def estimate_text(estimate: Estimate, digits: int) -> str:
    if math.isnan(estimate.low):
        return "-" if math.isnan(estimate.value) else f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def p_text(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
