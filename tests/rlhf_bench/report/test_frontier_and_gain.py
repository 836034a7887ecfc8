"""The frontier's and the gain's tables, notes and plots, of numbers that are given."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_bench.report.contents import draw, tables
from rlhf_bench.report.result import Result, load_result
from rlhf_bench.report.table import Table
from rlhf_bench.report.tables.gain import gain_table
from rlhf_bench.report.tables.tradeoff import frontier_table
from rlhf_bench.types import Estimate

from .make_result import estimate, frontier, make_result


@pytest.fixture
def result(tmp_path: Path) -> Result:
    split = {"gain": estimate(1.0), "parts": {"length": estimate(0.7), "rest": estimate(0.3)},
             "shares": {"length": estimate(0.7), "rest": estimate(0.3)},
             "without": {"length": estimate(0.3)}}  # fmt: skip
    unclear = {**split, "gain": estimate(0.05), "shares": {}}
    turn = {"kl": Estimate(0.3, 0.2, math.inf, 12, method="bootstrap").to_dict(), "share": 0.9}
    tradeoff = {"metric": "reward_z", "kl": "kl_exact", "front": ["sft"], "on_front": {"sft": 1.0, "ppo": 0.5},
                "hypervolume": estimate(3.0), "kl_limit": 10.0, "left_out": []}  # fmt: skip
    loaded = load_result(make_result(tmp_path / "made", audit=False))
    gain = [{"metric": "reward_z", "model": "ppo", **split}, {"metric": "gold", "model": "ppo", **unclear}]
    metrics = {**loaded.metrics, "frontier": frontier(turn), "gain": gain, "tradeoff": [tradeoff]}
    return replace(loaded, metrics=metrics)


def table(result: Result, name: str) -> Table:
    return next(one for one in tables(result) if one.name == name)


def test_the_curve_its_end_and_the_forecast(result: Result) -> None:
    found = table(result, "frontier")
    assert [row[0] for row in found.rows] == ["0.000", "0.056", "0.222", "0.500"]  # every third, and the end
    assert [column.key for column in found.columns] == ["kl", "reward", "reward_z", "bias"]
    notes = " ".join(found.notes)
    assert "gold begins to fall at 0.30 nats [0.20, beyond 0.50] (90% of resamples turn)" in notes
    assert "0.900 from 16, 0.950 from 32 and 1.000 from all 64" in notes
    rises = {"kl": Estimate(math.inf, 0.4, math.inf, 12, method="bootstrap").to_dict(), "share": 0.1}
    still = replace(result, metrics={**result.metrics, "frontier": frontier(rises)})
    assert "no turn of gold up to 0.50 nats (10% of resamples turn)" in " ".join(table(still, "frontier").notes)


def test_efficiency_is_beside_the_front_or_its_reason_below(result: Result) -> None:
    found = table(result, "pareto")
    column = [column.key for column in found.columns].index("efficiency")
    texts = {str(row[1]): found.text(i, column) for i, row in enumerate(found.rows)}
    assert texts == {"sft": "–", "ppo": "0.60 [0.50, 0.70]"}
    assert "grpo: no efficiency: KL 5.50 is beyond the 0.50 nats." in found.notes
    without = {key: value for key, value in result.metrics.items() if key != "frontier"}
    missing = [{"model": "sft", "metric": "frontier", "reason": "too few samples"}]
    refused = table(replace(result, metrics={**without, "missing": missing}), "pareto")
    assert "efficiency" not in [column.key for column in refused.columns]
    assert "Frontier: too few samples." in refused.notes


def test_the_parts_of_a_gain_and_no_share_of_one_that_may_be_none(result: Result) -> None:
    found = table(result, "gain")
    cells = [[found.text(i, j) for j in range(5)] for i in range(len(found.rows))]
    assert [row[2] for row in cells] == ["gain", "length", "rest"] * 2
    assert cells[1] == ["Reward (z)", "ppo", "length", "0.700 [0.600, 0.800]", "0.70 [0.60, 0.80]"]
    assert {row[4] for row in cells[3:]} == {"–"}


def test_the_plots(result: Result) -> None:
    figure = draw(result, "reward_vs_kl")
    assert figure is not None
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("optimal frontier")]
    assert list(line.get_xdata())[-1] == 0.5
    assert list(line.get_ydata())[-1] == pytest.approx(-0.2 + 0.8)  # raw rewards of one seed, from the pool's mean
    figure = draw(result, "gain_parts")
    assert figure is not None
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == [f"{of}: {part}" for of in ("Reward (z)", "Gold") for part in ("gain", "length", "rest")]
    assert draw(replace(result, metrics={**result.metrics, "gain": []}), "gain_parts") is None


def test_verdicts_have_their_part_in_split_and_forecast(result: Result) -> None:
    split = {"gain": estimate(0.2), "parts": {"length": estimate(0.15), "rest": estimate(0.05)}, "shares": {}}
    who = {"judge": "ann", "base_url": "people", "template": "label@1"}
    made = {"pairs": 300, "kl": Estimate(0.4, 0.3, math.inf, 12).to_dict(), "share": 0.8, "reach": 0.5}
    unsplit = {"model": "grpo", "baseline": "sft", "reason": "no feature differs"}
    judgings = [
        {**who, "baseline": "sft", "gain": [{"model": "ppo", "baseline": "sft", **split}, unsplit], "forecast": None},
        {**who, "baseline": "another sample of sft", "gain": [], "forecast": made},
    ]
    judged = replace(result, judge={"judgings": judgings})
    found = gain_table(judged)
    assert [row[:3] for row in found.rows[-3:]] == [
        ["Win rate by ann", "ppo", part] for part in ("gain", "length", "rest")
    ]
    assert "Win rate by ann, grpo: no feature differs." in found.notes
    notes = " ".join(frontier_table(judged).notes)
    assert "quality by ann (verdicts on 300 pairs of sft's samples) begins to fall at 0.40 nats" in notes
