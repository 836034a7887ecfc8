"""Pairs that come from lists: several chosen or rejected responses to one prompt, or three styles of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rlhf_bench.audit.listwise import ListScores, listwise
from rlhf_bench.audit.pairs import PairScores, accuracy, right
from rlhf_bench.types import PreferencePair

STYLES = 3  # concise, detailed, detailed with markdown


def list_metrics(rows: Sequence[ListScores]) -> dict[str, Any]:
    """Top-1, reciprocal rank and Kendall's tau over prompts, of all and of each category, by name.

    Empty where no prompt has more than two responses: accuracy says all of these.
    """
    if all(len(row.scores) <= 2 for row in rows):
        return {}
    categories = sorted({row.category for row in rows if row.category is not None})
    groups = {"all": rows} | {name: [row for row in rows if row.category == name] for name in categories}
    return {name: asdict(listwise(group)) for name, group in groups.items()}


def lists_of(pairs: Sequence[PreferencePair], scores: PairScores) -> list[ListScores]:
    """The scores of each prompt's different responses; one that is chosen in any of its pairs and rejected in none is
    right, one that is only rejected is wrong, and others (the middle of a ranking) are left out."""
    found: dict[str, dict[str, tuple[float, set[bool]]]] = {}
    categories: dict[str, str | None] = {}
    for i, pair in enumerate(pairs):
        of_prompt = found.setdefault(pair.prompt, {})
        categories.setdefault(pair.prompt, pair.category)
        for text, score, is_chosen in (
            (pair.chosen, scores.chosen[i], True), (pair.rejected, scores.rejected[i], False),
        ):  # fmt: skip
            of_prompt.setdefault(text, (float(score), set()))[1].add(is_chosen)
    rows = []
    for prompt, texts in found.items():
        known = [(score, sides == {True}) for score, sides in texts.values() if len(sides) == 1]
        kinds = {is_right for _, is_right in known}
        if len(kinds) == 2:
            scores_, is_right = np.array([s for s, _ in known]), np.array([r for _, r in known])
            rows.append(ListScores(prompt, scores_, is_right, categories[prompt]))
    return rows


def style_matrix(pairs: Sequence[PreferencePair], scores: PairScores) -> dict[str, Any] | None:
    """Accuracy by the styles of both sides, where each row of the data holds three of each, by rising style.

    `matrix[i][j]`: chosen in style i, rejected in style j. hard: the rejected side has the richer style; normal: both
    have the same; easy: the chosen side has the richer one (RM-Bench, arXiv:2410.16184). None for other data.
    """
    at = [(int(pair.meta.get("chosen_at", -1)), int(pair.meta.get("rejected_at", -1))) for pair in pairs]
    cells = {(i, j) for i in range(STYLES) for j in range(STYLES)}
    if set(at) != cells:
        return None
    correct = right(scores.margins)
    kinds: dict[str, list[int]] = {"easy": [], "normal": [], "hard": []}
    for n, (i, j) in enumerate(at):
        kinds["hard" if i < j else "normal" if i == j else "easy"].append(n)
    shares = {
        kind: accuracy(correct[None, index], [pairs[n].prompt for n in index]).to_dict()
        for kind, index in kinds.items()
    }
    of_cell = {cell: [float(correct[n]) for n, found in enumerate(at) if found == cell] for cell in cells}
    matrix = [[float(np.mean(of_cell[i, j])) for j in range(STYLES)] for i in range(STYLES)]
    return {"matrix": matrix, **shares}
