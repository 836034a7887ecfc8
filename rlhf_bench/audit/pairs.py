"""Scores of both sides of preference pairs, and how often the chosen side has the higher one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rlhf_bench.data import mini
from rlhf_bench.progress import Progress
from rlhf_bench.stats import FloatArray, crossed, mean_estimate, share_estimate
from rlhf_bench.types import Estimate, PreferencePair

if TYPE_CHECKING:  # scores alone are audited without torch
    from torch import Tensor

_CHUNK = 512  # pairs between two signs of progress


class PairScorer(Protocol):
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Tensor | FloatArray:
        """Raw reward of each response, (N,)."""


def rewards(model: PairScorer, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
    """Raw reward of each response, (N,). Raises NotFinite."""
    return np.asarray(model.score(prompts, responses), dtype=np.float64)


class PairScores(NamedTuple):
    """Raw rewards of each pair's two sides."""

    chosen: FloatArray  # (N,)
    rejected: FloatArray  # (N,)

    @property
    def margins(self) -> FloatArray:
        """Chosen minus rejected, (N,): negative where the model is wrong."""
        return self.chosen - self.rejected


def score_pairs(
    model: PairScorer,
    pairs: Sequence[PreferencePair],
    *,
    progress: Progress | None = None,
    label: str = "scoring pairs",
) -> PairScores:
    """Both sides of each pair, in order. Raises NotFinite."""
    progress = progress or Progress(quiet=True)
    chosen, rejected = np.empty(len(pairs)), np.empty(len(pairs))
    with progress.task(label, total=len(pairs)) as task:
        for start in range(0, len(pairs), _CHUNK):
            part = pairs[start : start + _CHUNK]
            prompts = [pair.prompt for pair in part]
            scores = rewards(model, prompts * 2, [pair.chosen for pair in part] + [pair.rejected for pair in part])
            chosen[start : start + len(part)] = scores[: len(part)]
            rejected[start : start + len(part)] = scores[len(part) :]
            task.advance(len(part))
    return PairScores(chosen, rejected)


def right(margins: FloatArray) -> FloatArray:
    """1 where the chosen side has more, 0 where it has less, one half at a tie."""
    return np.where(margins == 0, 0.5, margins > 0).astype(np.float64)


def accuracy(correct: FloatArray, prompts: Sequence[str]) -> Estimate:
    """Share of pairs that are right, (S, N): 1 right, 0 wrong, 0.5 a tie, under each of S seeds; a prompt a pair.

    Prompts are resampled and have equal weight: the pairs of one prompt are averaged first. One seed: a share where
    nothing ties (Wilson with one pair a prompt), else a mean clipped to [0, 1]. Several: prompts crossed with seeds.
    """
    groups: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)
    if len(correct) == 1 and not (correct == 0.5).any():
        return share_estimate([correct[0, index] for index in groups.values()])
    cells = np.array([[row[index].mean() for index in groups.values()] for row in correct])  # (S, P)
    mean = crossed(cells) if len(cells) > 1 else mean_estimate(cells[0])
    return replace(mean, low=max(0.0, mean.low), high=min(1.0, mean.high)) if mean.n > 1 else mean


def mean_over_prompts(values: FloatArray, groups: npt.NDArray[np.intp]) -> Estimate:
    """The mean over prompts of each prompt's mean; values and the number of each one's prompt, (N,)."""
    return mean_estimate(np.bincount(groups, weights=values) / np.bincount(groups))


def audit_pairs(
    pairs: Sequence[PreferencePair],
    scores: Sequence[PairScores],
    untrained: Sequence[PairScores] = (),
    words: FloatArray | None = None,
) -> dict[str, Any]:
    """One row of the audit: accuracy beside what content-blind rules and an untrained model reach, and the ceiling.

    `ties` counts equal scores over all seeds; `accuracy` counts them half, `ties_wrong` as errors.

    `scores`, `untrained`: one entry a seed. `words`: margins of a model of words alone, (N,). Length is in characters.
    Untrained, words and ceiling are None where not known.
    """
    prompts = [pair.prompt for pair in pairs]
    excess = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], dtype=np.float64)

    def of(margins: Sequence[FloatArray]) -> dict[str, Any]:
        return accuracy(np.array([right(row) for row in margins]), prompts).to_dict()

    margins = np.array([found.margins for found in scores])  # (S, N)
    has_p = all(isinstance(pair.meta.get("p_chosen"), float) for pair in pairs)
    return {
        "accuracy": of(list(margins)),
        "ties": int((margins == 0).sum()),
        "ties_wrong": accuracy((margins > 0).astype(np.float64), prompts).to_dict(),
        "longer": of([excess]),
        "shorter": of([-excess]),
        "words": of([words]) if words is not None else None,
        "untrained": of([found.margins for found in untrained]) if untrained else None,
        "ceiling": mini.ceiling(pairs) if pairs and has_p else None,
        "pairs": len(pairs),
    }


def accuracies(
    pairs: Sequence[PreferencePair],
    scores: Sequence[PairScores],
    untrained: Sequence[PairScores] = (),
    words: FloatArray | None = None,
) -> dict[str, Any]:
    """`audit_pairs` of one model (one entry of `scores`), or of several seeds together: of all pairs ("overall"), of
    each category, and of the thirds of the pairs on which annotators agree least and most."""

    def part(index: npt.NDArray[np.intp]) -> dict[str, Any]:
        own, fresh = ([PairScores(s.chosen[index], s.rejected[index]) for s in side] for side in (scores, untrained))
        return audit_pairs([pairs[i] for i in index], own, fresh, None if words is None else words[index])

    return {
        "overall": audit_pairs(pairs, scores, untrained, words),
        "by_category": {name: part(index) for name, index in categories_of(pairs).items()},
        "by_agreement": {name: part(index) for name, index in _agreement_thirds(pairs).items()},
    }


def categories_of(pairs: Sequence[PreferencePair]) -> dict[str, npt.NDArray[np.intp]]:
    """The indices of each category's pairs, by name; none where the data have no categories."""
    names = sorted({pair.category for pair in pairs if pair.category is not None})
    return {name: np.array([i for i, pair in enumerate(pairs) if pair.category == name]) for name in names}


def _agreement_thirds(pairs: Sequence[PreferencePair]) -> dict[str, npt.NDArray[np.intp]]:
    """The indices of the thirds, by name; none where it is not known how far annotators agree.

    Known is |2 p - 1| where p, the share of annotators for the chosen side, is known (hh-mini), or the size of the
    margin that the data state. A pair on which annotators hardly agree has a low ceiling whatever the model, so that
    these are no slices that could be findings.
    """
    known = [_agreement(pair) for pair in pairs]
    agreement = np.array([math.nan if found is None else found for found in known])
    if not len(pairs) or not np.isfinite(agreement).all() or agreement.min() == agreement.max():
        return {}
    low, high = np.quantile(agreement, [1 / 3, 2 / 3])
    masks = {"annotators agree least (third)": agreement <= low, "annotators agree most (third)": agreement >= high}
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def _agreement(pair: PreferencePair) -> float | None:
    p = pair.meta.get("p_chosen")
    if isinstance(p, float):
        return abs(2 * p - 1)
    return None if pair.margin is None else abs(pair.margin)
