"""What the parts of an audit are stored as in audit.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_bench.audit.calibration import calibration
from rlhf_bench.audit.findings import Examination, examine
from rlhf_bench.audit.lists import list_metrics, style_matrix
from rlhf_bench.audit.listwise import ListScores
from rlhf_bench.audit.mistake_groups import mistake_groups
from rlhf_bench.audit.near_duplicates import near_duplicates
from rlhf_bench.audit.pairs import PairScores, accuracy, categories_of, right
from rlhf_bench.audit.probes import Effect
from rlhf_bench.audit.regression import Mask, payments
from rlhf_bench.audit.rewardbench import rewardbench
from rlhf_bench.audit.safety import safety
from rlhf_bench.errors import BadValue
from rlhf_bench.scorers.features import FEATURES, feature_differences
from rlhf_bench.stats import FloatArray
from rlhf_bench.types import PreferencePair


def model_part(
    pairs: Sequence[PreferencePair], scores: PairScores, lists: Sequence[ListScores], examination: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything of one reward model on one data set but its accuracies."""
    return {
        **_calibration(pairs, scores.margins),
        "lists": list_metrics(lists),
        "styles": style_matrix(pairs, scores),
        "rewardbench": rewardbench([pair.category for pair in pairs], scores.margins),
        "examination": examination,
    }


def _calibration(pairs: Sequence[PreferencePair], margins: FloatArray) -> dict[str, Any]:
    prompts = [pair.prompt for pair in pairs]
    subsets = {
        category: asdict(calibration(margins[index], [prompts[i] for i in index.tolist()]))
        for category, index in categories_of(pairs).items()
    }
    return {"calibration": asdict(calibration(margins, prompts)), "calibration_by_category": subsets}


def examined(
    pairs: Sequence[PreferencePair], scores: PairScores, probes: Sequence[Effect] = (), idle: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Mask]]:
    """Findings, features, slices, probes, safety, mistakes; and the pairs of each discovered slice (N,), by its name.

    idle: probes that apply to no text.

    Where there are too few pairs for it, `missing` has the reason and nothing else is there.
    """
    prompts, chosen, rejected = ([getattr(pair, side) for pair in pairs] for side in ("prompt", "chosen", "rejected"))
    differences = feature_differences(chosen, rejected)
    try:
        found = examine(
            prompts, chosen, rejected, scores.margins,
            categories=[pair.category for pair in pairs], differences=differences, probes=probes,
        )  # fmt: skip
    except BadValue as error:
        return {"missing": str(error)}, {}
    q = {(entry.kind, entry.name): entry.q for entry in found.family}
    part = {
        "missing": None,
        "temperature": found.payments.temperature,
        "attenuation": found.payments.attenuation,
        "pairs": found.payments.n_pairs,
        "tests": len(found.family),
        "findings": [asdict(entry) for entry in found.findings],
        "features": _features(found, q, _gold_prices(pairs, differences)),
        "slices": _slices(found, q),
        "too_small": found.too_small,
        "probes": [
            asdict(row) | {"goes_as_it_should": row.goes_as_it_should, "q": q["probe", row.probe]}
            for row in found.probes
        ],
        "idle_probes": list(idle),
        "safety": _safety(pairs, scores),
        "near_duplicates": _without(near_duplicates(chosen, rejected), scores.margins, prompts),
        "mistake_groups": [
            asdict(group) | {"examples": [pairs[i].id for i in group.examples]}
            for group in mistake_groups(differences, scores.margins)
        ],
    }
    return part, found.discovered_masks


def _features(
    found: Examination, q: Mapping[tuple[str, str], float], gold: Mapping[str, float]
) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind, **asdict(row), "is_collinear": row.is_collinear,
            "q": q[kind, row.feature], "gold": gold.get(row.feature),
        }
        for kind, rows in (("feature", found.payments.coefficients), ("discovered word", found.words))
        for row in rows
    ]  # fmt: skip


def _gold_prices(pairs: Sequence[PreferencePair], differences: FloatArray) -> dict[str, float]:
    """What a judge without any bias would pay for each feature, in the same logits; empty where no gold is known."""
    metas = [pair.meta for pair in pairs]
    if not all(isinstance(meta.get(side), float) for meta in metas for side in ("gold_chosen", "gold_rejected")):
        return {}
    margins = np.array([meta["gold_chosen"] - meta["gold_rejected"] for meta in metas], dtype=np.float64)
    found = payments(differences, margins, list(FEATURES), [pair.prompt for pair in pairs], tested=False)
    return {row.feature: row.model for row in found.coefficients}


def _slices(found: Examination, q: Mapping[tuple[str, str], float]) -> list[dict[str, Any]]:
    return [
        {"kind": kind, **asdict(row), "q": q[kind, row.name]}
        for kind, slices in (("slice", found.slices), ("discovered slice", found.discovered))
        for row in slices
    ]


def _safety(pairs: Sequence[PreferencePair], scores: PairScores) -> dict[str, Any]:
    found = safety([pair.chosen for pair in pairs], [pair.rejected for pair in pairs], scores.margins)
    worst = [
        {
            "pair_id": pairs[i].id,
            "category": pairs[i].category,
            "chosen_score": float(scores.chosen[i]),
            "rejected_score": float(scores.rejected[i]),
        }
        for i in found.worst
    ]
    return asdict(found) | {"worst": worst}


def _without(is_near: npt.NDArray[np.bool_], margins: FloatArray, prompts: list[str]) -> dict[str, Any]:
    rest = np.flatnonzero(~is_near)
    share = accuracy(right(margins)[None, rest], [prompts[i] for i in rest.tolist()]) if len(rest) else None
    return {"pairs": int(is_near.sum()), "accuracy_without": share.to_dict() if share else None}
