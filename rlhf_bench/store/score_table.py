"""The scores as dense arrays: of each column and model a (seeds, prompts, samples) block, whatever the order of the
rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rlhf_bench.errors import DataError
from rlhf_bench.scorers.reward import HELD_OUT_Z
from rlhf_bench.stats import FloatArray, reference_z_cells, scaled_cells
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store.result import check_rows, order_models

BY_REFERENCE = ("reward_z", HELD_OUT_Z)  # standardised by the reference's responses


@dataclass(frozen=True)
class ScoreTable:
    models: list[str]
    seeds: list[int]
    prompts: list[str]
    blocks: dict[str, dict[str, FloatArray]]  # column -> model -> (S, P, K), K its own; NaN where there is no value

    def block(self, model: str, column: str) -> FloatArray:
        """(S, P, K) of one model, which another may have drawn more samples than."""
        return self.blocks[column][model]

    def cells(self, model: str, column: str, reference: str) -> FloatArray:
        """(S, P): the mean over samples, NaN where there is none.

        Of rewards that the reference standardised, values that allow for its mean and standard deviation being
        estimates from the same prompts; their mean over prompts is the same.
        """
        block = self.block(model, column)
        return (
            reference_z_cells(block, self.block(reference, column))
            if column in BY_REFERENCE
            else nanmean(block, axis=2)
        )

    def change(self, model: str, column: str, reference: str) -> FloatArray:
        """(S, P): the model's mean over samples less the reference's; of rewards that it standardised as in `cells`."""
        a, b = (nanmean(self.block(name, column), axis=2) for name in (model, reference))
        return scaled_cells(a - b, self.block(reference, column)) if column in BY_REFERENCE else a - b

    def counts_alike(self, a: str, b: str, reference: str) -> bool:
        """False where two models count the tokens of one chosen response differently: by two tokenizers.

        A text that no model here has sampled is counted by the reference's tokenizer.
        """
        if "chosen_tokens" not in self.blocks:
            return True
        counts = []
        for model in (a, b):
            own = nanmean(self.block(model, "chosen_tokens"), axis=2)  # (S, P)
            elsewhere = reference in self.models and not np.isfinite(own).any()
            counts.append(nanmean(self.block(reference, "chosen_tokens"), axis=2) if elsewhere else own)
        both = np.isfinite(counts[0]) & np.isfinite(counts[1])
        return bool((counts[0][both] == counts[1][both]).all())


def score_table(scores: pd.DataFrame, columns: Sequence[str]) -> ScoreTable:
    """Dense blocks of `columns`; models in the order of the tables.

    Every model gets a place for every prompt of the table, so that a prompt it lacks counts as missing. Values that
    are not finite become NaN. Raises StoreError for missing keys and rows that occur twice, DataError for no row.
    """
    check_rows("scores", scores)
    if scores.empty:
        raise DataError("scores without a row given; expected a row a response; run the evaluation first")
    names = order_models(sorted(set(scores["model"].astype(str))))
    seeds = sorted({int(seed) for seed in scores["seed"]})
    at_prompt, prompts = _codes(scores["prompt_id"].astype(str))
    at_sample, _ = _codes(scores["sample"].astype(int))
    at_seed = scores["seed"].astype(int).map({seed: i for i, seed in enumerate(seeds)}).to_numpy(dtype=np.int64)
    model = scores["model"].to_numpy(dtype=object)
    rows = {name: np.flatnonzero(model == name) for name in names}
    places = {name: (at_seed[own], at_prompt[own], at_sample[own]) for name, own in rows.items()}
    # what most columns of the data's own responses are: in memory once
    nothing = {name: np.full((len(seeds), len(prompts), int(at[2].max()) + 1), np.nan) for name, at in places.items()}
    blocks: dict[str, dict[str, FloatArray]] = {}
    for column in columns:
        values, of_models = scores[column].to_numpy(dtype=np.float64, na_value=np.nan), dict(nothing)
        values = np.where(np.isfinite(values), values, np.nan)
        for name, own in rows.items():
            if not np.isnan(values[own]).all():
                of_models[name] = nothing[name].copy()
                of_models[name][places[name]] = values[own]
        blocks[column] = of_models
    return ScoreTable(names, seeds, [str(prompt) for prompt in prompts], blocks)


def _codes(keys: pd.Series) -> tuple[npt.NDArray[np.int64], list[object]]:
    codes, found = pd.factorize(keys, sort=True)
    return codes.astype(np.int64), list(found)
