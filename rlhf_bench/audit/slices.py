"""Slices of pairs on which a reward model is right less often, or more often, than it should be.

Accuracy differs between slices also where nothing is wrong, since some pairs are harder: what is tested is accuracy
against what is promised, the probability that the preferred side is the chosen one by a logistic regression of the
labels on two numbers: the margin, and what the labels pay for the pair's features (`regression`). A slice is made
without the label: of the features of the pair, or of those of the side that the model prefers. A slice such as "the
chosen one is longer" would choose its own accuracy.

Named slices come from the features; discovered ones from a shallow decision tree (Breiman et al. 1984) that is grown on
one half of the prompts. The other half alone gives their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from rlhf_bench.audit.pairs import right
from rlhf_bench.audit.regression import fit_temperature
from rlhf_bench.scorers.features import prompt_length, similarity, turns
from rlhf_bench.stats import FloatArray, share_estimate
from rlhf_bench.types import Estimate

Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
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


def promised(margins: FloatArray, differences: FloatArray, label_prices: FloatArray) -> FloatArray:
    """The probability that the preferred side of each pair is the chosen one, (N,): from its margin and its features.

    margins: chosen minus rejected (N,); differences: of features, one standard deviation each (N, K); label_prices:
    the labels' coefficients (K,). The labels' logit is a * margin + b * (differences @ label_prices), with a and b
    fitted: a noisy reward model's margin and the features' worth predict the label together.
    """
    scale = fit_temperature(margins)
    x = np.column_stack([margins / scale if math.isfinite(scale) else margins * 0, differences @ label_prices])
    slopes = np.array([1.0, 0.0])
    for _ in range(50):
        p = special.expit(x @ slopes)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * len(x) * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (1 - p))
        slopes = slopes + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    p = special.expit(x @ slopes)
    return np.where(margins > 0, p, np.where(margins < 0, 1 - p, 0.5))


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
    promise: FloatArray,
    prompts: Sequence[str],
    *,
    level: float = 0.95,
) -> Slice | None:
    """A slice's numbers; None where fewer than MIN_SLICE pairs are in it or outside it."""
    inside = np.flatnonzero(mask)
    outside = np.flatnonzero(~mask)
    if min(len(inside), len(outside)) < MIN_SLICE:
        return None
    correct = right(margins)
    residual = correct - promise
    gap, se, n_prompts = _clustered_mean(residual[inside], [prompts[i] for i in inside.tolist()])
    # where nearly all are right, the pairs seen say too little of the spread; the promise itself says how large it is
    se = max(se, math.sqrt(float((promise[inside] * (1 - promise[inside])).sum())) / len(inside))
    z = float(stats.t.ppf((1 + level) / 2, max(n_prompts - 1, 1)))
    p = float(2 * stats.t.sf(abs(gap) / se, max(n_prompts - 1, 1))) if se > 0 else 1.0
    power = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    return Slice(
        name, len(inside), _share(correct, inside, level), _share(correct, outside, level),
        float(promise[inside].mean()), gap, gap - z * se, gap + z * se, _odds_ratio(correct, inside, outside), p,
        power * se,
    )  # fmt: skip


def discovered_slices(
    features: Mapping[str, FloatArray],
    margins: FloatArray,
    promise: FloatArray,
    prompts: Sequence[str],
    *,
    seed: int = 0,
) -> list[Slice]:
    """Slices that a decision tree of the gap finds on one half of the prompts, with the other half's numbers alone.

    features: what may define a slice, a column (N,) each, without the label. A leaf's name is its path.
    """
    from sklearn.tree import DecisionTreeRegressor

    half = half_of(prompts, seed)
    x = np.column_stack(list(features.values()))
    residual = right(margins) - promise
    tree = DecisionTreeRegressor(max_depth=_DEPTH, min_samples_leaf=max(MIN_SLICE, len(x) // 40), random_state=seed)
    tree.fit(x[half], residual[half])
    rest = np.flatnonzero(~half)
    leaves = tree.apply(x[rest])
    found = []
    for leaf, name in _leaf_names(tree, list(features)).items():
        of_leaf = measure_slice(name, leaves == leaf, margins[rest], promise[rest], [prompts[i] for i in rest.tolist()])
        if of_leaf is not None:
            found.append(of_leaf)
    return found


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


def _clustered_mean(values: FloatArray, prompts: Sequence[str]) -> tuple[float, float, int]:
    """Mean, its standard error with pairs of a prompt together, and the number of prompts."""
    groups = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)[1]
    n = int(groups.max()) + 1
    mean = float(values.mean())
    sums = np.bincount(groups, weights=values - mean)
    return mean, math.sqrt(float((sums**2).sum()) * n / max(n - 1, 1)) / len(values), n


def _share(correct: FloatArray, index: Index, level: float) -> Estimate:
    """Of pairs, each with equal weight; a tie counts as wrong here, since a share has no halves."""
    return share_estimate((correct[index] == 1).astype(np.float64), level=level)


def _odds_ratio(correct: FloatArray, inside: Index, outside: Index) -> float:
    """Odds of being right inside over those outside, a half added to each cell (Haldane 1940)."""
    cells = [float(correct[i].sum()) for i in (inside, outside)]
    a, c = cells
    return ((a + 0.5) / (len(inside) - a + 0.5)) / ((c + 0.5) / (len(outside) - c + 0.5))
