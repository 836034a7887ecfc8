"""A share that a rule counts, corrected by people's labels of a random sample of the responses.

A rule errs, and not on every model alike. Draw a sample of one model's responses, label it, and give the labels back:

    found = evaluate("safety", run="default")
    sample = draw_for_labelling(found.scores, found.responses, model="ppo", metric="refused:harmful", n=30)
    sample.to_csv("labels.csv", index=False)        # fill in the column label: 1 or 0
    prediction_powered_share(found.scores, pd.read_csv("labels.csv"), model="ppo", metric="refused:harmful")

The result is a number of its own beside the rule's (`stats.ppi`), and replaces it in no table.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.stats.ppi import MIN_LABELS, ppi_share
from rlhf_bench.types import Estimate


def draw_for_labelling(
    scores: pd.DataFrame,
    responses: pd.DataFrame,
    *,
    model: str,
    metric: str,
    n: int,
    training_seed: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """n of a model's responses, drawn at random: prompt_id, prompt, response, and an empty column label.

    The first response to each prompt counts, where `metric` has a value. `scores` and `responses` are those of an
    evaluation; `training_seed` is needed where it has several. Raises as `prediction_powered_share`.
    """
    rows = _first_responses(scores, model, metric, training_seed)
    if not MIN_LABELS <= n <= len(rows):
        raise BadValue(f"a sample of {n} given; expected {MIN_LABELS} to {len(rows)} of the {len(rows)} responses")
    drawn = rows.sample(n, random_state=np.random.Generator(np.random.PCG64(seed)))
    texts = responses.set_index(["model", "seed", "prompt_id", "sample"])[["prompt", "response"]]
    keys = pd.MultiIndex.from_frame(drawn[["model", "seed", "prompt_id", "sample"]])
    found = texts.loc[keys].reset_index()[["prompt_id", "prompt", "response"]]
    return found.assign(label="")


def prediction_powered_share(
    scores: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    model: str,
    metric: str,
    training_seed: int | None = None,
) -> Estimate:
    """The share of a model's responses that people would label 1, by the rule `metric` and a sample of labels.

    `labels` has the columns prompt_id and label (0 or 1), a row for each response of a sample that was drawn at random,
    as by `draw_for_labelling`. See `stats.ppi.ppi_share`.

    Raises BadValue for a model, metric or training seed that the scores do not have and for labels other than 0 and 1,
    DataError for labels of prompts that are not there or are there twice.
    """
    rows = _first_responses(scores, model, metric, training_seed)
    by_prompt = rows.set_index(rows["prompt_id"].astype(str))[metric].astype(float)
    prompts, given = labels["prompt_id"].astype(str), pd.to_numeric(labels["label"], errors="coerce")
    wrong = [prompt for prompt in prompts if prompt not in by_prompt.index]
    if wrong:
        raise DataError(f"a label of the prompt {wrong[0]} given; expected prompts to which {model} has a {metric}")
    if prompts.duplicated().any():
        raise DataError(f"two labels of the prompt {prompts[prompts.duplicated()].iloc[0]} given; expected one")
    if given.isna().any():
        raise BadValue(f"{int(given.isna().sum())} of {len(given)} labels are no number; expected 0 or 1 for each row")
    return ppi_share(given.tolist(), by_prompt.loc[prompts].tolist(), by_prompt.tolist())


def _first_responses(scores: pd.DataFrame, model: str, metric: str, training_seed: int | None) -> pd.DataFrame:
    """The rows of scores of the first response to each prompt for which the metric has a value."""
    if metric not in scores.columns:
        raise BadValue(f"metric {metric!r} given; expected a column of the scores, such as refused")
    rows = scores[(scores["model"] == model) & (scores["sample"] == 0) & scores[metric].notna()]
    seeds = sorted({int(seed) for seed in rows["seed"]})
    if training_seed is None and len(seeds) > 1:
        raise BadValue(f"{model} was trained with the seeds {seeds}; expected one of them as training_seed")
    chosen = rows if training_seed is None else rows[rows["seed"] == training_seed]
    if chosen.empty:
        raise BadValue(
            f"no response of {model!r} (training seed {training_seed}) has a {metric}; expected a model of it"
        )
    return chosen
