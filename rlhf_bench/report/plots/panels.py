"""Estimates of models as points with their intervals: a panel a number, a row a model."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_bench.report.plots.names import printable, short_names
from rlhf_bench.report.plots.style import Look, arms, marker_look, tidy
from rlhf_bench.report.result import known
from rlhf_bench.types import Estimate

SHARE = (-0.03, 1.03)  # limits of an axis of shares: a marker at 0 or 1 is not cut
_ACROSS = 3  # panels beside each other
_TITLE = 34  # characters of a panel's title in a line
_WIDTH, _HEIGHT = 2.6, 2.6  # inches of a panel, at least
_HOLLOW = 0.25  # rows between the first and the second estimate of a model


class Panel(NamedTuple):
    title: str
    label: str  # of the axis, with its unit
    estimates: Mapping[str, Estimate | None]  # by model
    below: Mapping[str, Estimate | None] = {}  # by model: a second number of the same kind, drawn hollow
    line: float | None = None  # what the numbers are read against
    limits: tuple[float, float] | None = None


def draw_panels(panels: Sequence[Panel], models: Sequence[str], looks: Mapping[str, Look], title: str) -> Figure:
    """The models from top to bottom, alike in all panels; what is not known is left out."""
    down = math.ceil(len(panels) / _ACROSS)
    across = math.ceil(len(panels) / down)
    figure, grid = _grid(across, down, max(_HEIGHT, 0.4 + 0.28 * len(models)))
    for axes, panel in zip(grid, panels, strict=False):
        for row, model in enumerate(models):
            _draw_model(axes, panel, model, row, looks[model])
        if panel.line is not None:
            axes.axvline(panel.line, color="#777777", linewidth=1)
        if panel.limits:
            axes.set_xlim(*panel.limits)
        lines = textwrap.wrap(printable(panel.title), _TITLE, max_lines=2, placeholder="…")
        axes.set_title("\n".join(lines), fontsize=10)
        axes.set_xlabel(panel.label)
        axes.set_yticks(range(len(models)), list(short_names(models).values()))
        axes.tick_params(labelleft=axes in grid[::across])
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        tidy(axes)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _draw_model(axes: Axes, panel: Panel, model: str, row: int, look: Look) -> None:
    second = panel.below.get(model)
    shift = _HOLLOW / 2 if known(second) else 0.0
    for estimate, at, shown in (
        (panel.estimates.get(model), -shift, look),
        (second, shift, look._replace(filled=False)),
    ):
        if known(estimate):
            axes.errorbar(estimate.value, row + at, xerr=arms(estimate), fmt="none", ecolor=shown.colour, capsize=2)
            axes.scatter([estimate.value], [row + at], s=34, zorder=4, **marker_look(shown))


def _grid(across: int, down: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels of a fixed size: no text decides it."""
    left, gap, right, top = 1.3, 0.25, 0.25, 0.3
    above, below = 0.4, 0.5
    width = max(_WIDTH, (5.2 - gap * (across - 1)) / across)
    whole = left + across * width + (across - 1) * gap + right, top + down * (above + height + below)
    figure = Figure(figsize=whole)
    grid = []
    for row in range(down):
        for column in range(across):
            x, y = left + column * (width + gap), whole[1] - top - (row + 1) * (above + height + below) + below
            grid.append(figure.add_axes((x / whole[0], y / whole[1], width / whole[0], height / whole[1])))
    return figure, grid
