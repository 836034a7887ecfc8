"""Figures that a paper could print: told apart without colour, names that cover neither each other nor a line."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from rlhf_bench.report.contents import draw
from rlhf_bench.report.plots.labels import PointLabel, path_boxes, place_labels, settle
from rlhf_bench.report.plots.style import ink, line_look, looks, name_ticks
from rlhf_bench.report.result import Result, load_result

from .make_result import make_result

STAGES = ["base", "sft", "ppo", "grpo", "dpo", "chosen", "rejected"]
MINE = [f"mine-{i}" for i in range(14)]


def boxes(axes: Axes) -> list[Bbox]:
    """Where the texts stand once drawn, without the lines to their points."""
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    return [Text.get_window_extent(text) for text in axes.texts]


def crowded(models: int, seed: int) -> Axes:
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    points = np.random.default_rng(seed).normal(0.5, 0.05, (models, 2))
    axes.scatter(*points.T)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(axes, [PointLabel(f"model-{i:02d}", x, y, "#222222") for i, (x, y) in enumerate(points)])
    figure.draw_without_rendering()
    return axes


@pytest.mark.parametrize("seed", range(3))
def test_no_two_labels_overlap_among_12_crowded_models(seed: int) -> None:
    axes = crowded(12, seed)
    found = boxes(axes)
    assert len(found) == 12
    assert not any(a.overlaps(b) for a, b in itertools.combinations(found, 2))
    frame = axes.get_window_extent()
    assert all(frame.contains(*corner) for box in found for corner in (box.min, box.max))
    assert any(text.arrow_patch is not None for text in axes.texts)  # type: ignore[attr-defined]  # moved, and tied


def test_a_label_keeps_off_a_line_through_its_point() -> None:
    """A diagonal through five points: each name is beside it, and near enough to need no line to its point."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    settle(axes)
    line = path_boxes(axes, [(0, 0), (1, 1)])
    at = [0.1, 0.3, 0.5, 0.7, 0.9]
    place_labels(axes, [PointLabel("rejected", x, x, "#222222") for x in at], [line])
    for box in boxes(axes):
        assert not any(box.overlaps(Bbox.from_extents(*part)) for part in line)
    assert all(text.arrow_patch is None for text in axes.texts)  # type: ignore[attr-defined]


