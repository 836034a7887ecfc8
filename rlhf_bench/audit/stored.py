"""What an examination of a reward model is stored as: a part of audit.json, and rows of tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_bench.audit.findings import Examination, examine
from rlhf_bench.audit.near_duplicates import near_duplicates
from rlhf_bench.audit.pairs import PairScores, accuracy, right
from rlhf_bench.audit.safety import safety
from rlhf_bench.data import PreferenceData
from rlhf_bench.errors import BadValue
from rlhf_bench.scorers.features import feature_differences
from rlhf_bench.stats import FloatArray

__all__ = ["FEATURE_COLUMNS", "SLICE_COLUMNS", "examination_part", "feature_rows", "slice_rows"]

FEATURE_COLUMNS = (
    "feature", "model", "model_low", "model_high", "labels", "labels_low", "labels_high", "difference",
    "difference_low", "difference_high", "p", "q", "detectable", "inflation", "sd",
)  # fmt: skip
SLICE_COLUMNS = (
    "kind", "name", "n", "inside", "outside", "promised", "gap", "gap_low", "gap_high", "odds_ratio", "p", "q",
    "detectable",
)  # fmt: skip


def examination_part(data: PreferenceData, scores: PairScores) -> dict[str, Any]:
    """One seed's examination: findings, features, slices, safety, near-duplicates.

    Where there are too few pairs for it, `missing` has the reason and nothing else is there.
    """
    pairs = data.pairs
    prompts, chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("prompt", "chosen", "rejected"))
    differences = feature_differences(chosen, rejected)
    try:
        found = examine(
            prompts, chosen, rejected, scores.margins,
            categories=[pair.category for pair in pairs], differences=differences,
        )  # fmt: skip
    except BadValue as error:
        return {"missing": str(error)}
    is_near = near_duplicates(chosen, rejected)
    return {
        "missing": None,
        "temperature": found.payments.temperature,
        "attenuation": found.payments.attenuation,
        "pairs": found.payments.n_pairs,
        "findings": [asdict(entry) for entry in found.findings],
        "features": feature_rows(found),
        "slices": slice_rows(found),
        "too_small": found.too_small,
        "safety": _safety(chosen, rejected, scores, data),
        "near_duplicates": _without(is_near, scores.margins, prompts),
    }


def feature_rows(found: Examination) -> list[dict[str, Any]]:
    """A row a feature, in FEATURE_COLUMNS."""
    q = {entry.name: entry.q for entry in found.family if entry.kind == "feature"}
    return [
        {column: q[row.feature] if column == "q" else getattr(row, column) for column in FEATURE_COLUMNS}
        for row in found.payments.coefficients
    ]


def slice_rows(found: Examination) -> list[dict[str, Any]]:
    """A row a slice, in SLICE_COLUMNS; accuracies are estimates as dicts."""
    q = {(entry.kind, entry.name): entry.q for entry in found.family}
    rows = []
    for kind, slices in (("slice", found.slices), ("discovered slice", found.discovered)):
        for row in slices:
            rest = {c: getattr(row, c) for c in SLICE_COLUMNS if c not in ("kind", "q", "inside", "outside")}
            shares = {"inside": row.inside.to_dict(), "outside": row.outside.to_dict()}
            rows.append({"kind": kind, **rest, **shares, "q": q[kind, row.name]})
    return rows


def _safety(chosen: list[str], rejected: list[str], scores: PairScores, data: PreferenceData) -> dict[str, Any]:
    found = safety(chosen, rejected, scores.margins)
    return {
        "n": found.n,
        "helped_wins": found.helped_wins.to_dict() if found.helped_wins else None,
        "margin": found.margin.to_dict() if found.margin else None,
        "worst": [
            {
                "pair_id": data.pairs[i].id,
                "chosen_score": float(scores.chosen[i]),
                "rejected_score": float(scores.rejected[i]),
            }
            for i in found.worst
        ],
    }


def _without(is_near: npt.NDArray[np.bool_], margins: FloatArray, prompts: list[str]) -> dict[str, Any]:
    rest = np.flatnonzero(~is_near)
    share = accuracy(right(margins)[None, rest], [prompts[i] for i in rest.tolist()]) if len(rest) else None
    return {"pairs": int(is_near.sum()), "accuracy_without": share.to_dict() if share else None}
