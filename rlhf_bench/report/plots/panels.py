"""Estimates of models as points with their intervals: a panel a number, a row a model."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from rlhf_bench.report.plots.style import Look, arms, marker_look, tidy
from rlhf_bench.report.result import known
from rlhf_bench.types import Estimate

__all__ = ["SHARE", "Panel", "draw_panels"]

SHARE = (-0.03, 1.03)  # limits of an axis of shares: a marker at 0 or 1 stands whole
_ACROSS = 3  # panels beside each other
_TITLE = 34  # characters of a panel's title in a line
_HOLLOW = 0.25  # rows that the second estimate of a model stands below the first


class Panel(NamedTuple):
    title: str
    label: str  # of the axis, with its unit
    estimates: Mapping[str, Estimate | None]  # by model
    below: Mapping[str, Estimate | None] = {}  # by model: a second number of the same kind, drawn hollow
    line: float | None = None  # what the numbers are read against
    limits: tuple[float, float] | None = None


def draw_panels(panels: Sequence[Panel], models: Sequence[str], looks: Mapping[str, Look], title: str) -> Figure:
    """The models from top to bottom, alike in all panels; what is not known is left out."""
    across, down = min(_ACROSS, len(panels)), math.ceil(len(panels) / _ACROSS)
    figure = Figure(figsize=(1.2 + 2.9 * across, 0.6 + down * (0.9 + 0.28 * len(models))), layout="constrained")
    every = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, panel in zip(every, panels, strict=False):
        for row, model in enumerate(models):
            second = panel.below.get(model)
            shift = _HOLLOW / 2 if known(second) else 0.0
            for estimate, at, filled in ((panel.estimates.get(model), -shift, True), (second, shift, False)):
                if known(estimate):
                    look = looks[model] if filled else looks[model]._replace(filled=False)
                    axes.errorbar(
                        estimate.value, row + at, xerr=arms(estimate), fmt="none", ecolor=look.colour, capsize=2
                    )
                    axes.scatter([estimate.value], [row + at], s=34, zorder=4, **marker_look(look))
        if panel.line is not None:
            axes.axvline(panel.line, color="#777777", linewidth=1)
        if panel.limits:
            axes.set_xlim(*panel.limits)
        axes.set_title("\n".join(textwrap.wrap(panel.title, _TITLE)), fontsize=10)
        axes.set_xlabel(panel.label)
        axes.set_yticks(range(len(models)), models)
        axes.grid(axis="y", visible=False)
        tidy(axes)
    every[0].set_ylim(len(models) - 0.5, -0.5)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure
