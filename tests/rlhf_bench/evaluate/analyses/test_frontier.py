"""The frontier of a bandit with a known optimum, from the pool's rows to the alarm and the table."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.analyses.frontier import frontier_alarms, frontier_curve
from rlhf_bench.stats import resampling

P, RESPONSES, N = 60, 12, 96


class Bandit(NamedTuple):
    """Prompts with a known set of responses: their probabilities and rewards, (P, RESPONSES) each."""

    probabilities: np.ndarray
    rewards: np.ndarray

    def optimum(self, beta: float) -> np.ndarray:
        """pi exp(r / beta) / Z, (P, RESPONSES)."""
        q = self.probabilities * np.exp(self.rewards / beta)
        return q / q.sum(1, keepdims=True)

    def reward_and_kl(self, beta: float) -> tuple[np.ndarray, np.ndarray]:
        """(P,) each: the gain of the optimum over the reference, and its KL, summed over all responses."""
        q = self.optimum(beta)
        return ((q - self.probabilities) * self.rewards).sum(1), (q * np.log(q / self.probabilities)).sum(1)

    def rows(self, model: str, policy: np.ndarray, samples: int, kl: np.ndarray, seed: int) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        drawn = [generator.choice(RESPONSES, size=samples, p=row) for row in policy]
        return pd.DataFrame(
            {"model": model, "seed": 0, "prompt_id": f"p{p:03d}", "sample": k, "reward_z": self.rewards[p, y],
             "gold": -self.rewards[p, y], "kl_exact": kl[p]}
            for p in range(P) for k, y in enumerate(drawn[p])
        )  # fmt: skip


@pytest.fixture(scope="module")
def bandit() -> Bandit:
    generator = np.random.default_rng(11)
    return Bandit(generator.dirichlet(np.full(RESPONSES, 3.0), size=P), generator.normal(size=(P, RESPONSES)))


def test_the_known_optimum_lies_on_the_curve_and_has_all_of_what_is_possible(bandit: Bandit) -> None:
    pool = bandit.rows("sft", bandit.probabilities, N, np.zeros(P), seed=1)
    best, kl = bandit.reward_and_kl(beta=1.5)
    halfway = (bandit.optimum(1.5) + bandit.probabilities) / 2
    cost = (halfway * np.log(halfway / bandit.probabilities)).sum(1)
    possible = np.interp(cost.mean(), *_exact(bandit))
    scores = pd.concat(
        [
            pool[pool["sample"] < 4],
            bandit.rows("best", bandit.optimum(1.5), 50, kl, seed=2),
            bandit.rows("half", halfway, 50, cost, seed=3),
            bandit.rows("wrong", bandit.optimum(1.5), 50, kl / 4, seed=4),  # its KL is measured too low
            bandit.rows("far", bandit.optimum(1.5), 50, kl + 2.0, seed=5),
        ]
    )
    with resampling(300):
        found = frontier_curve(pool, scores)
    models = found["models"]
    for point in found["points"][1:]:
        exact = float(np.interp(point["kl"], *_exact(bandit)))
        slack = point["bias"] + 0.01
        assert point["reward_z"]["low"] - slack < exact < point["reward_z"]["high"] + slack
        assert point["gold"]["value"] == pytest.approx(-point["reward_z"]["value"])
    assert found["points"][0]["kl"] == 0
    assert found["turns"]["gold"]["kl"]["value"] == 0  # gold falls from the start
    assert models["best"]["kl"] == pytest.approx(kl.mean())
    for name, share in (("best", 1.0), ("half", best.mean() / 2 / possible)):
        assert models[name]["efficiency"]["low"] < share < models[name]["efficiency"]["high"]
        assert models[name]["efficiency"]["value"] == pytest.approx(share, abs=0.15)
    assert models["far"]["efficiency"] is None
    assert models["far"]["needed"] == math.ceil(N * math.exp(2 * (kl.mean() + 2 - found["reach"])))
    assert [(alarm.model, alarm.kind) for alarm in frontier_alarms(found)] == [("wrong", "above_frontier")]


def _exact(bandit: Bandit) -> tuple[list[float], list[float]]:
    """The exact frontier: KL and gain, by a sweep of beta."""
    found = [bandit.reward_and_kl(beta) for beta in np.geomspace(50.0, 0.3, 60)]
    return [0.0, *(float(kl.mean()) for _, kl in found)], [0.0, *(float(gain.mean()) for gain, _ in found)]


def test_a_model_without_all_prompts_and_a_pool_too_small(bandit: Bandit) -> None:
    pool = bandit.rows("sft", bandit.probabilities, 40, np.zeros(P), seed=1)
    lacking = bandit.rows("mine", bandit.probabilities, 2, np.ones(P), seed=2).query("prompt_id != 'p003'")
    with resampling(100):
        found = frontier_curve(pool, pd.concat([pool[pool["sample"] < 2], lacking]))
    assert found["models"]["mine"]["efficiency"] is None
    assert found["models"]["mine"]["reason"]
    with pytest.raises(BadValue, match="effective sample size"):
        frontier_curve(pool[pool["sample"] < 6], pool)
    with pytest.raises(BadValue, match="standardised"):
        frontier_curve(pool.drop(columns="reward_z").assign(reward=1.0), pool)
