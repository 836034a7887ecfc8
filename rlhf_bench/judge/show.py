"""What judge.json holds, as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.errors import StoreError
from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate

__all__ = ["AUDIT_TITLES", "stored_lines"]

AUDIT_TITLES = {
    "consistency": "consistent",
    "first_position": "first place wins",
    "longer": "longer wins",
    "tie": "ties",
    "unreadable": "unreadable",
    "refused": "refused",
    "failed": "failed",
    "repeatability": "repeats itself",
}

_UNREAD = {"missing": "not asked", "failed": "failed", "refused": "refused", "unreadable": "unreadable"}


def stored_lines(
    folder: Path, *, judge: str | None = None, baseline: str | None = None, template: str | None = None
) -> list[str]:
    """Win rates, the judge's audit and strengths; of one judging where it is named, else of all.

    Raises StoreError where nothing was judged.
    """
    stored = ResultStore(folder).read_judge()
    if not stored.get("judgings"):
        raise StoreError(
            f"{folder} was not judged; do it with: rlhf-bench judge run {folder} --judge length --baseline NAME"
        )
    asked = {"judge": judge, "baseline": baseline, "template": template}
    lines = [line for row in _of(stored["judgings"], asked) for line in _judging_lines(row)]
    asked.pop("baseline")
    return lines + [line for row in _of(stored.get("strengths", []), asked) for line in _strength_lines(row)]


def _of(rows: Iterable[Mapping[str, Any]], asked: Mapping[str, str | None]) -> list[Mapping[str, Any]]:
    return [row for row in rows if all(value is None or row[key] == value for key, value in asked.items())]


def _judging_lines(row: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {status}" for status, count in row["questions"].items())
    cost = f", ${row['cost_usd']:.4f} charged so far" if "cost_usd" in row else ""
    lines = [f"{row['judge']} against {row['baseline']}: {row['pairs']} pairs, questions: {counts}{cost}"]
    if row["questions"].keys() == {"missing"}:
        return [*lines, "  nothing asked and nothing stored: the ledger holds no answer to these questions"]
    equal = {cell["model"]: cell for cell in row["equal_length"]}
    for rate in row["win_rates"]:
        lines += _rate_lines(rate, equal.get(rate["model"]))
    rates = {title: row["audit"][key] for key, title in AUDIT_TITLES.items() if key in row["audit"]}
    lines += _share_lines("the judge", rates)
    if row["agreement"]:
        cells = {"right": row["agreement"]["accuracy"]}
        kappa = _number(Estimate.from_dict(row["agreement"]["cohen_kappa"]), 2)
        lines += [f"{line}, kappa {kappa}" for line in _share_lines("against the gold reward", cells)]
        lines += [f"    {check['says']}, p (Holm) {_p(check['p_holm'])}" for check in row["biases"]]
    models = row.get("reported_models", {})
    if len(models) > 1:
        named = ", ".join(f"{name} ({count})" for name, count in models.items())
        lines.append(f"  the server reported several models, so these verdicts are mixed: {named}")
    return lines


def _rate_lines(rate: Mapping[str, Any], equal: Mapping[str, Any] | None) -> list[str]:
    estimate = Estimate.from_dict(rate["estimate"])
    if math.isnan(estimate.value):
        counts = (f"{rate['counts'][why]} {title}" for why, title in _UNREAD.items() if rate["counts"][why])
        return [f"  {rate['model']}: no pair has a verdict: {', '.join(counts)}"]
    text = f"  {rate['model']}: {_share(estimate)}, n {estimate.n}, p (Holm) {_p(rate['p_holm'])}"
    if rate["lowest"] != rate["highest"]:
        text += f"; between {rate['lowest']:.1%} and {rate['highest']:.1%} whatever the unread answers were"
    if equal is None:
        return [text]
    text += f"; at equal length {_share(Estimate.from_dict(equal['win_rate']))}"
    return [text, *([f"    {equal['warning']}"] if equal["warning"] else [])]


def _share_lines(head: str, cells: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Rates of nothing at all, such as no failed call, are left out."""
    texts = [f"{title} {_share(Estimate.from_dict(dict(cell)))}" for title, cell in cells.items() if cell["value"] > 0]
    return [f"  {head}: {', '.join(texts)}"] if texts else []


def _strength_lines(row: Mapping[str, Any]) -> list[str]:
    lines = [f"strengths by {row['judge']} (Bradley-Terry, Elo scale, {row['baseline']} = 1000)"]
    for cell in row["models"]:
        elo = Estimate.from_dict(cell["elo"])
        rank = f"rank {cell['rank']} [{cell['rank_low']}, {cell['rank_high']}]" if cell["rank"] else "not joined"
        lines.append(f"  {cell['model']}: {_number(elo, 0)}, {rank}")
    return lines


def _share(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:.1%}"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _number(estimate: Estimate, digits: int) -> str:
    if math.isnan(estimate.low):
        return "-" if math.isnan(estimate.value) else f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
