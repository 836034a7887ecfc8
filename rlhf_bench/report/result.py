"""A results folder, read once, as tables, plots and the page want it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd

from rlhf_bench.scorers.reward import add_reward_z
from rlhf_bench.store import ANCHORS, ResultStore, order_models
from rlhf_bench.types import Estimate

__all__ = ["Result", "known", "load_result"]


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

    @cached_property
    def models(self) -> list[str]:
        """Every model with a number, anchors last."""
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
        return "learned reward (raw)" if self.reward_key == "reward" else f"learned reward (z by {self.reference})"

    @property
    def data_label(self) -> str:
        """The data set that every table and plot names."""
        data = self.manifest["data"]
        return f"{data.get('source', 'unknown data')} ({data.get('split', 'unknown split')})"

    @cached_property
    def has_gold(self) -> bool:
        return any(known(self.estimate(model, "gold")) for model in self.models)

    @property
    def gold_parts(self) -> list[str]:
        """The gold reward's components, `gold_<component>`, in the order they were written."""
        keys = [key for cells in self.metrics["models"].values() for key in cells if key.startswith("gold_")]
        return list(dict.fromkeys(keys))

    def estimate(self, model: str, metric: str, seed: int | None = None) -> Estimate | None:
        """The pooled estimate, or that of one seed; None if it was not computed."""
        table = self.metrics["models"] if seed is None else self.metrics.get("per_seed", {}).get(str(seed), {})
        cell = table.get(model, {}).get(metric)
        return Estimate.from_dict(cell) if cell else None

    def rows(self, model: str, column: str) -> pd.Series[float]:
        """One column of a model's responses, missing values dropped."""
        if column not in self.scores.columns:
            return pd.Series(dtype=float)
        values: pd.Series[float] = self.scores.loc[self.scores["model"] == model, column].dropna()
        return values

    def responses(self) -> list[dict[str, Any]]:
        return ResultStore(self.path).read_responses()

    def differs(self, model: str, metrics: Sequence[str]) -> int:
        """+1 or -1 if `model` differs from the reference in the first of `metrics` that was tested, else 0.

        Tested means paired over prompts, Holm-corrected within the metric, at 5 %.
        """
        for metric in metrics:
            for row in self.metrics.get("pairwise", []):
                if row["metric"] == metric and {row["a"], row["b"]} == {model, self.reference}:
                    sign = 1 if row["a"] == model else -1
                    difference = sign * row["difference"]["value"]
                    return 0 if not row["p_holm"] < 0.05 else (1 if difference > 0 else -1)
        return 0


def load_result(path: Path) -> Result:
    """Raises StoreError if the manifest, the metrics or the scores are missing or broken, or responses are lost."""
    store = ResultStore(path)
    manifest, scores = store.read_manifest(), store.read_scores()
    store.check_responses()
    reference = str(manifest["reference"])
    if "reward" in scores.columns and "reward_z" not in scores.columns and (scores["model"] == reference).any():
        scores = add_reward_z(scores, reference)  # the store holds what was measured
    return Result(store.path, manifest, store.read_metrics(), scores, store.read_logs(), store.read_judge())
