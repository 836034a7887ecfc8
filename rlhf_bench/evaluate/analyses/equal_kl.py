"""Reward at equal KL: the reward of each method's curve of checkpoints at the same distance from the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rlhf_bench.evaluate.analyses.over_optimisation import GOLD, curve_names
from rlhf_bench.evaluate.analyses.tradeoff import KL
from rlhf_bench.stats import FloatArray, crossed, reference_z_cells
from rlhf_bench.stats.overoptimisation import AtKl, curve_at
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import BY_REFERENCE, ScoreTable

BAND = 25  # points of a drawn band
# nats of the table's rows
ROUND = sorted(round(m * 10.0**k, 3) for m in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) for k in range(-2, 4))


class Points(NamedTuple):
    """The members of a curve, or one model alone."""

    kl: FloatArray  # (C, S, P)
    reward: FloatArray
    scale: FloatArray | None  # (S, P, K) rewards of the reference, where it standardised those of the members

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(P,): prompts that every member has under every seed."""
        return np.asarray(np.isfinite(self.kl + self.reward).all(axis=(0, 1)))

    def on(self, prompts: npt.NDArray[np.bool_]) -> Points:
        """The points on some of the prompts; rewards allow for the reference's mean and sd being estimates."""
        kl, reward = self.kl[:, :, prompts], self.reward[:, :, prompts]
        if self.scale is None:
            return Points(kl, reward, None)
        scale = self.scale[:, prompts]
        return Points(kl, np.stack([reference_z_cells(cells[..., None], scale) for cells in reward]), None)


def equal_kl(table: ScoreTable, *, reference: str, seed: int = 0) -> Iterator[dict[str, Any]]:
    """One dict per reward: {"metric", "kl", "bands", "rows"}, for models called NAME@STEP; none without such a curve.

    A curve of two or more members is linear between its neighbours in KL, and is never extrapolated. "bands" holds each
    curve's reward at BAND KLs from its least to its largest. A row is one KL, a round one or that of a "model" of no
    curve: each curve's reward there, and the differences a - b of all that have one, paired by prompt and seed. Only
    prompts count that every member of every curve, and the row's model, has under every seed. Intervals are for one
    KL at a time.
    """
    if KL not in table.blocks:
        return
    names = curve_names(table.models, at_least=2)
    in_curves = [model for members in names.values() for model in members]
    single = [model for model in table.models if model not in (*in_curves, *ANCHORS, reference)]
    learned = "reward" if len(table.seeds) == 1 else "reward_z"  # as the plots have it
    for metric in (name for name in (learned, GOLD) if name in table.blocks):
        everywhere = {name: _points(table, members, metric, reference) for name, members in names.items()}
        curves = {name: points for name, points in everywhere.items() if points.known.any()}
        if not curves or not (prompts := np.all([p.known for p in curves.values()], axis=0)).any():
            continue
        shared = {name: points.on(prompts) for name, points in curves.items()}
        rows = []
        for kl in ROUND:
            if found := _read(shared, kl):
                rows.append(_row(kl, {name: point.cells for name, point in found.items()}, seed))
        for model in single:
            alone = _points(table, [model], metric, reference)
            rows += _row_of_model(model, alone, curves, alone.known & prompts, seed)
        bands = {name: _band(points, seed) for name, points in shared.items()}
        yield {"metric": metric, "kl": KL, "bands": bands, "rows": rows}


def _points(table: ScoreTable, models: Sequence[str], metric: str, reference: str) -> Points:
    kl, reward = (np.stack([nanmean(table.block(m, column), axis=2) for m in models]) for column in (KL, metric))
    return Points(kl, reward, table.block(reference, metric) if metric in BY_REFERENCE else None)


def _read(curves: Mapping[str, Points], kl: float) -> dict[str, AtKl]:
    """The curves that reach `kl`, there."""
    found = {name: curve_at(points.kl, points.reward, kl) for name, points in curves.items()}
    return {name: point for name, point in found.items() if point is not None}


def _band(points: Points, seed: int) -> list[dict[str, Any]]:
    means = points.kl.mean(axis=(1, 2))
    grid = np.linspace(means.min(), means.max(), BAND).clip(means.min(), means.max())  # rounding leaves the ends
    read = [(float(kl), curve_at(points.kl, points.reward, float(kl))) for kl in grid]
    return [{"kl": kl, "reward": crossed(p.cells, seed=seed).to_dict()} for kl, p in read if p is not None]


def _row_of_model(
    model: str, alone: Points, curves: Mapping[str, Points], prompts: npt.NDArray[np.bool_], seed: int
) -> list[dict[str, Any]]:
    """The row of the KL at which `model` is; none where no curve reaches it."""
    if not prompts.any():
        return []
    (kl,), (reward,), _ = alone.on(prompts)
    at = float(kl.mean())
    # the model's own KL is uncertain, too: a curve is read off wherever that turns out to be
    found = _read({name: points.on(prompts) for name, points in curves.items()}, at)
    moved = {name: point.cells + point.slope * (kl - at) for name, point in found.items()}
    return [{"model": model, **_row(at, {model: reward, **moved}, seed)}] if moved else []


def _row(kl: float, cells: Mapping[str, FloatArray], seed: int) -> dict[str, Any]:
    """What each has at `kl`, from (S, P) cells, and the differences, the earlier less the later."""
    return {
        "kl": kl,
        "reward": {name: crossed(c, seed=seed).to_dict() for name, c in cells.items()},
        "differences": [
            {"a": a, "b": b, "difference": crossed(cells[a] - cells[b], seed=seed).to_dict()}
            for a, b in combinations(cells, 2)
        ],
    }
