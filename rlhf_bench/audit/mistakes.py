"""The pairs that a reward model ranks wrongly, as rows of mistakes.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlhf_bench.audit.near_duplicates import near_duplicates
from rlhf_bench.audit.pairs import PairScores
from rlhf_bench.audit.regression import Mask
from rlhf_bench.audit.slices import feature_slices, pair_slices
from rlhf_bench.scorers.features import FEATURES, feature_differences, tags
from rlhf_bench.types import PreferencePair


def slices_of_pairs(pairs: Sequence[PreferencePair]) -> dict[str, Mask]:
    """Masks (N,) by name, of what both sides share; the same whatever the model."""
    prompts, chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("prompt", "chosen", "rejected"))
    return pair_slices(prompts, chosen, rejected)


def mistakes(
    model: str,
    split: str,
    pairs: Sequence[PreferencePair],
    scores: PairScores,
    slices: Mapping[str, Mask],
) -> list[dict[str, Any]]:
    """Every pair where the rejected response scored as high as the chosen one or higher, worst first: texts and scores.

    slices: masks of the pairs (N,) by name; a row has the names of those that hold its pair.
    """
    at = np.flatnonzero(scores.margins <= 0)
    return [
        {
            "model": model,
            "pair_id": pairs[i].id,
            "split": split,
            "category": pairs[i].category,
            "margin": float(scores.margins[i]),
            "chosen_score": float(scores.chosen[i]),
            "rejected_score": float(scores.rejected[i]),
            "slices": [name for name, mask in slices.items() if mask[i]],
            "prompt": pairs[i].prompt,
            "chosen": pairs[i].chosen,
            "rejected": pairs[i].rejected,
        }
        for i in at[np.argsort(scores.margins[at], kind="stable")].tolist()
    ]


def described(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mistakes with features of their texts (chosen minus rejected), tags, slices by feature, and near-duplicates."""
    chosen, rejected = ([row[side] for row in rows] for side in ("chosen", "rejected"))
    differences, is_near = feature_differences(chosen, rejected), near_duplicates(chosen, rejected)
    preferred = differences * np.array([-1.0 if row["margin"] < 0 else 1.0 for row in rows]).reshape(-1, 1)
    masks = feature_slices(preferred, list(FEATURES), "preferred")
    return [
        {
            **row,
            "near_duplicate": bool(is_near[i]),
            "tags": tags(differences[i]),
            "slices": [*row["slices"], *(name for name, mask in masks.items() if mask[i])],
            "features": {name: round(v, 4) for name, v in zip(FEATURES, differences[i].tolist(), strict=True) if v},
        }
        for i, row in enumerate(rows)
    ]
