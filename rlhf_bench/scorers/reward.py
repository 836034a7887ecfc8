"""What reward models think of each response: raw, and standardised by the reference so that seeds can be pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rlhf_bench.errors import UnknownName
from rlhf_bench.scorers.base import CUT, AlarmRule, Columns, EvalContext, Metric, Missing, ResponseRow, Scorer, Values

HELD_OUT = "reward_held_out"  # the reward model of another training seed, which no policy was optimised against
HELD_OUT_Z = f"{HELD_OUT}_z"
READ_OFF = ("reward", "reward_z", "gold")  # what is read off of samples that a reward chose or weighed
REWARD_PREFIX = "reward:"  # a reward model that scores beside the first


class RewardScorer(Scorer):
    order = 10
    metrics = (
        Metric(
            "reward", "Reward", "", True, 3, "the reward model's scalar at the last token, raw",
            compared=True, tables={"summary": 10, "per_seed": 10}, expected=True,
        ),
        Metric(
            "reward_std", "Reward std", "", None, 3, "standard deviation of the raw reward over responses (ddof 1)",
            kind="std", columns=("reward",), tables={"summary": 30, "per_seed": 30}, expected=True,
        ),
        Metric(
            "reward_z", "Reward (z)", "reference sd", True, 3,
            "reward minus the mean of the reference's responses, over their standard deviation, within each seed",
            compared=True, standardises="reward", tables={"summary": 10},
        ),
        Metric(
            "reward_z_std", "Reward std (z)", "reference sd", None, 3,
            "standard deviation of reward_z over each seed's responses (ddof 1), geometric mean over seeds",
            kind="std", columns=("reward_z",), standardises="reward_std", tables={"summary": 30},
        ),
        Metric(
            HELD_OUT_Z, "Other seed's RM (z)", "reference sd", True, 3,
            "as reward_z, by the reward model of another training seed, which the model was not optimised against",
            compared=True, alarm=AlarmRule(
                "reward against another seed's reward model", -1, "the gain may be errors of its own reward model that "
                "it learned to use", with_reward=True,
            ),
            tables={"summary": 20},
        ),
    )  # fmt: skip

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        prompts, texts = [row.prompt for row in rows], [row.response for row in rows]
        ended, columns = [row.ended for row in rows], dict[str, Values | Missing]()
        for column, model in context.reward_models:
            found = model.rewards(prompts, texts, ended, processes=context.processes)
            columns |= {column: found.values.double().numpy(), f"{CUT}{column}": found.cut.double().numpy()}
        return columns

    def describe(self, name: str) -> Metric | None:
        model = name.removeprefix(REWARD_PREFIX)
        if not model or model == name:
            return None
        description = f"the scalar of the further reward model {model}, raw"
        return Metric(name, f"Reward: {model}", "", True, 3, description, compared=True, tables={"summary": 20})


SCORER = RewardScorer()


def add_reward_z(scores: pd.DataFrame, reference: str) -> pd.DataFrame:
    """A copy with the column `reward_z`: each seed's rewards, z-scored by that seed's responses of the reference.

    With held-out rewards there is a `reward_held_out_z` as well, made likewise.

    A reward model's scale and offset are arbitrary, so this comes before anything is pooled over seeds. The
    mean and standard deviation are taken as given in the intervals. Raises UnknownName if no row is of the reference.
    """
    for column in (c for c in ("reward", HELD_OUT) if c in scores.columns):
        scores = with_reward_z(scores, reward_scales(scores, reference, column), column)
    return scores


def reward_scales(scores: pd.DataFrame, reference: str, column: str = "reward") -> dict[int, tuple[float, float]]:
    """Seed -> mean and standard deviation (ddof 1) of the rewards of the reference's responses.

    A seed with fewer than two of them, or where they are all the same, is left out. Raises UnknownName if no row is of
    the reference.
    """
    names = set(scores["model"].astype(str))
    if reference not in names:
        raise UnknownName("reference model", reference, names)
    raw = scores[column].to_numpy(dtype=np.float64, na_value=np.nan)
    seeds = scores["seed"].to_numpy()
    is_reference = (scores["model"] == reference).to_numpy() & np.isfinite(raw)
    scales = {}
    for seed in np.unique(seeds):
        of_reference = np.sort(raw[(seeds == seed) & is_reference])  # the sum must not depend on the order of the rows
        if len(of_reference) > 1 and np.ptp(of_reference) > 0:
            scales[int(seed)] = float(of_reference.mean()), float(of_reference.std(ddof=1))
    return scales


def with_reward_z(
    scores: pd.DataFrame, scales: Mapping[int, tuple[float, float]], column: str = "reward"
) -> pd.DataFrame:
    """A copy with the column `<column>_z`, (reward - mean) / sd of the row's seed; NaN for a seed without a scale."""
    raw = scores[column].to_numpy(dtype=np.float64, na_value=np.nan)
    seeds = scores["seed"].to_numpy()
    z = np.full(len(raw), np.nan)
    for seed, (mean, sd) in scales.items():
        z[seeds == seed] = (raw[seeds == seed] - mean) / sd
    return scores.assign(**{f"{column}_z": z})
