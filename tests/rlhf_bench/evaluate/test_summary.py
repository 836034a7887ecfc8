"""`summarize` on a table small enough to work by hand: 2 models, 3 prompts, 2 samples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from rlhf_bench import stats
from rlhf_bench.errors import BadValue, DataError, StoreError, UnknownName
from rlhf_bench.evaluate.summary import NO_MODEL, NOT_AVAILABLE, NOT_POOLED, OTHER_COUNTS, metric_difference, summarize
from rlhf_bench.scorers.reward import add_reward_z
from rlhf_bench.stats import compare
from rlhf_bench.stats.resample import resampling
from rlhf_bench.types import REFERENCE

NAN = math.nan
KEYS = ["model", "seed", "prompt_id", "sample"]


def table(rewards: dict[str, list[list[float]]], seed: int = 0) -> pd.DataFrame:
    """model -> prompts -> samples, as rows."""
    rows = [
        (model, seed, f"p{p}", k, float(value))
        for model, prompts in rewards.items()
        for p, samples in enumerate(prompts)
        for k, value in enumerate(samples)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "reward"])


def tiny(seed: int = 0) -> pd.DataFrame:
    frame = table({"ppo": [[3, 3], [2, 4], [5, 7]], "sft": [[0, 2], [1, 3], [2, 4]], "chosen": [[4], [4], [7]]}, seed)
    frame["category"] = "facts"  # not a metric
    frame["ended"] = 1.0
    frame["kl_exact"] = frame["model"].map({"ppo": 5.0, "sft": 0.0, "chosen": NAN})
    logps = {"p0": -4.0, "p1": -6.0, "p2": -10.0}
    scored = (frame["sample"] == 0) & (frame["model"] != "chosen")
    frame["chosen_logprob"] = frame["prompt_id"].map(logps).where(scored)
    frame["chosen_tokens"] = frame["prompt_id"].map({"p0": 2.0, "p1": 4.0, "p2": 4.0}).where(scored)
    frame["chosen_bytes"] = frame["prompt_id"].map({"p0": 8.0, "p1": 10.0, "p2": 18.0}).where(scored)
    return frame


def test_tokens_of_two_tokenizers_are_not_subtracted() -> None:
    frame = tiny()
    frame["n_tokens"] = frame["n_words"] = 5.0
    assert "n_tokens" in {row["metric"] for row in summarize(frame, reference="sft")["pairwise"]}
    frame.loc[frame["model"] == "ppo", "chosen_tokens"] += 1
    result = summarize(frame, reference="sft")
    assert "n_tokens" not in {row["metric"] for row in result["pairwise"]}
    assert {"n_tokens", "ended"} <= set(result["models"]["ppo"])  # each model's own number stays
    (told,) = [row for row in result["missing"] if row["metric"] == "n_tokens"]
    assert told == {"model": "ppo - sft", "metric": "n_tokens", "reason": OTHER_COUNTS}
    # texts that no model here wrote are counted by the reference's tokenizer
    frame.loc[frame["model"] == "ppo", "chosen_tokens"] = NAN
    assert "n_tokens" in {row["metric"] for row in summarize(frame, reference="sft")["pairwise"]}


def random_table(n_seeds: int, n_prompts: int, models: list[str], samples: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    keys = itertools.product(models, range(n_seeds), [f"p{i}" for i in range(n_prompts)], range(samples))
    frame = pd.DataFrame(keys, columns=KEYS)
    for name in ("reward", "gold", "kl_exact", "kl_k1", "kl_k3", "rouge1", "rougeL", "n_tokens", "gold_safe"):
        frame[name] = generator.standard_normal(len(frame)) + 0.2 * frame["seed"]
    frame["ended"] = (generator.random(len(frame)) < 0.8).astype(float)
    frame["chosen_logprob"] = np.where(frame["sample"] == 0, -generator.gamma(5, 5, len(frame)), NAN)
    frame["chosen_tokens"] = np.where(frame["sample"] == 0, 20.0, NAN)
    return frame


def test_models_by_hand():
    result = summarize(tiny(), reference="sft")
    parts = {"models", "per_seed", "pairwise", "tradeoff", "over_optimisation", "equal_kl", "alarms", "alarm_checks"}
    assert result.keys() == {*parts, "gain", "missing"}
    assert list(result["models"]) == ["sft", "ppo", "chosen"]
    sft, ppo = result["models"]["sft"], result["models"]["ppo"]
    # prompt means 1 2 3: mean 2, half width t(0.975, 2) / sqrt(3) = 2.484138. n is 3 prompts, not 6 rows
    assert sft["reward"] == {
        "value": 2.0,
        "low": pytest.approx(-0.484138, abs=1e-6),
        "high": pytest.approx(4.484138, abs=1e-6),
        "n": 3,
        "level": 0.95,
        "method": "t",
        "n_seeds": 1,
        "n_missing": 0,
        "kurtosis": pytest.approx(-1.5),  # squared deviations 1 0 1 of mean 2/3: (2/3) / (2/3)^2 - 3
        "clipped": None,
    }
    assert sft["reward_std"]["value"] == pytest.approx(math.sqrt(2))  # deviations from 2: 4 0 1 1 0 4, over 5
    assert sft["reward_std"]["n"] == 3
    assert [sft["reward_z"][key] for key in ("value", "low", "high", "method")] == [0.0, 0.0, 0.0, REFERENCE]
    assert ppo["reward_z"]["value"] == pytest.approx((4 - 2) / math.sqrt(2))
    assert (sft["kl_exact"]["value"], sft["kl_exact"]["low"], sft["kl_exact"]["high"]) == (0.0, 0.0, 0.0)
    assert sft["kl_exact"]["method"] == "constant"
    assert sft["ended"]["low"] == pytest.approx(0.025 ** (1 / 3))  # Clopper-Pearson, 3 of 3 prompts
    assert sft["perplexity"]["value"] == pytest.approx(math.exp(20 / 10))
    assert sft["perplexity"]["high"] == pytest.approx(math.exp(3.490483))  # worked in test_stats.py
    assert sft["bits_per_byte"]["value"] == pytest.approx(20 / 36 / math.log(2))
    assert {cell["n"] for cells in result["models"].values() for cell in cells.values()} == {3}
    assert result["models"]["chosen"]["ended"]["method"] == "wilson"  # one sample a prompt
    assert result["per_seed"] == {"0": result["models"]}


def test_pairwise_by_hand():
    rows = {row["metric"]: row for row in summarize(tiny(), reference="sft")["pairwise"]}
    assert set(rows) == {"reward", "kl_exact", "ended"}  # one seed: raw rewards; dataset responses are in no pair
    row = rows["reward"]
    assert (row["a"], row["b"]) == ("ppo", "sft")
    assert (row["difference"]["value"], row["difference"]["n"]) == (2.0, 3)  # 2 1 3
    assert row["p_paired"] == row["p_holm"] == pytest.approx(0.074180, abs=1e-6)
    assert row["p_wilcoxon"] == 0.25
    assert row["detectable"] == pytest.approx(stats.detectable_difference(1.0, 3))
    assert row["per_seed"] == {"0": row["difference"]}
    assert rows["kl_exact"]["difference"]["method"] == "constant"
    assert rows["ended"]["p_wilcoxon"] is None  # both always ended


def test_missing_gives_a_reason_once():
    frame = tiny()
    frame["rougeL"] = frame["model"].map({"ppo": 0.3, "sft": 0.2, "chosen": NAN})
    frame["gold"] = frame["model"].map({"ppo": NAN, "sft": 0.2, "chosen": 1.0})
    reasons = {("chosen", "rougeL"): "it is the reference text", ("sft", "reward"): "not used: there is a value"}
    reasons["ppo", "reference_logprob"] = reasons["ppo", "n_drawn"] = "another tokenizer"
    result = summarize(frame, reference="sft", reasons=reasons)
    missing = {(row["model"], row["metric"]): row["reason"] for row in result["missing"]}
    assert len(missing) == len(result["missing"])
    assert missing == {
        ("ppo", "gold"): NOT_AVAILABLE,
        ("ppo", "perplexity_reference"): "another tokenizer",  # no column at all, but the summary has one for it
        ("chosen", "kl_exact"): NO_MODEL,
        ("chosen", "perplexity"): NO_MODEL,
        ("chosen", "bits_per_byte"): NO_MODEL,
        ("chosen", "rougeL"): "it is the reference text",
    }
    assert "gold" not in result["models"]["ppo"]
    assert "gold" not in {row["metric"] for row in result["pairwise"]}


def test_a_prompt_that_a_model_lacks_counts_as_missing():
    frame = tiny()
    frame = frame[~((frame["model"] == "ppo") & (frame["prompt_id"] == "p1"))]
    frame.loc[(frame["model"] == "sft") & (frame["sample"] == 1), "reward"] = math.inf
    result = summarize(frame, reference="sft")
    ppo, sft = result["models"]["ppo"]["reward"], result["models"]["sft"]["reward"]
    assert (ppo["value"], ppo["n"], ppo["n_missing"]) == (4.5, 2, 1)
    assert (sft["value"], sft["n"], sft["n_missing"]) == (1.0, 3, 0)  # the other sample of each prompt: 0 1 2
    row = result["pairwise"][0]
    assert (row["difference"]["value"], row["difference"]["n"], row["difference"]["n_missing"]) == (
        3.5,
        2,
        1,
    )  # 3-0 6-2


def test_reward_z_is_within_each_seed():
    first, second = tiny(), tiny(1)
    second["reward"] = 100 - 50 + 10 * second["reward"]  # a reward model of another scale and offset
    both = pd.concat([first, second])
    z = add_reward_z(both, "sft")
    assert "reward_z" not in both
    np.testing.assert_allclose(z["reward_z"][: len(first)], z["reward_z"][len(first) :])
    sft = z[(z["model"] == "sft") & (z["seed"] == 1)]["reward_z"]
    assert (sft.mean(), sft.std()) == (pytest.approx(0.0, abs=1e-12), pytest.approx(1.0))
    assert add_reward_z(table({"sft": [[1, 1]], "ppo": [[2, 3]]}), "sft")["reward_z"].isna().all()


@pytest.mark.parametrize("name", ["sycophancy", "right_change"])
def test_a_difference_of_shares_may_be_negative_and_stays_within_its_range(name: str) -> None:
    """-1, -1, 0 of sft: Tango's interval, where a t interval would begin at -2.1. All 0 of ppo: it has a width too. ppo
    minus sft is 1, 1, 0: 2/3 -+ 4.302653 / 3 = 1.434218, beyond the 2 that such a difference can be, and cut there."""
    frame = table({"sft": [[-1], [-1], [0]], "ppo": [[0], [0], [0]]}).rename(columns={"reward": name})
    result = summarize(frame, reference="sft")
    sft, ppo = (result["models"][model][name] for model in ("sft", "ppo"))
    assert (sft["value"], sft["method"]) == (pytest.approx(-2 / 3), "tango")
    assert -1 < sft["low"] < -2 / 3 < sft["high"] < 1
    assert ppo["low"] == pytest.approx(-ppo["high"])
    assert ppo["high"] > 0.5
    (row,) = result["pairwise"]
    assert row["difference"]["low"] == pytest.approx(2 / 3 - 1.434218, abs=1e-6)
    assert (row["difference"]["high"], row["difference"]["clipped"]) == (2.0, (-2.0, 2.0))


def test_limits_of_a_share_stay_within_0_and_1_and_say_that_they_were_cut():
    """F-scores 0, 0, 0.3: mean 0.1, sd 0.173205, half width 4.302653 sd / sqrt(3) = 0.430265: clipped to 0."""
    frame = table({"sft": [[0.0], [0.0], [0.3]], "ppo": [[1.0], [1.0], [0.7]]}).rename(columns={"reward": "rougeL"})
    further = dict.fromkeys(("kl_k1", "kl_exact", "rouge2_precision"), frame["rougeL"])
    models = summarize(frame.assign(**further), reference="sft")["models"]
    sft, ppo = models["sft"]["rougeL"], models["ppo"]["rougeL"]
    assert (sft["low"], sft["clipped"]) == (0.0, (0.0, 1.0))
    assert sft["high"] == pytest.approx(0.530265, abs=1e-6)
    assert (ppo["high"], ppo["clipped"]) == (1.0, (0.0, 1.0))
    assert models["sft"]["kl_k1"]["low"] < 0  # a number without bounds
    assert models["sft"]["kl_k1"]["clipped"] is None
    assert (models["sft"]["kl_exact"]["low"], models["sft"]["kl_exact"]["clipped"]) == (0.0, (0.0, math.inf))
    assert models["ppo"]["kl_exact"]["clipped"] is None
    assert models["ppo"]["rouge2_precision"]["high"] == 1.0


def test_held_out_rewards_are_z_scored_by_themselves_and_pooled():
    """Another scale and offset under each seed; sft is 0, 2, 4 and ppo 3, 5, 7 times the scale: 1.5 sd more."""
    frames = []
    for seed, (offset, scale) in {1: (0.0, 1.0), 2: (50.0, -3.0), 3: (-7.0, 0.5)}.items():
        frame = table({"sft": [[0.0], [2.0], [4.0]], "ppo": [[3.0], [5.0], [7.0]]}, seed)
        frames.append(frame.assign(reward_held_out=offset + scale * frame["reward"]))
    result = summarize(pd.concat(frames, ignore_index=True), reference="sft")
    pairs = {row["metric"]: row for row in result["pairwise"]}
    assert pairs["reward_z"]["difference"]["value"] == pytest.approx(3 / 2)  # sd of 0, 2, 4 is 2
    assert pairs["reward_held_out_z"]["difference"]["value"] == pytest.approx((1.5 - 1.5 + 1.5) / 3)
    assert pairs["reward_held_out_z"]["per_seed"]["2"]["value"] == pytest.approx(-1.5)
    assert "reward_held_out" not in result["models"]["ppo"]  # raw, it has no common scale
    assert result["models"]["sft"]["reward_held_out_z"]["value"] == pytest.approx(0.0, abs=1e-12)


def test_several_seeds():
    first, second = tiny(), tiny(1)
    second.loc[second["model"] == "ppo", "reward"] += 3.0
    result = summarize(pd.concat([first, second]), reference="sft")
    ppo = result["models"]["ppo"]
    assert "reward" not in ppo
    assert "reward_std" not in ppo
    assert result["models"]["sft"]["reward_z_std"]["value"] == pytest.approx(1.0)  # what it is scaled by
    assert ppo["reward_z_std"]["n_seeds"] == 2
    assert {"model": "ppo", "metric": "reward", "reason": NOT_POOLED} in result["missing"]
    assert [result["per_seed"][s]["ppo"]["reward"]["value"] for s in "01"] == [4.0, 7.0]
    # z: sft is the same in both, so gains of 2 and 5 over sqrt(2); their mean is 3.5 / sqrt(2)
    assert ppo["reward_z"]["value"] == pytest.approx(3.5 / math.sqrt(2))
    assert (ppo["reward_z"]["n"], ppo["reward_z"]["n_seeds"], ppo["reward_z"]["method"]) == (3, 2, "crossed-t")
    rows = {row["metric"]: row for row in result["pairwise"]}
    assert "reward" not in rows
    assert rows["reward_z"]["difference"]["value"] == pytest.approx(3.5 / math.sqrt(2))
    within = {s: cell["value"] for s, cell in rows["reward_z"]["per_seed"].items()}
    assert within == {"0": pytest.approx(2 / math.sqrt(2)), "1": pytest.approx(5 / math.sqrt(2))}
    # sft's squared deviations 4 2 4 by prompt, of variance 10/6: influence on log sd (A - 2 var) / (4 var) = .1 -.2 .1
    gains = np.array([[2.0, 1.0, 3.0], [5.0, 4.0, 6.0]]) / math.sqrt(2)
    cells = gains - gains.mean(axis=1, keepdims=True) * [0.1, -0.2, 0.1]
    assert rows["reward_z"]["difference"]["low"] == pytest.approx(stats.crossed(cells).low)
    # what was not trained again has the interval of the prompts alone, and notes that both seeds hold it
    assert result["models"]["sft"]["perplexity"]["n_seeds"] == 2
    assert result["models"]["sft"]["perplexity"]["method"] == "t"


def test_a_model_with_one_of_the_seeds():
    frame = pd.concat([tiny(), tiny(1)])
    frame = frame[~((frame["model"] == "ppo") & (frame["seed"] == 1))]
    result = summarize(frame, reference="sft")
    assert result["models"]["ppo"]["reward_z"]["n_seeds"] == 1
    assert result["per_seed"]["1"]["ppo"] == {}
    assert all(list(row["per_seed"]) == ["0"] for row in result["pairwise"])


def test_holm_is_within_a_metric():
    frame = random_table(1, 40, ["base", "sft", "ppo"], 2)
    pairs = pd.DataFrame(summarize(frame, reference="sft")["pairwise"])
    assert pairs.groupby("metric").size().eq(3).all()
    for _, rows in pairs.groupby("metric"):
        assert list(rows["p_holm"]) == pytest.approx(stats.holm(list(rows["p_paired"])))
    assert list(pairs["p_table"]) == pytest.approx(stats.holm(list(pairs["p_paired"])))
    assert list(zip(pairs["a"], pairs["b"], strict=True))[:3] == [("sft", "base"), ("ppo", "base"), ("ppo", "sft")]


def test_order_of_models_and_metrics():
    frame = random_table(1, 12, ["rejected", "mine", "dpo", "a-file", "base", "chosen"], 1)
    result = summarize(frame, reference="base")
    assert list(result["models"]) == ["base", "dpo", "a-file", "mine", "chosen", "rejected"]
    names = list(result["models"]["base"])
    assert names[names.index("gold") + 1] == "gold_safe"


def test_the_order_of_the_rows_and_the_global_generator_change_nothing():
    frame = random_table(2, 25, ["sft", "ppo"], 3)
    np.random.seed(0)
    result = summarize(frame, reference="sft", seed=4)
    np.random.seed(99)
    assert summarize(frame.sample(frac=1, random_state=1), reference="sft", seed=4) == result
    assert summarize(frame, reference="sft", seed=5) != result


def test_errors():
    with pytest.raises(UnknownName, match="unknown reference model 'sftt'; did you mean 'sft'"):
        summarize(tiny(), reference="sftt")
    with pytest.raises(StoreError, match=r"scores hold \(ppo, 0, p0, 0\) twice"):
        summarize(pd.concat([tiny(), tiny()]), reference="sft")
    with pytest.raises(StoreError, match="no column prompt_id"):
        summarize(tiny().drop(columns="prompt_id"), reference="sft")
    with pytest.raises(DataError, match="without a row"):
        summarize(tiny().drop(columns="reward").head(0), reference="sft")
    with pytest.raises(BadValue, match=r"share was given the value 0\.5"):
        summarize(tiny().assign(ended=0.5), reference="sft")


def test_a_full_table_compares_every_two_models():
    frame = random_table(3, 150, ["base", "sft", "ppo", "grpo", "dpo", "mine"], 4)
    with resampling(100):
        result = summarize(frame, reference="sft")
    assert all(row["difference"]["n"] == 150 for row in result["pairwise"])
    assert len(result["pairwise"]) == 6 * 15


def test_a_table_of_the_same_model_twice_claims_a_difference_no_more_than_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """150 tables of 60 prompts and 7 metrics, by what makes the pairwise table. 5 % by Holm over the table, and two
    standard errors, 2 sqrt(.05 * .95 / 150) = 3.6 %; without Holm some 30 % (standard error 3.7 %)."""
    monkeypatch.setattr(compare, "detectable_from_se", lambda *_, **__: NAN)  # most of the time, and not needed here
    generator = np.random.default_rng(3)
    shares = {"ended": 0.97, "refused": 0.1}
    corrected = uncorrected = 0
    with resampling(200):
        for _ in range(150):
            p_values = []
            for metric in ("reward_z", "gold", "kl_exact", "rougeL", "n_tokens", *shares):
                if metric in shares:
                    pair = (generator.random((2, 60)) < shares[metric]).astype(float)
                elif metric == "rougeL":
                    pair = generator.beta(2, 4, (2, 60))
                else:
                    pair = generator.gamma(2, 1, 60) + generator.standard_normal((2, 60))
                a, b = pair[:, None, :, None]  # (S, P, K): one seed, one sample
                p_values.append(metric_difference(metric, a, b).p_paired)
            corrected += min(stats.holm(p_values)) < 0.05
            uncorrected += min(p_values) < 0.05
    assert corrected / 150 <= 0.086
    assert uncorrected / 150 > 0.2
