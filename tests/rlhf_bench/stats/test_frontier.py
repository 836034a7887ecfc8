"""The frontier against optima that are known: enumerated responses, and Gaussian rewards."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf_bench.errors import BadValue
from rlhf_bench.stats import resampling
from rlhf_bench.stats.frontier import REWARD, efficiency, estimate_frontier, excess, samples_needed, seed_curve
from rlhf_bench.stats.tilting import tilted

P = 60


def gaussian(n: int, *, prompts: int = P, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(prompts, n))


def enumerated(beta: float, probabilities: np.ndarray, rewards: np.ndarray) -> tuple[float, float]:
    """Reward and KL of pi exp(r / beta) / Z where every response is known, summed by hand."""
    q = probabilities * np.exp(rewards / beta)
    q = q / q.sum()
    return float((q * rewards).sum()), float((q * np.log(q / probabilities)).sum())


def test_samples_in_proportion_give_the_enumerated_optimum() -> None:
    """20 samples that hold each response exactly as often as the reference gives it: the plain weights are exact, and
    what the jackknife changes is of the order of 1 / N."""
    probabilities, rewards = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 1.0, 2.0, 4.0])
    for copies, close in ((20, 0.03), (500, 0.002)):
        samples = np.repeat(rewards, (probabilities * 20 * copies).round().astype(int))[None]
        for beta in (1.0, 2.0, 10.0):
            reward, kl = enumerated(beta, probabilities, rewards)
            found = tilted(samples, {"reward": samples}, [1 / beta])
            assert found.values["reward"][0, 0] == pytest.approx(reward, rel=close)
            assert found.kl[0, 0] == pytest.approx(kl, rel=close, abs=0.01 * close)


def test_jackknife_worked_by_hand() -> None:
    """Rewards 0 and log 3 at beta 1: weights 1/4, 3/4. Whole: 3/4 log 3; without one: log 3 and 0.
    2 * 0.823959 - 1 * 0.549306 = 1.098612, which is log 3."""
    samples = np.array([[0.0, math.log(3)]])
    found = tilted(samples, {"reward": samples}, [1.0])
    assert found.values["reward"][0, 0] == pytest.approx(2 * 0.75 * math.log(3) - 0.5 * math.log(3))
    assert found.samples[0, 0] == pytest.approx(1 / (1 / 16 + 9 / 16))


def test_a_sample_that_outweighs_all_others() -> None:
    """Rewards 0, 0, 100: the weights are 0, 0 and 1 to 43 digits. Without the last sample the reward is 0 and the KL 0.

    reward: 3 * 100 - 2 * (100 + 100 + 0) / 3 = 500 / 3;  KL: 3 log 3 - 2 * (2 log 2 + 0) / 3.
    """
    samples = np.array([[0.0, 0.0, 100.0]])
    found = tilted(samples, {"reward": samples}, [1.0])
    assert found.values["reward"][0, 0] == pytest.approx(500 / 3)
    assert found.kl[0, 0] == pytest.approx(3 * math.log(3) - 4 * math.log(2) / 3)


def test_at_infinite_beta_nothing_is_gained_and_nothing_is_paid() -> None:
    found = tilted(gaussian(16), {"reward": gaussian(16)}, [0.0])
    assert np.abs(found.kl).max() < 1e-12
    with resampling(100):
        frontier = estimate_frontier([gaussian(64)])
    assert frontier.kl[0] == 0
    assert frontier.gain[REWARD][0] == pytest.approx(0, abs=1e-12)


def test_gaussian_rewards_gain_sqrt_2_kl() -> None:
    """r ~ N(0, 1): the tilted policy is N(1 / beta, 1), which has reward 1 / beta and KL 1 / (2 beta^2)."""
    with resampling(200):
        frontier = estimate_frontier([gaussian(256, prompts=200)])
    inside = frontier.kl > 0.05
    truth = np.sqrt(2 * frontier.kl[inside])
    error = np.abs(frontier.gain[REWARD][inside] - truth)
    assert error.max() < 0.05
    assert 0.9 < frontier.reach < 1.7  # 10 of 256 samples are left at log(25.6) / 2 = 1.62 nats; the worst 5 % end it
    half_width = (frontier.high[REWARD] - frontier.low[REWARD])[inside] / 2
    assert (error < half_width + frontier.bias[inside]).mean() > 0.9
    by_size = [np.abs(frontier.by_size[n][inside] - truth)[-1] for n in (64, 128)]
    assert by_size[0] > by_size[1]  # the bias shrinks with the number of samples


def test_gold_is_read_off_along_the_curve() -> None:
    """gold = 2 r + noise of its own: along the curve it gains twice the reward, and does not turn."""
    reward, noise = gaussian(128), gaussian(128, seed=1)
    with resampling(100):
        frontier = estimate_frontier([reward], {"gold": [2 * reward + noise]})
    middle = len(frontier.kl) // 2
    assert frontier.gain["gold"][middle] == pytest.approx(2 * frontier.gain[REWARD][middle], rel=0.1)
    assert (frontier.turn["gold"].kl, frontier.turn["gold"].share) == (math.inf, 0.0)


def test_gold_that_turns_is_forecast_where_it_turns() -> None:
    """gold = r - .625 r^2 with r ~ N(0, 1). Tilted to N(m, 1) it gains m - .625 m^2, most at m = .8: KL .32."""
    reward = gaussian(256, prompts=300)
    with resampling(200):
        turn = estimate_frontier([reward], {"gold": [reward - 0.625 * reward**2]}).turn["gold"]
    assert turn.kl == pytest.approx(0.32, abs=0.06)
    assert turn.low < 0.32 < turn.high < 0.6
    assert turn.share == 1.0


def test_seeds_are_averaged_at_equal_kl_and_not_at_equal_beta() -> None:
    """The second seed's rewards are three times as far apart: at equal beta its KL would be nine times as large."""
    reward = gaussian(64)
    with resampling(100):
        one, other = estimate_frontier([reward]), estimate_frontier([3 * reward])
        both = estimate_frontier([reward, 3 * reward])
    assert both.kl == pytest.approx(one.kl, rel=1e-6)
    assert both.gain[REWARD] == pytest.approx((one.gain[REWARD] + other.gain[REWARD]) / 2, abs=1e-3)


