"""Win rates and ratings by judges, drawn: which points stand where, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.report.plots.panels import judge_ratings, win_rates
from rlhf_bench.report.result import Result
from rlhf_bench.types import Estimate

SERVER = {"base_url": "https://server.example/v1", "template": "pairwise"}


def result(**judge: Any) -> Result:
    manifest: dict[str, Any] = {
        "suite": "s", "run": "r", "models": {"base": [], "sft": [], "ppo": []}, "seeds": [0], "reference": "sft",
        "data": {"source": "pairs", "split": "test"},
    }  # fmt: skip
    return Result(Path(), manifest, {"models": {}}, pd.DataFrame({"model": []}), {}, judge)


def cell(value: float) -> dict[str, Any]:
    return Estimate(value, value - 0.1, value + 0.1, 40).to_dict()


def judging(judge: str, rates: dict[str, float], equal: dict[str, float], warning: str = "") -> dict[str, Any]:
    return {
        "judge": judge, "baseline": "base", **SERVER,
        "win_rates": [{"model": model, "estimate": cell(value)} for model, value in rates.items()],
        "equal_length": [
            {"model": model, "win_rate": cell(value), "warning": warning} for model, value in equal.items()
        ],
    }  # fmt: skip


def points(axes: Axes) -> list[list[float]]:
    return [[round(x, 3) for x in np.asarray(drawn.get_offsets())[0]] for drawn in axes.collections[1::2]]


def test_a_win_rate_has_its_line_above_that_at_equal_length() -> None:
    figure = win_rates(result(judgings=[judging("gpt", {"ppo": 0.7, "sft": 0.6}, {"sft": 0.5})]))
    assert figure is not None
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    assert axes.get_title() == "gpt, against base"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sft", "ppo"]  # the result's order
    assert points(axes) == [[0.6, -0.125], [0.5, 0.125], [0.7, 1.0]]  # ppo alone in its row
    assert 0.5 in [line.get_xdata()[0] for line in axes.lines]  # type: ignore[index]
    assert axes.get_xlim()[0] < 0 < 1 < axes.get_xlim()[1]
    assert figure.get_suptitle().endswith(" · hollow: at equal length")


def test_what_length_alone_decides_has_no_number_at_equal_length() -> None:
    figure = win_rates(result(judgings=[judging("length", {"sft": 0.6}, {"sft": 0.5}, LENGTH_ALONE)]))
    assert figure is not None
    assert points(figure.axes[0]) == [[0.6, 0.0]]
    assert "hollow" not in figure.get_suptitle()


def test_a_panel_a_criterion_on_the_scale_of_the_ratings() -> None:
    means = [
        {"model": model, "criterion": criterion, "estimate": cell(value)}
        for criterion, value in (("helpful", 4.0), ("harmless", 3.0))
        for model in ("base", "sft")
    ]
    rated = {"judge": "gpt", "low": 1, "high": 5, "means": means, **SERVER}
    figure = judge_ratings(result(ratings=[rated]))
    assert figure is not None
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["gpt: helpful", "gpt: harmless"]
    assert {axes.get_xlabel() for axes in panels} == {"mean rating (1 to 5)"}
    assert points(panels[1]) == [[3.0, 0.0], [3.0, 1.0]]


@pytest.mark.parametrize("draw", [win_rates, judge_ratings])
def test_nothing_judged_nothing_drawn(draw: Any) -> None:
    assert draw(result()) is None
    unread = judging("gpt", {"sft": float("nan")}, {})
    assert draw(result(judgings=[unread], ratings=[])) is None
