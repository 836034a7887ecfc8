"""Every number in units of the reference's standard deviation has the interval that allows for that being estimated."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rlhf_bench import stats
from rlhf_bench.errors import DataError
from rlhf_bench.evaluate.analyses.best_of_n import best_of_n_curve
from rlhf_bench.evaluate.summary import summarize
from rlhf_bench.scorers.reward import add_reward_z
from rlhf_bench.stats.resample import resampled_sums
from rlhf_bench.store.score_table import score_table
from rlhf_bench.types import Estimate

P, K = 60, 2
MODELS = {"sft": (0.0, 0.0), "ppo": (3.7, 2.0), "up@1": (3.0, 1.0), "up@2": (5.0, 3.0)}  # reward, KL


def scores(seeds: int, *, generator: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(generator)
    prompts = random.standard_normal(P)
    rows = [
        {"model": model, "seed": s, "prompt_id": f"p{p:02d}", "sample": k, "kl_exact": kl, "gold": -gain,
         "reward": (1 + s) * (gain + prompts[p] + random.standard_normal())}
        for model, (gain, kl) in MODELS.items() for s in range(seeds) for p in range(P) for k in range(K)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [1, 3])
def test_each_part_of_the_summary_has_the_intervals_of_the_table(seeds: int) -> None:
    """With a KL that never varies, each is the table's number times a constant: at ppo's 2 nats the curve is the mean
    of its two points, and the hypervolume of up@2, up@1 and ppo, 3 to 10 nats and so on, is linear in their gains."""
    table = scores(seeds)
    with stats.resampling(400):
        found = summarize(table, reference="sft")
    z = score_table(add_reward_z(table, "sft"), ["reward_z"])
    cells = {model: stats.reference_z_cells(z.block(model, "reward_z"), z.block("sft", "reward_z")) for model in MODELS}
    with stats.resampling(400):
        wanted = stats.crossed(7 * cells["up@2"] + cells["ppo"] + cells["up@1"])
        known = stats.crossed(7 * z.block("up@2", "reward_z").mean(axis=2))
        ppo = stats.crossed(cells["ppo"])
    (front,) = [row for row in found["tradeoff"] if row["metric"] == "reward_z"]
    volume = Estimate.from_dict(front["hypervolume"])
    assert (volume.value, volume.low, volume.high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    assert volume.high - volume.low > known.high - known.low  # with the scale taken as known
    lines = [a["text"] for a in found["alarms"] if a["kind"] == "reward_without_gold" and a["model"] == "ppo"]
    assert [f"reward up by {ppo.signed()} sd" in line for line in lines] == [True]
    if seeds > 1:  # of one seed the curves are of the raw reward
        (curves,) = [entry for entry in found["equal_kl"] if entry["metric"] == "reward_z"]
        (row,) = [row for row in curves["rows"] if row.get("model") == "ppo"]
        assert row["reward"]["ppo"] == found["models"]["ppo"]["reward_z"]
        with stats.resampling(400):
            half = stats.crossed((cells["up@1"] + cells["up@2"]) / 2)
        at = Estimate.from_dict(row["reward"]["up"])
        assert (at.value, at.low, at.high) == pytest.approx((half.value, half.low, half.high))


def test_best_of_n_has_the_interval_of_the_z_scores_that_it_is_made_of() -> None:
    """The best of 1 of one sample a prompt is that sample."""
    table = add_reward_z(scores(2), "sft")
    own = table[table["model"] == "sft"]
    pool = table[(table["model"] == "ppo") & (table["sample"] == 0)].assign(model="sft")
    with stats.resampling(400):
        (row,) = best_of_n_curve(pool, own)
        blocks = [score_table(rows, ["reward_z"]).block("sft", "reward_z") for rows in (pool, own)]
        wanted = stats.crossed(stats.reference_z_cells(*blocks))
    assert row["reward_z"] == wanted.to_dict()
    with pytest.raises(DataError, match="expected those of sft"):
        best_of_n_curve(pool, own[own["prompt_id"] != "p01"])
    with pytest.raises(DataError, match="no scores given"):
        best_of_n_curve(pool)


def test_a_resample_has_its_own_standard_deviation() -> None:
    """As NumPy's of the rows that a resample draws; the numbers of draws are those of other metrics."""
    generator = np.random.default_rng(0)
    reference = generator.normal(3.0, 2.0, (2, 12, 3))
    reference[0, 5, 1] = math.nan
    with stats.resampling(100):
        found = stats.resampled_scale(reference, seed=4)
        counts = resampled_sums(np.eye(12), seed=4)  # how often each prompt is drawn
    assert found.shape == (2, 100)
    for s in range(2):
        for b in range(5):
            drawn = np.concatenate([np.tile(reference[s, p], int(counts[b, p])) for p in range(12)])
            assert found[s, b] == pytest.approx(np.nanstd(drawn) / np.nanstd(reference[s]))
