"""A pool of the reference's responses as a curve over n, and on the plot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.errors import DataError
from rlhf_bench.evaluate.analyses.best_of_n import best_of_n_curve, best_of_n_fit, probability_held


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


def test_the_best_of_n_form_and_its_turning_point() -> None:
    """Gold that is what the form says of each n, by construction: of 8 samples, sorted by reward, the best of n is the
    k-th with the chance C(k - 1, n - 1) / C(8, n). Gold of d (1 - .6 d) at n = 1, 2, 4, 8 is solved for; it turns at
    d = 1 / 1.2, 0.694 nats."""
    sizes = (1, 2, 4, 8)
    kl = np.array([math.log(n) - (n - 1) / n for n in sizes])
    wanted = np.sqrt(kl) * (1 - 0.6 * np.sqrt(kl))
    chance = np.array([[math.comb(k - 1, n - 1) / math.comb(8, n) for k in range(1, 9)] for n in sizes])
    gold = list(np.linalg.lstsq(chance, wanted, rcond=None)[0])
    (found,) = best_of_n_fit(pool([[[float(k) for k in range(8)]] * 3], [[gold] * 3]))
    assert [point["model"] for point in found["points"]] == ["best of 1", "best of 2", "best of 4", "best of 8"]
    assert [point["kl"] for point in found["points"]] == pytest.approx(list(kl))
    assert [point["gain"]["value"] for point in found["points"]] == pytest.approx(list(wanted), abs=1e-9)
    fit = found["fit"]
    assert (fit["form"], fit["alpha"]["value"], fit["beta"]["value"]) == (
        "best-of-n",
        pytest.approx(1),
        pytest.approx(0.6),
    )
    assert fit["turning_kl"]["value"] == pytest.approx(1 / 1.2**2)
    assert best_of_n_fit(pool([[[1.0, 2.0]]], [[[1.0, 2.0]]])) == []  # two n say nothing of a form


def test_each_seeds_reward_model_chooses_for_itself() -> None:
    """The second seed prefers the other sample of each prompt: gold 10 and 40 instead of 20 and 30."""
    rewards = [[[1.0, 3.0], [5.0, 2.0]], [[300.0, 100.0], [200.0, 500.0]]]
    gold = [[[10.0, 20.0], [30.0, 40.0]]] * 2
    found = best_of_n_curve(pool(rewards, gold))
    assert found[1]["gold"]["value"] == 25.0
    assert found[1]["gold"]["n_seeds"] == 2
    assert "reward" not in found[1]  # no common scale


def drawn(prompts: list[list[tuple[str, float, float]]]) -> pd.DataFrame:
    """A pool of (response, its probability, its reward) a sample."""
    found = pool([[[reward for *_, reward in samples] for samples in prompts]], [[[0.0] * len(s) for s in prompts]])
    rows = [(samples, i) for samples in prompts for i in range(len(samples))]
    texts = [[text for text, *_ in samples] for samples, _ in rows]
    return found.assign(
        logprob=[math.log(samples[i][1]) for samples, i in rows],
        first=[told.index(told[i]) for told, (_, i) in zip(texts, rows, strict=True)],
    )


HALVES = [("no", 0.5, 0.0), ("yes", 0.5, 1.0), ("no", 0.5, 0.0), ("yes", 0.5, 1.0)]


def test_the_true_kl_by_hand_where_the_pool_holds_every_response() -> None:
    """Two responses of 1/2: the better is the best of 2 in 3/4: 3/4 log(3/2) + 1/4 log(1/2) = .130812, of 4 in 15/16:
    15/16 log(15/8) + 1/16 log(1/8) = .589320 - .129965 = .459355. Where both have the same reward it is 0: the mean of
    the prompts is half. The bound is .193147 and .636294."""
    equal = [("a", 0.5, 1.0), ("b", 0.5, 1.0), ("b", 0.5, 1.0), ("b", 0.5, 1.0)]
    whole = drawn([HALVES, equal])
    assert probability_held(whole) == pytest.approx(1.0)
    found = best_of_n_curve(whole)
    assert [row["kl_true"]["value"] for row in found] == pytest.approx([0.0, 0.130812 / 2, 0.459355 / 2], abs=1e-6)
    assert found[1]["kl_true"]["n"] == 2
    assert found[2]["kl_bound"] == pytest.approx(0.636294, abs=1e-6)


def test_no_true_kl_of_what_is_not_all_there() -> None:
    """The prompt where the least is held decides; what is unknown counts for nothing."""
    part = [("no", 0.5, 0.0), ("yes", 0.25, 1.0), ("yes", 0.25, 1.0), ("yes", 0.25, 1.0)]
    lacking = drawn([HALVES, part])
    assert probability_held(lacking) == pytest.approx(0.75)
    assert "kl_true" not in best_of_n_curve(lacking)[1]
    cut = drawn([HALVES, HALVES])
    cut.loc[0, "logprob"] = math.nan  # ended by a stop string: half of a prompt
    assert probability_held(cut) == pytest.approx(0.5)
    assert "kl_true" not in best_of_n_curve(cut)[1]
    for unknown in (cut.assign(logprob=math.nan), cut.drop(columns=["logprob", "first"])):
        assert probability_held(unknown) is None
        assert "kl_true" not in best_of_n_curve(unknown)[1]


def test_a_pool_that_cannot_be_used_is_one_line() -> None:
    whole = pool([[[1.0, 3.0], [5.0, 2.0]]], [[[1.0, 2.0], [3.0, 4.0]]])
    with pytest.raises(DataError, match="1 of 4 rewards of the pool are missing; expected 2 a prompt and seed"):
        best_of_n_curve(whole.iloc[:-1])
    with pytest.raises(DataError, match="a pool of sft, mine given;"):
        best_of_n_curve(pd.concat([whole, whole.assign(model="mine")]))


def test_the_curve_is_drawn_and_its_kl_is_called_a_bound(tmp_path: Path) -> None:
    from rlhf_bench.report.contents import draw
    from rlhf_bench.report.result import load_result
    from tests.rlhf_bench.report.make_result import make_result

    path = make_result(tmp_path / "r", models=("sft", "ppo"), audit=False)
    generator = np.random.default_rng(0)
    values = generator.standard_normal((2, 1, 12, 16)).tolist()
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["best_of_n"] = best_of_n_curve(pool(values[0], values[1]))
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    figure = draw(load_result(path), "reward_vs_kl")
    assert figure is not None
    (legend,) = figure.legends
    assert legend.get_texts()[-1].get_text() == "best of n = 1 ... 16 of sft (KL: upper bound log n - (n-1)/n)"
    (line,) = [line for line in figure.axes[0].lines if "best of n" in str(line.get_label())]
    assert list(line.get_xdata()) == pytest.approx([row["kl_bound"] for row in metrics["best_of_n"]])

    # and where the truth is known it is beside the bound, at the same rewards
    for row in metrics["best_of_n"]:
        row["kl_true"] = {**row["reward"], "value": row["kl_bound"] / 2}
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    figure = draw(load_result(path), "reward_vs_kl")
    assert figure is not None
    (true,) = [line for line in figure.axes[0].lines if "true KL" in str(line.get_label())]
    assert list(true.get_xdata()) == pytest.approx([row["kl_bound"] / 2 for row in metrics["best_of_n"]])
    assert list(true.get_ydata()) == list(line.get_ydata())
