"""Where each model's gain in reward over the reference came from: length, style, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.analyses.tradeoff import REWARDS
from rlhf_bench.scorers.style import COLUMNS_OF_GROUP, STYLE_COLUMNS
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.decomposition import Prices, Split, fit_prices, split_gain
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.result import SCORE_KEYS
from rlhf_bench.store.score_table import BY_REFERENCE, ScoreTable, score_table


class Gain(NamedTuple):
    metric: str  # reward_z or gold
    model: str
    split: Split

    def to_dict(self) -> dict[str, Any]:
        return {"metric": self.metric, "model": self.model, **self.split.to_dict()}


def split_gains(
    scores: pd.DataFrame, *, reference: str, models: Sequence[str], seed: int = 0
) -> Iterator[Gain | BadValue]:
    """The split of each outcome that the scores have, for each model; a BadValue for an outcome that has none.

    Only prompts count of which reference and model have responses under every seed. Nothing is yielded without the
    features of the responses, or without the reference.
    """
    if not {*STYLE_COLUMNS} <= set(scores.columns) or reference not in set(scores["model"]):
        return
    for metric in (name for name in REWARDS if name in scores.columns):
        prices: dict[bytes, Prices] = {}  # by the prompts that they were fitted on: the same ones for most models
        try:
            for model in (m for m in models if m not in (reference, *ANCHORS)):
                rows = scores.loc[scores["model"].isin([reference, model]), [*SCORE_KEYS, metric, *STYLE_COLUMNS]]
                both = score_table(rows, [metric, *STYLE_COLUMNS])
                sides = [_Side.of(both, name, metric) for name in (reference, model)]
                difference = sides[1].means - sides[0].means  # (S, P, 1 + F)
                prompts = np.isfinite(difference).all(axis=(0, 2))
                if not prompts.any():
                    continue
                key = prompts.tobytes()
                if key not in prices:
                    outcome, features = sides[0].outcome[:, prompts], sides[0].features[:, prompts]
                    by_reference = metric in BY_REFERENCE
                    prices[key] = fit_prices(outcome, features, COLUMNS_OF_GROUP, standardised=by_reference, seed=seed)
                shared = difference[:, prompts]
                yield Gain(metric, model, split_gain(prices[key], shared[..., 0], shared[..., 1:]))
        except BadValue as error:
            yield error


class _Side(NamedTuple):
    outcome: FloatArray  # (S, P, K)
    features: FloatArray  # (S, P, K, F)

    @classmethod
    def of(cls, table: ScoreTable, model: str, metric: str) -> _Side:
        """A model's side; the features of a response without an outcome do not count either."""
        outcome = table.block(model, metric)
        features = np.stack([table.block(model, column) for column in STYLE_COLUMNS], axis=-1)
        return cls(outcome, np.where(np.isfinite(outcome)[..., None], features, np.nan))

    @property
    def means(self) -> FloatArray:  # (S, P, 1 + F)
        outcome = nanmean(self.outcome, axis=2)[..., None]
        return np.concatenate([outcome, nanmean(self.features, axis=2)], axis=2)
