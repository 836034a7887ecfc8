"""The scores as dense arrays: one (models, seeds, prompts, samples) block a column, whatever the order of the rows."""

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
    blocks: dict[str, FloatArray]  # column -> (M, S, P, K), NaN where there is no value

    def block(self, model: str, column: str) -> FloatArray:
        """(S, P, K) of one model."""
        block: FloatArray = self.blocks[column][self.models.index(model)]
        return block

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
    at_sample, samples = _codes(scores["sample"].astype(int))
    at_model = scores["model"].astype(str).map({name: i for i, name in enumerate(names)}).to_numpy(dtype=np.int64)
    at_seed = scores["seed"].astype(int).map({seed: i for i, seed in enumerate(seeds)}).to_numpy(dtype=np.int64)
    blocks = {}
    for column in columns:
        values = scores[column].to_numpy(dtype=np.float64, na_value=np.nan)
        block = np.full((len(names), len(seeds), len(prompts), len(samples)), np.nan)
        block[at_model, at_seed, at_prompt, at_sample] = np.where(np.isfinite(values), values, np.nan)
        blocks[column] = block
    return ScoreTable(names, seeds, [str(prompt) for prompt in prompts], blocks)


def _codes(keys: pd.Series) -> tuple[npt.NDArray[np.int64], list[object]]:
    codes, found = pd.factorize(keys, sort=True)
    return codes.astype(np.int64), list(found)
