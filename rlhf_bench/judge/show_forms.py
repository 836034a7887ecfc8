"""Ratings, rankings and people in judge.json, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlhf_bench.judge.lines import asked_line, estimate_text, mixed_models_line, p_text, share_lines, share_text
from rlhf_bench.types import Estimate

__all__ = ["RANKING_AUDIT_TITLES", "RATING_AUDIT_TITLES", "people_lines", "ranking_lines", "rating_lines"]

RANKING_AUDIT_TITLES = {
    "unreadable": "unreadable",
    "refused": "refused",
    "failed": "failed",
    "repeatability": "repeats itself",
}
RATING_AUDIT_TITLES = {
    "highest": "best rating given",
    "unreadable": "unreadable",
    "refused": "refused",
    "failed": "failed",
    "repeatability": "repeats itself",
}


def rating_lines(row: Mapping[str, Any]) -> list[str]:
    """One judging's means and differences by criterion, and the judge's audit."""
    about = f"{row['judge']} by {row['template']}, {row['low']} to {row['high']}: {row['responses']} responses"
    lines = [asked_line(about, row)]
    for criterion in row["criteria"]:
        means = [cell for cell in row["means"] if cell["criterion"] == criterion]
        texts = [f"{cell['model']} {estimate_text(Estimate.from_dict(cell['estimate']), 2)}" for cell in means]
        lines.append(f"  {criterion}: {', '.join(texts)}")
        for pair in (pair for pair in row["differences"] if pair["criterion"] == criterion):
            difference = estimate_text(Estimate.from_dict(pair["difference"]), 2)
            lines.append(f"    {pair['a']} - {pair['b']}: {difference}, p (Holm) {p_text(pair['p_holm'])}")
    lines += share_lines("the judge", {title: row["audit"].get(key) for key, title in RATING_AUDIT_TITLES.items()})
    for name, words in (("length", "length"), ("gold", "the gold reward")):
        if name in row["audit"]:
            correlation = estimate_text(Estimate.from_dict(row["audit"][name]), 2)
            lines.append(f"  rank correlation of ratings with {words}: {correlation}")
    return lines + mixed_models_line(row)


def ranking_lines(row: Mapping[str, Any]) -> list[str]:
    """One judging's mean ranks, what the place did to them, and the judge's audit."""
    lines = [asked_line(f"{row['judge']} by {row['template']}: {row['lineups']} line-ups", row)]
    texts = [f"{cell['model']} {estimate_text(Estimate.from_dict(cell['rank']), 2)}" for cell in row["models"]]
    lines.append(f"  mean rank: {', '.join(texts)}")
    position = estimate_text(Estimate.from_dict(row["position"]), 2)
    p = row["position_p"]
    lines.append(f"  correlation of rank with place: {position}" + ("" if p is None else f", p {p_text(p)}"))
    lines += share_lines("the judge", {title: row["audit"].get(key) for key, title in RANKING_AUDIT_TITLES.items()})
    return lines + mixed_models_line(row)


def people_lines(people: Mapping[str, Any]) -> list[str]:
    """How far people agree with one another, and each judge with their majority."""
    if not people:
        return []
    texts = [f"{people['pairs']} pairs by two or more"]
    texts += [f"Krippendorff's alpha {people['krippendorff']:.2f}"] if people["krippendorff"] is not None else []
    texts += [f"Fleiss' kappa {people['fleiss']:.2f}"] if people["fleiss"] is not None else []
    lines = [f"people ({', '.join(people['raters'])}): {', '.join(texts)}"]
    for row in people["between"]:
        lines.append(f"  {row['a']} and {row['b']}: {_agreement(row, 'the same')}")
    for row in people["judges"]:
        who = f"{row['judge']} by {row['template']}" if row["template"] != "none" else row["judge"]
        lines.append(f"  {who} against {row['baseline']}, by the people's majority: {_agreement(row, 'right')}")
        shares = {order.replace("_", " "): cell for order, cell in row["order_accuracy"].items()}
        shares["consistent"] = row["consistency"]
        known = {name: Estimate.from_dict(cell) for name, cell in shares.items()}
        texts = [f"{name} {share_text(one)}" for name, one in known.items() if one.n]
        lines.append(f"    single answers that are right: {', '.join(texts)}")
    return lines


def _agreement(row: Mapping[str, Any], word: str) -> str:
    accuracy = share_text(Estimate.from_dict(row["accuracy"]))
    return f"{word} {accuracy}, kappa {estimate_text(Estimate.from_dict(row['cohen_kappa']), 2)}"