def test_a_label_is_nearer_to_its_own_point_than_to_another() -> None:
    """Three points 12 pixels apart, one above the other, and more about them than room: none of the names misleads."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    settle(axes)
    middle = axes.transData.transform((0.5, 0.5))
    pixels = [(middle[0], middle[1] + shift) for shift in (0, 12, 24)]
    wall = path_boxes(axes, [(0.53, 0.0), (0.53, 1.0)])
    points = axes.transData.inverted().transform(pixels)
    place_labels(axes, [PointLabel(f"model {i}", x, y, "#222222") for i, (x, y) in enumerate(points)], [wall])
    for i, box in enumerate(boxes(axes)):
        apart = [
            math.hypot(*(max(lo - at, at - hi, 0) for lo, at, hi in zip(box.min, p, box.max, strict=True)))
            for p in pixels
        ]
        assert apart.index(min(apart)) == i


def test_the_held_out_plot_of_a_model_far_away(tmp_path: Path) -> None:
    """Its axis is logarithmic then, which a straight line of a given slope cannot be drawn on."""
    path = make_result(tmp_path / "r", seeds=(0, 1), audit=False)
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    for i, cells in enumerate(metrics["models"].values()):
        far = {"value": 60.0 if i == 0 else 1.0 + i, "low": 0.5, "high": 70.0}
        cells["reward_held_out_z"] = cells["reward_z"] = {**cells["reward_z"], **far}
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    figure = draw(load_result(path), "held_out_vs_reward")
    assert figure is not None
    axes = figure.axes[0]
    assert axes.get_xscale() == "symlog"
    (line,) = [line for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata()) > 2]
    assert list(line.get_xdata()) == list(line.get_ydata())


def test_names_on_the_held_out_plot_keep_off_its_diagonal(tmp_path: Path) -> None:
    path = make_result(tmp_path / "r", seeds=(0, 1, 2), audit=False)
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    for cells in (*metrics["models"].values(), *(c for seed in metrics["per_seed"].values() for c in seed.values())):
        cells["reward_held_out_z"] = {**cells["reward_z"]}  # every model on the diagonal
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    figure = draw(load_result(path), "held_out_vs_reward")
    assert figure is not None
    axes = figure.axes[0]
    found = zip(axes.texts, boxes(axes), strict=True)
    line = [Bbox.from_extents(*part) for part in path_boxes(axes, [(-3, -3), (4, 4)])]
    crossed = [text.get_text() for text, box in found if any(box.overlaps(part) for part in line)]
    assert crossed == []
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["small, hollow: each seed", "as much by either model"]


def test_models_differ_in_marker_and_line_without_colour() -> None:
    found = looks([*STAGES, *MINE])
    assert len({(look.marker, look.filled) for look in found.values()}) == len(found)
    assert len({found[stage].dashes for stage in STAGES}) == len(STAGES)
    many = looks([f"m{i}" for i in range(70)])
    assert len({(look.marker, look.filled, look.colour) for look in many.values()}) == 70
    assert line_look(found["ppo"])["linestyle"] == (0, (5, 1.6))


def test_neighbours_in_the_tables_differ_in_colour() -> None:
    colours = [look.colour for look in looks([*STAGES[:5], *MINE]).values()]
    assert all(a != b for a, b in itertools.pairwise(colours))


def test_members_of_a_curve_get_stronger_and_keep_its_marker() -> None:
    found = looks(["sft", "ppo", "ppo@1", "ppo@2", "ppo@3", "mine@a", "mine@b"])
    members = [found[f"ppo@{step}"] for step in (1, 2, 3)]
    assert {look.marker for look in members} == {found["ppo"].marker}
    assert found["ppo"].filled
    assert not any(look.filled for look in members)
    # from 0.7 * 3/4 of white to 0.7 * 1/4: red 0xd5 = 213 becomes 213 + 0.525 * 42 = 235, then 228 and 220
    assert [round(255 * to_rgb(look.colour)[0]) for look in members] == [235, 228, 220]
    assert len({look.dashes for look in members}) == 3
    assert found["mine@a"].marker == found["mine@b"].marker == "P"


def test_a_model_looks_the_same_on_every_plot() -> None:
    style = looks(["sft", "first", "second"])
    rows = [{"step": i, "loss": 1.0 / i} for i in range(1, 5)]
    manifest = {"models": {"sft": [], "first": [], "second": []}}
    result = Result(Path(), manifest, {"models": {}}, pd.DataFrame(), {("second", 0): rows})
    figure = draw(result, "training_curves")
    assert figure is not None
    assert {line.get_color() for line in figure.axes[0].lines} == {style["second"].colour}
    assert style["second"] != looks(["second"])["second"]  # alone it would take the first spare look


@pytest.mark.parametrize("colour", [look.colour for look in looks([*STAGES, *MINE]).values()])
def test_a_label_can_be_read_on_white(colour: str) -> None:
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in to_rgb(ink(colour))]
    assert 1.05 / (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05) >= 4.5


def test_ink_leaves_what_is_dark_enough() -> None:
    assert ink("#222222") == "#222222"
    assert ink("#ffffff") not in ("#ffffff", "#000000")


def test_long_names_stand_aslant() -> None:
    axes = Figure().subplots()
    name_ticks(axes, ["sft", "ppo"])
    assert axes.get_xticklabels()[0].get_rotation() == 0
    name_ticks(axes, ["sft", "llama-3-8b-instruct"])
    assert axes.get_xticklabels()[0].get_rotation() == 30
