"""The front and the hypervolume that a table of scores gives, and where a reader finds them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from rlhf_bench.evaluate.analyses.tradeoff import tradeoffs
from rlhf_bench.evaluate.summary import summarize
from rlhf_bench.store.score_table import score_table

NAN = math.nan


def scores(gold: dict[str, list[float]], kl: dict[str, list[float]], seed: int = 0) -> pd.DataFrame:
    rows = [
        {"model": m, "seed": seed, "prompt_id": f"p{i}", "sample": 0, "gold": value, "kl_exact": kl[m][i]}
        for m, values in gold.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


GOLD = {"sft": [1.0, 2.0, 3.0], "ppo": [3.0, 4.0, 5.0], "dpo": [2.0, 3.0, 4.5], "chosen": [9.0, 9.0, 9.0]}
KL = {"sft": [0.0, 0.0, 0.0], "ppo": [2.0, 2.0, 2.0], "dpo": [3.0, 3.0, 3.0], "chosen": [NAN, NAN, NAN]}


def test_worked_by_hand() -> None:
    """ppo gains 2 at 2 nats: 2 * (10 - 2) = 16. dpo gains less at more KL, on every prompt; chosen has no KL."""
    summary = summarize(scores(GOLD, KL), reference="sft")
    (found,) = summary["tradeoff"]
    assert (found["metric"], found["kl_limit"]) == ("gold", 10.0)
    assert found["front"] == ["sft", "ppo"]
    assert found["on_front"] == {"sft": 1.0, "ppo": 1.0, "dpo": 0.0}
    assert (found["hypervolume"]["value"], found["hypervolume"]["n"]) == (16.0, 3)
    (near,) = summarize(scores(GOLD, KL), reference="sft", hypervolume_kl=2.5)["tradeoff"]
    assert near["hypervolume"]["value"] == 1.0


def test_seeds_are_averaged_before_the_front_is_drawn() -> None:
    """Under seed 1 ppo gains nothing: its mean gain is 1 at 2 nats, dpo's 7/6 at 3: both are on the front."""
    second = GOLD | {"ppo": GOLD["sft"]}
    (found,) = summarize(pd.concat([scores(GOLD, KL), scores(second, KL, 1)]), reference="sft")["tradeoff"]
    assert found["front"] == ["sft", "ppo", "dpo"]
    assert found["hypervolume"]["value"] == pytest.approx(1.0 * 1 + 7 / 6 * 7)
    assert found["hypervolume"]["n_seeds"] == 2
    assert found["on_front"]["sft"] == 1.0
    assert 0 < found["on_front"]["dpo"] < 1


def test_only_prompts_that_all_have_and_models_that_have_any() -> None:
    gold = GOLD | {"ppo": [3.0, NAN, 5.0], "file": [1.0, 1.0, 1.0]}
    kl = KL | {"file": [NAN, NAN, NAN]}
    table = score_table(scores(gold, kl), ["gold", "kl_exact"])
    (found,) = tradeoffs(table, reference="sft", kl_limit=10.0)
    assert found["left_out"] == ["file"]
    assert found["hypervolume"]["n"] == 2
    (other,) = tradeoffs(table, reference="file", kl_limit=10.0)  # a reference's own KL is 0, whatever was measured
    assert other["left_out"] == []


def test_nothing_to_compare_is_no_front() -> None:
    assert summarize(scores({"sft": [1.0, 2.0]}, KL), reference="sft")["tradeoff"] == []
    assert summarize(scores(GOLD, KL).drop(columns="kl_exact"), reference="sft")["tradeoff"] == []
    assert summarize(scores(GOLD, KL), reference="base")["tradeoff"] == []
