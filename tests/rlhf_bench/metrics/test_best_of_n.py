"""A pool of the reference's responses as a curve over n, and on the plot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.errors import DataError
from rlhf_bench.metrics.best_of_n import best_of_n_curve


def pool(rewards: list[list[list[float]]], gold: list[list[list[float]]]) -> pd.DataFrame:
    """seeds -> prompts -> samples, as rows."""
    rows = [
        {"model": "sft", "seed": s, "prompt_id": f"p{p}", "sample": k, "reward": reward, "gold": gold[s][p][k]}
        for s, prompts in enumerate(rewards)
        for p, samples in enumerate(prompts)
        for k, reward in enumerate(samples)
    ]
    return pd.DataFrame(rows)


def test_curve_by_hand() -> None:
    """Two prompts, two samples. n = 1 is the mean, n = 2 the gold of the sample with the larger reward."""
    found = best_of_n_curve(pool([[[1.0, 3.0], [5.0, 2.0]]], [[[10.0, 20.0], [30.0, 40.0]]]))
    assert [row["n"] for row in found] == [1, 2]
    assert [row["reward"]["value"] for row in found] == [2.75, 4.0]  # 3 and 5
    assert [row["gold"]["value"] for row in found] == [25.0, 25.0]  # 20 and 30
    assert [row["kl_bound"] for row in found] == [0.0, pytest.approx(math.log(2) - 0.5)]
    assert (found[1]["gold"]["low"], found[1]["gold"]["n"]) == (pytest.approx(25 - 12.706205 * 5, abs=1e-3), 2)


def test_each_seeds_reward_model_chooses_for_itself() -> None:
    """The second seed prefers the other sample of each prompt: gold 10 and 40 instead of 20 and 30."""
    rewards = [[[1.0, 3.0], [5.0, 2.0]], [[300.0, 100.0], [200.0, 500.0]]]
    gold = [[[10.0, 20.0], [30.0, 40.0]]] * 2
    found = best_of_n_curve(pool(rewards, gold))
    assert found[1]["gold"]["value"] == 25.0
    assert found[1]["gold"]["n_seeds"] == 2
    assert "reward" not in found[1]  # no common scale


def test_a_pool_that_cannot_be_used_is_one_line() -> None:
    whole = pool([[[1.0, 3.0], [5.0, 2.0]]], [[[1.0, 2.0], [3.0, 4.0]]])
    with pytest.raises(DataError, match="1 of 4 rewards of the pool are missing; expected 2 a prompt and seed"):
        best_of_n_curve(whole.iloc[:-1])
    with pytest.raises(DataError, match="a pool of sft, mine given; expected one model, the reference, with a reward"):
        best_of_n_curve(pd.concat([whole, whole.assign(model="mine")]))


def test_the_curve_is_drawn_and_its_kl_is_called_a_bound(tmp_path: Path) -> None:
    from rlhf_bench.report.plots import PLOTS
    from rlhf_bench.report.result import load_result
    from rlhf_bench.report.style import drawing
    from tests.rlhf_bench.report.make_result import make_result

    path = make_result(tmp_path / "r", models=("sft", "ppo"), audit=False)
    generator = np.random.default_rng(0)
    values = generator.standard_normal((2, 1, 12, 16)).tolist()
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["best_of_n"] = best_of_n_curve(pool(values[0], values[1]))
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    with drawing():
        figure = PLOTS["reward_vs_kl"](load_result(path))
    assert figure is not None
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[-1].get_text() == "best of n = 1 ... 16 of sft (KL: upper bound log n - (n-1)/n)"
    (line,) = [line for line in figure.axes[0].lines if "best of n" in str(line.get_label())]
    assert list(line.get_xdata()) == pytest.approx([row["kl_bound"] for row in metrics["best_of_n"]])
