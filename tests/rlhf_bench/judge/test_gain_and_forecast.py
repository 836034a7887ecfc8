"""What verdicts say beyond win rates: where each came from, and where the frontier's quality falls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.judge.analysis import measured_strengths
from rlhf_bench.judge.analysis.rewards import verdict_forecast, verdict_gains
from rlhf_bench.judge.questions import another_sample
from rlhf_bench.scorers.features import FEATURES
from rlhf_bench.stats import resampling

PROMPTS = [f"p{p:03d}" for p in range(150)]


def rows(model: str, samples: int, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row a response; columns are (P, samples)."""
    keys = [{"model": model, "seed": 0, "prompt_id": p, "sample": k} for p in PROMPTS for k in range(samples)]
    return pd.DataFrame(keys).assign(**{name: values.ravel() for name, values in columns.items()})


def test_a_win_rate_that_is_all_length() -> None:
    """Each unit of length adds a tenth to the chance to win, and nothing else does; the model has one unit more."""
    generator = np.random.default_rng(0)
    style = {f"style_{name}": np.zeros((len(PROMPTS), 2)) for name in FEATURES}
    lengths = {model: generator.normal(mean, 1.0, size=(len(PROMPTS), 2)) for model, mean in (("sft", 0), ("ppo", 1))}
    scores = pd.concat([rows(model, 2, {**style, "style_length": length}) for model, length in lengths.items()])
    chance = np.clip(0.5 + 0.1 * (lengths["ppo"] - lengths["sft"]), 0, 1)
    outcome = (generator.random(chance.shape) < chance).astype(float)
    pairs = rows("ppo", 2, {"outcome": outcome}).assign(baseline="sft")
    with resampling(200):
        (found,) = verdict_gains(pairs, scores)
    assert (found["model"], found["baseline"]) == ("ppo", "sft")
    assert found["gain"]["value"] == pytest.approx(outcome.mean() - 0.5)
    assert set(found["parts"]) == {"length", "rest"}
    assert found["parts"]["length"]["low"] < 0.1 < found["parts"]["length"]["high"]
    assert found["parts"]["rest"]["low"] < 0 < found["parts"]["rest"]["high"]
    assert verdict_gains(pairs, scores[["model", "seed", "prompt_id", "sample"]]) == []
    with resampling(100):
        (none,) = verdict_gains(pairs.assign(outcome=np.nan), scores)
    assert "verdict" in none["reason"]


def judged(quality: float, *, count: int = 150) -> dict[str, object]:
    """The forecast where a response of reward r wins by chance 1/2 + (q(r_1) - q(r_2)) / 4, q = r + `quality` r^2."""
    generator = np.random.default_rng(1)
    rewards = generator.normal(size=(len(PROMPTS), 128))
    q = rewards + quality * rewards**2
    chance = np.clip(0.5 + (q[:, 0:8:2] - q[:, 1:8:2]) / 4, 0, 1)
    outcome = (generator.random(chance.shape) < chance).astype(float)
    pool = rows("sft", 128, {"reward_z": rewards})
    pairs = rows("sft", 4, {"outcome": outcome}).assign(sample=lambda table: 2 * table["sample"])
    scores = pool[pool["sample"] < 8].rename(columns={"reward_z": "reward"})
    with resampling(200):
        return verdict_forecast(pairs[pairs["prompt_id"] < PROMPTS[count - 1]], scores, pool, reference="sft")


def test_quality_that_turns_is_forecast_where_it_turns_and_other_rises_to_the_end() -> None:
    """Of Gaussian rewards the frontier is N(m, 1) at KL m^2 / 2; m - .625 m^2 is highest at m = .8: KL .32. The chance
    of a win is clipped to 1, so the quality that the verdicts tell is a little straighter."""
    found = judged(-0.625)
    assert found["pairs"] == 4 * 149
    assert isinstance(found["kl"], dict)
    assert found["kl"]["low"] < 0.32 < found["kl"]["high"]
    assert found["kl"]["value"] == pytest.approx(0.32, abs=0.12)
    rising = judged(0.0)
    assert isinstance(rising["kl"], dict)
    assert rising["kl"]["value"] == np.inf
    assert "50 or more" in str(judged(0.0, count=10)["reason"])


def test_another_sample_of_a_model_has_no_strength_of_its_own() -> None:
    who = {"judge": "m", "base_url": "here", "template": "t", "seed": 0, "sample": 0, "repeat": 0}
    read = {"order": "model_first", "status": "read", "winner": "first", "soft": np.nan}
    compared = [("ppo", "sft"), ("dpo", "sft"), ("sft", another_sample("sft"))]
    table = pd.DataFrame(
        {**who, **read, "model": model, "baseline": baseline, "prompt_id": prompt}
        for model, baseline in compared
        for prompt in PROMPTS[:12]
    )
    with resampling(100):
        (found,) = measured_strengths(table)
    assert {strength.model for strength in found["models"]} == {"ppo", "dpo", "sft"}
