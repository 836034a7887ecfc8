"""A results folder, read once, in the form that tables, plots and the page read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import pandas as pd

from rlhf_bench.scorers import describe
from rlhf_bench.scorers.reward import add_reward_z
from rlhf_bench.store import ANCHORS, ResultStore, order_models
from rlhf_bench.types import Estimate

T = TypeVar("T")


def known(estimate: Estimate | None) -> TypeGuard[Estimate]:
    """True if there is a number to show."""
    return estimate is not None and math.isfinite(estimate.value)


@dataclass(frozen=True)
class Result:
    path: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    scores: pd.DataFrame  # a row a response
    logs: dict[tuple[str, int], list[dict[str, Any]]]  # (model, seed) -> training log rows
    judge: dict[str, Any] = field(default_factory=dict)  # judge.json; empty if nothing was judged
    audit: dict[str, Any] = field(default_factory=dict)  # audit.json; empty if no reward model was audited

    @cached_property
    def models(self) -> list[str]:
        """Every model with a number, dataset responses last."""
        return order_models([*self.manifest["models"], *self.metrics["models"]])

    @property
    def policies(self) -> list[str]:
        return [name for name in self.models if name not in ANCHORS]

    @property
    def seeds(self) -> list[int]:
        return [int(seed) for seed in self.manifest["seeds"]]

    @property
    def reference(self) -> str:
        return str(self.manifest["reference"])

    @property
    def sampling(self) -> dict[str, Any]:
        return dict(self.manifest.get("sampling", {}))

    @cached_property
    def reward_key(self) -> str:
        """`reward` for one seed, `reward_z` for several: raw rewards of several reward models have no common scale."""
        several = len(self.seeds) > 1 and any("reward_z" in cells for cells in self.metrics["models"].values())
        return "reward_z" if several else "reward"

    @property
    def reward_label(self) -> str:
        return "learned reward (raw)" if self.reward_key == "reward" else "learned reward (z by the reference)"

    @property
    def data_label(self) -> str:
        """The data set that every table and plot names."""
        data = self.manifest["data"]
        return f"{data.get('source', 'unknown data')} ({data.get('split', 'unknown split')})"

    @cached_property
    def has_gold(self) -> bool:
        return self.has("gold")

    @cached_property
    def metric_names(self) -> list[str]:
        """Every metric that was computed for any model, in the order in which they were written."""
        return list(dict.fromkeys(key for cells in self.metrics["models"].values() for key in cells))

    def has(self, metric: str) -> bool:
        """Whether any model has a number of it."""
        return any(known(self.estimate(model, metric)) for model in self.models)

    def estimate(self, model: str, metric: str, seed: int | None = None) -> Estimate | None:
        """The pooled estimate, or that of one seed; None if it was not computed."""
        table = self.metrics["models"] if seed is None else self.metrics.get("per_seed", {}).get(str(seed), {})
        cell = table.get(model, {}).get(metric)
        return Estimate.from_dict(cell) if cell else None

    def coordinate(self, model: str, metric: str, seed: int | None = None) -> Estimate | None:
        """The `estimate` of a number that plots draw models against: the KL of the reference to itself is 0."""
        found = self.estimate(model, metric, seed)
        if metric == "kl_exact" and model == self.reference and not known(found):
            return Estimate(0.0, 0.0, 0.0, 0, method="definition")
        return found

    def rows(self, model: str, column: str) -> pd.Series[float]:
        """One column of a model's responses, missing values dropped."""
        if column not in self.scores.columns:
            return pd.Series(dtype=float)
        values: pd.Series[float] = self.scores.loc[self.scores["model"] == model, column].dropna()
        return values

    def responses(self, pick: Callable[[dict[str, Any]], T | None]) -> list[T]:
        """What `pick` makes of each response, where that is not None."""
        return ResultStore(self.path).pick_responses(pick)

    def pairs(self, metric: str) -> list[dict[str, Any]]:
        """The paired tests of a metric, a row a pair; rewards of several seeds are compared under either name."""
        names = ["reward_z", "reward"] if metric == "reward_z" else [metric]
        rows: list[dict[str, Any]] = self.metrics.get("pairwise", [])
        return next((found for name in names if (found := [row for row in rows if row["metric"] == name])), [])

    def differs(self, model: str, metric: str) -> int:
        """+1 or -1 if `model` differs from the reference, paired over prompts, Holm-corrected, at 5 %; else 0."""
        for row in self.pairs(metric):
            if {row["a"], row["b"]} == {model, self.reference}:
                sign = 1 if row["a"] == model else -1
                difference = sign * row["difference"]["value"]
                return 0 if not is_rejected(row) else (1 if difference > 0 else -1)
        return 0

    def best(self, metric: str) -> set[str]:
        """The best models of a metric with a direction: the first, and those that the paired tests do not tell from it.

        Empty where they tell no model from the first.
        """
        rows = self.pairs(metric)
        higher = describe(metric).higher_is_better if rows else None
        cells = {model: self.estimate(model, metric) for model in self.policies}
        values = {model: cell.value for model, cell in cells.items() if known(cell)}
        if higher is None or not values:
            return set()
        first = (max if higher else min)(values, key=lambda model: values[model])
        rejected = {frozenset((row["a"], row["b"])): is_rejected(row) for row in rows}
        worse = [model for model in values if rejected.get(frozenset((first, model)))]
        equal = [model for model in values if rejected.get(frozenset((first, model))) is False]
        return {first, *equal} if worse else set()


def is_rejected(row: Mapping[str, Any]) -> bool:
    """Whether the paired test of a difference rejects that there is none: Holm's p below 5 %."""
    return bool(row["p_holm"] < 0.05)


def load_result(path: Path) -> Result:
    """Raises StoreError if the manifest, the metrics or the scores are missing or broken, or responses are lost."""
    store = ResultStore(path)
    manifest, scores = store.read_manifest(), store.read_scores()
    store.check_responses()
    reference = str(manifest["reference"])
    if "reward" in scores.columns and "reward_z" not in scores.columns and (scores["model"] == reference).any():
        scores = add_reward_z(scores, reference)  # the store holds what was measured
    return Result(
        store.path,
        manifest,
        store.read_metrics(),
        scores,
        store.read_logs(),
        store.read_judge(),
        store.read_audit() or {},
    )
