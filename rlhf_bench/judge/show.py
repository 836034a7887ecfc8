"""The contents of judge.json, as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.errors import StoreError
from rlhf_bench.judge.analysis import PEOPLE
from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.judge.lines import asked_line, estimate_text, mixed_models_line, p_text, share_lines, share_text
from rlhf_bench.judge.show_forms import people_lines, ranking_lines, rating_lines
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


def stored_lines(folder: Path, **asked: str) -> list[str]:
    """Rankings, win rates, ratings, the judge's audit and strengths; of those judgings that have what is `asked` for
    (judge="gpt-4o", template="likert@1", ...), or of all.

    Raises StoreError where nothing was judged.
    """
    stored = ResultStore(folder).read_judge()
    if not any(stored.get(key) for key in ("judgings", "ratings", "rankings")):
        raise StoreError(
            f"{folder} was not judged; do it with: rlhf-bench judge run {folder} --judge length --baseline NAME"
        )
    lines = [line for row in _of(stored.get("rankings", []), asked) for line in ranking_lines(row)]
    lines += [line for row in _of(stored["judgings"], asked) for line in _judging_lines(row)]
    lines += [line for row in _of(stored.get("ratings", []), asked) for line in rating_lines(row)]
    asked.pop("baseline", None)  # strengths join the judgings against several
    lines += people_lines(stored.get("people", {}))
    return lines + [line for row in _of(stored.get("strengths", []), asked) for line in _strength_lines(row)]


def _of(rows: Iterable[Mapping[str, Any]], asked: Mapping[str, str]) -> list[Mapping[str, Any]]:
    return [row for row in rows if all(row.get(key) == value for key, value in asked.items())]


def _judging_lines(row: Mapping[str, Any]) -> list[str]:
    judge = f"{row['judge']} by {row['template']}" if row.get("ranked") else row["judge"]
    lines = [asked_line(f"{judge} against {row['baseline']}: {row['pairs']} pairs", row)]
    if row["questions"].keys() == {"missing"}:
        return [*lines, "  nothing asked and nothing stored: the ledger holds no answer to these questions"]
    equal = {cell["model"]: cell for cell in row["equal_length"]}
    for rate in row["win_rates"]:
        lines += _rate_lines(rate, equal.get(rate["model"]))
    rates = {title: row["audit"][key] for key, title in AUDIT_TITLES.items() if key in row["audit"]}
    lines += share_lines("the judge", rates)
    if row["agreement"]:
        cells = {"right": row["agreement"]["accuracy"]}
        kappa = estimate_text(Estimate.from_dict(row["agreement"]["cohen_kappa"]), 2)
        lines += [f"{line}, kappa {kappa}" for line in share_lines("against the gold reward", cells)]
        checks = [check for check in row["biases"] if not math.isnan(check["p_holm"])]
        lines += [f"    {check['says']}, p (Holm) {p_text(check['p_holm'])}" for check in checks]
    return lines + mixed_models_line(row)


def _rate_lines(rate: Mapping[str, Any], equal: Mapping[str, Any] | None) -> list[str]:
    estimate = Estimate.from_dict(rate["estimate"])
    if math.isnan(estimate.value):
        counts = (f"{rate['counts'][why]} {title}" for why, title in _UNREAD.items() if rate["counts"][why])
        return [f"  {rate['model']}: no pair has a verdict: {', '.join(counts)}"]
    text = f"  {rate['model']}: {share_text(estimate)}, n {estimate.n}, p (Holm) {p_text(rate['p_holm'])}"
    if rate["lowest"] != rate["highest"]:
        text += f"; between {rate['lowest']:.1%} and {rate['highest']:.1%} whatever the unread answers were"
    if equal is None:
        return [text]
    if equal["warning"] == LENGTH_ALONE:
        return [text, f"    {equal['warning']}"]
    text += f"; at equal length {share_text(Estimate.from_dict(equal['win_rate']))}"
    return [text, *([f"    {equal['warning']}"] if equal["warning"] else [])]


def _strength_lines(row: Mapping[str, Any]) -> list[str]:
    unasked = row["template"] == "none" or row["base_url"] == PEOPLE  # no words of a template were put to it
    judge = row["judge"] if unasked else f"{row['judge']} by {row['template']}"
    lines = [f"strengths by {judge} (Bradley-Terry, Elo scale, {row['baseline']} = 1000)"]
    for cell in row["models"]:
        elo = Estimate.from_dict(cell["elo"])
        rank = f"rank {cell['rank']} [{cell['rank_low']}, {cell['rank_high']}]" if cell["rank"] else "not joined"
        lines.append(f"  {cell['model']}: {estimate_text(elo, 0)}, {rank}")
    return lines
