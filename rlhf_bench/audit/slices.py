"""Slices of pairs on which a reward model is right less often, or more often, than it should be.

Accuracy differs between slices also where nothing is wrong, since some pairs are harder: what is tested is accuracy
against what margins and features promise (`promise`). A slice is made without the label: of the features of the pair,
or of those of the side that the model prefers. A slice such as "the chosen one is longer" would choose its own
accuracy.

Named slices come from the features; discovered ones from a shallow decision tree (Breiman et al. 1984) that is grown on
one half of the prompts. The other half alone gives their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlhf_bench.audit.pairs import right
from rlhf_bench.audit.promise import Promise
from rlhf_bench.audit.regression import Mask
from rlhf_bench.audit.regression_fit import POWER, Index, critical_t, degrees_of_freedom, groups_of, sums_by_group
from rlhf_bench.scorers.features import prompt_length, similarity, turns
from rlhf_bench.stats import FloatArray, share_estimate
from rlhf_bench.types import Estimate

MIN_SLICE = 30  # pairs in it and outside it; below, no number
_DEPTH = 3


@dataclass(frozen=True)
class Slice:
    """Accuracy on a part of the pairs. `gap` is accuracy less what is promised; `p` is its test against 0."""

    name: str
    n: int
    inside: Estimate
    outside: Estimate
    promised: float
    gap: float
    gap_low: float
    gap_high: float
    odds_ratio: float
    p: float
    detectable: float  # the smallest true gap that so many pairs show with 80 % power at p < .05


def named_slices(
    prompts: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    margins: FloatArray,
    differences: FloatArray,
    names: Sequence[str],
) -> dict[str, Mask]:
    """Masks (N,) by name: of each feature, that the preferred side has more or less of it; those of the pair."""
    preferred = differences * np.where(margins >= 0, 1.0, -1.0)[:, None]
    return feature_slices(preferred, names, "preferred") | pair_slices(prompts, chosen, rejected)


def feature_slices(differences: FloatArray, names: Sequence[str], side: str) -> dict[str, Mask]:
    """Masks (N,) by name: a side has more of a feature than the other, or less. differences: (N, K) of that side."""
    masks: dict[str, Mask] = {}
    for k, name in enumerate(names):
        masks[f"{name}: more on the {side} side"] = differences[:, k] > 0
        masks[f"{name}: less on the {side} side"] = differences[:, k] < 0
    return masks


def category_slices(categories: Sequence[str | None]) -> dict[str, Mask]:
    """Masks (N,) by name, of the pairs of each category."""
    known = np.asarray(categories, dtype=object)
    return {f"category {name}": known == name for name in sorted({c for c in categories if c is not None})}


def pair_slices(prompts: Sequence[str], chosen: Sequence[str], rejected: Sequence[str]) -> dict[str, Mask]:
    """Masks (N,) by name, of what both sides share: several turns, a long prompt, similar responses."""
    unique = {prompt: (turns(prompt), prompt_length(prompt)) for prompt in dict.fromkeys(prompts)}
    of_pair = np.array([unique[prompt] for prompt in prompts])
    alike = np.array([similarity(a, b) for a, b in zip(chosen, rejected, strict=True)])
    return {
        "more than one turn": of_pair[:, 0] > 1,
        "long prompt (upper third)": of_pair[:, 1] > np.quantile(of_pair[:, 1], 2 / 3),
        "similar responses (upper third)": alike > np.quantile(alike, 2 / 3),
    }


def measure_slice(
    name: str,
    mask: Mask,
    margins: FloatArray,
    promise: Promise,
    groups: Index,
    *,
    among: Mask | None = None,
) -> Slice | None:
    """A slice's numbers, of all pairs or those of a mask; None where fewer than MIN_SLICE are in it or outside it.

    groups: the number of each pair's prompt (N,), by `groups_of`.
    """
    among = np.ones(len(margins), dtype=np.bool_) if among is None else among
    inside, outside = np.flatnonzero(among & mask), np.flatnonzero(among & ~mask)
    if min(len(inside), len(outside)) < MIN_SLICE:
        return None
    correct = right(margins)
    residual = correct - promise.probability
    gap = float(residual[inside].mean())
    influence, of_label = promise.errors(residual, (among & mask).astype(np.float64))
    squares = sums_by_group(influence, groups) ** 2
    se = math.sqrt(float(squares.sum()) * len(squares) / max(len(squares) - 1, 1))
    # Satterthwaite's (1946): where few prompts carry it, the error is known less well than the number of pairs says
    degrees = max(float(squares.sum()) ** 2 / max(float(squares @ squares), 1e-300) - 1, 1.0)
    # where nearly all are right, the pairs seen say too little of the error; the promise itself says how large it is
    by_promise = math.sqrt(float((promise.probability * (1 - promise.probability)) @ of_label**2))
    if by_promise > se:
        se, degrees = by_promise, degrees_of_freedom(groups[inside])
    # the odds of being right inside and outside, a half added to each cell (Haldane 1940)
    odds = [(float(correct[i].sum()) + 0.5) / (len(i) - float(correct[i].sum()) + 0.5) for i in (inside, outside)]
    z = critical_t(degrees)
    p = float(2 * stats.t.sf(abs(gap) / se, degrees)) if se > 0 else 1.0
    return Slice(
        name, len(inside), _share(correct, inside), _share(correct, outside),
        float(promise.probability[inside].mean()), gap, gap - z * se, gap + z * se,
        odds[0] / odds[1], p, POWER * se,
    )  # fmt: skip


def discovered_slices(
    features: Mapping[str, FloatArray],
    margins: FloatArray,
    promise: Promise,
    prompts: Sequence[str],
    *,
    seed: int = 0,
) -> tuple[list[Slice], dict[str, Mask]]:
    """Slices that a decision tree of the gap finds on one half of the prompts, with the other half's numbers alone; and
    their masks of all pairs (N,), by name.

    features: what may define a slice, a column (N,) each, without the label. A leaf's name is its path.
    """
    from sklearn.tree import DecisionTreeRegressor

    half = half_of(prompts, seed)
    x = np.column_stack(list(features.values()))
    residual = right(margins) - promise.probability
    tree = DecisionTreeRegressor(max_depth=_DEPTH, min_samples_leaf=max(MIN_SLICE, len(x) // 40), random_state=seed)
    tree.fit(x[half], residual[half])
    leaves = tree.apply(x)
    masks = {name: leaves == leaf for leaf, name in _leaf_names(tree, list(features)).items()}
    groups = groups_of(prompts)
    found = [measure_slice(name, mask, margins, promise, groups, among=~half) for name, mask in masks.items()]
    kept = [each for each in found if each is not None]
    return kept, {each.name: masks[each.name] for each in kept}


def _leaf_names(tree: object, names: Sequence[str]) -> dict[int, str]:
    """Leaf -> the conditions on the way to it, joined by "and"."""
    found: dict[int, str] = {}
    inner = tree.tree_  # type: ignore[attr-defined]

    def walk(node: int, path: list[str]) -> None:
        left, after = int(inner.children_left[node]), int(inner.children_right[node])
        if left == after:
            found[node] = " and ".join(path) or "all pairs"
            return
        name, threshold = names[int(inner.feature[node])], float(inner.threshold[node])
        walk(left, [*path, f"{name} <= {threshold:.3g}"])
        walk(after, [*path, f"{name} > {threshold:.3g}"])

    walk(0, [])
    return found


def half_of(prompts: Sequence[str], seed: int) -> Mask:
    """True for about half of the prompts, whole prompts together."""
    names = sorted(set(prompts))
    drawn = np.random.default_rng(seed).permutation(len(names)) < len(names) / 2
    is_first = dict(zip(names, drawn.tolist(), strict=True))
    return np.array([is_first[prompt] for prompt in prompts])


def _share(correct: FloatArray, index: Index) -> Estimate:
    """Of pairs, each with equal weight; a tie counts as wrong here, since a share has no halves."""
    return share_estimate((correct[index] == 1).astype(np.float64))