def test_the_band_covers_the_truth() -> None:
    """60 prompts of different spread, 30 data sets: the 95 % band at a KL in the middle, against the mean of a large
    simulation of the same prompts' distribution."""
    generator = np.random.default_rng(5)
    at = 0.3

    def draw(prompts: int) -> np.ndarray:
        spread = generator.uniform(0.5, 1.5, size=(prompts, 1))
        return spread * generator.normal(size=(prompts, 96))

    truth = float(seed_curve(draw(2_000), {}).at(np.array([at]), REWARD)[0])
    held = 0
    with resampling(100):
        for i in range(30):
            frontier = estimate_frontier([draw(P)], seed=i)
            low, high = (np.interp(at, frontier.kl, band[REWARD]) for band in (frontier.low, frontier.high))
            held += low <= truth <= high
    assert held >= 24  # 95 % of 30 is 28.5, less four standard deviations of 1.2


def test_efficiency_of_an_optimal_policy_and_of_one_that_gains_half() -> None:
    with resampling(300):
        frontier = estimate_frontier([gaussian(256, prompts=200)])
        kl, noise = 0.5, np.random.default_rng(3).normal(scale=0.3, size=200)
        noise -= noise.mean()
        best = float(np.interp(kl, frontier.kl, frontier.gain[REWARD]))
        for share in (1.0, 0.5):
            gains, kls = [share * best + noise], [np.full(200, kl)]
            found = efficiency(frontier, gains, kls)
            assert found.value == pytest.approx(share, abs=0.02)
            assert found.low < share < found.high
            assert excess(frontier, gains, kls).low < 0
        assert excess(frontier, [1.5 * best + noise], [np.full(200, kl)]).low > 0


def test_what_the_samples_do_not_reach_is_refused_with_the_number_that_it_needs() -> None:
    with resampling(100):
        frontier = estimate_frontier([gaussian(64)])
    assert samples_needed(2.0, samples=64, reach=0.9) == 578  # 64 exp(2.2) = 577.6
    needed = samples_needed(2.0, samples=64, reach=frontier.reach)
    with pytest.raises(BadValue, match=f"some {needed:,} would be needed"):
        efficiency(frontier, [np.ones(P)], [np.full(P, 2.0)])
    with pytest.raises(BadValue, match="too near to 0"):
        efficiency(frontier, [np.zeros(P)], [np.zeros(P)])
    with pytest.raises(BadValue, match="at least 2"):
        estimate_frontier([gaussian(1)])
    with pytest.raises(BadValue, match="differ"):
        estimate_frontier([np.zeros((4, 64))])
    with pytest.raises(BadValue, match="effective sample size"):
        estimate_frontier([gaussian(4)])
    with pytest.raises(BadValue, match="finite"):
        estimate_frontier([np.where(gaussian(8) > 2, np.nan, gaussian(8))])
