"""Estimates of models as points with their intervals, a panel a number, a row a model: a suite's own metrics, win rates
and ratings by judges, and where gains came from."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.report.plots.names import printable, short, short_names
from rlhf_bench.report.plots.style import Look, draw_point, looks, tidy
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import estimate_of
from rlhf_bench.report.tables.gain import gain_splits
from rlhf_bench.report.tables.judge_forms import named_judgings
from rlhf_bench.report.tables.metrics import own_metrics
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate

SHARE = (-0.03, 1.03)  # limits of an axis of shares: a marker at 0 or 1 is not cut
_ACROSS = 3  # panels beside each other
_TITLE = 34  # characters of a panel's title in a line
_DATA = 30  # characters of the data's name in the title
_WIDTH, _HEIGHT = 2.6, 2.6  # inches of a panel, at least
_HOLLOW = 0.25  # rows between the first and the second estimate of a model


class Panel(NamedTuple):
    title: str
    label: str  # of the axis, with its unit
    estimates: Mapping[str, Estimate | None]  # by model
    below: Mapping[str, Estimate | None] = {}  # by model: a second number of the same kind, drawn hollow
    line: float | None = None  # what the numbers are read against
    limits: tuple[float, float] | None = None


def suite_metrics(result: Result) -> Figure | None:
    """The metrics of a suite's own prompts. Shares lie between 0 and 1; a difference has a line at 0."""
    panels = []
    for name in own_metrics(result):
        metric, estimates = describe(name), {model: result.estimate(model, name) for model in result.models}
        if metric.kind == "share":
            panels.append(Panel(metric.title, "share of responses", estimates, limits=SHARE))
        else:
            panels.append(Panel(metric.title, "difference of shares", estimates, line=0))
    return _draw(result, panels, short(result.manifest["suite"], 40))


def win_rates(result: Result) -> Figure | None:
    """Each against its baseline, which is the line at one half; hollow and below: at equal length."""
    panels = []
    for name, judging in named_judgings(result, "judgings"):
        rates = {rate["model"]: estimate_of(rate["estimate"]) for rate in judging["win_rates"]}
        equal = {
            cell["model"]: estimate_of(cell.get("win_rate"))
            for cell in judging["equal_length"]
            if cell.get("warning") != LENGTH_ALONE  # then the fit returns its prior
        }
        title = f"{name}, against {judging['baseline']}"
        panels.append(Panel(title, "win rate", rates, equal, line=0.5, limits=SHARE))
    return _draw(result, panels, "Win rates by a judge", " · hollow: at equal length")


def judge_ratings(result: Result) -> Figure | None:
    panels = []
    for name, judging in named_judgings(result, "ratings"):
        scale = float(judging["low"]), float(judging["high"])
        for criterion in dict.fromkeys(cell["criterion"] for cell in judging["means"]):
            means = {c["model"]: estimate_of(c["estimate"]) for c in judging["means"] if c["criterion"] == criterion}
            label = f"mean rating ({scale[0]:g} to {scale[1]:g})"
            panels.append(Panel(f"{name}: {criterion}", label, means, limits=scale))
    return _draw(result, panels, "Ratings by a judge")


def gain_parts(result: Result) -> Figure | None:
    """A panel a part of the gain in learned reward, in gold and in win rates by judges."""
    splits = list(gain_splits(result))
    panels = []
    for title in dict.fromkeys(split.title for split in splits):
        of_outcome = [split for split in splits if split.title == title]
        unit = f"gained ({of_outcome[0].unit})" if of_outcome[0].unit else "gained"
        for part in dict.fromkeys(name for split in of_outcome for name in split.parts):
            estimates = {split.model: split.parts[part] for split in of_outcome if part in split.parts}
            panels.append(Panel(f"{title}: {part}", unit, estimates, line=0.0))
    return _draw(result, panels, "Where gains came from")


def _draw(result: Result, panels: Sequence[Panel], title: str, about_hollow: str = "") -> Figure | None:
    """The models from top to bottom, alike in all panels; what is not known is left out."""
    panels = [panel for panel in panels if any(known(estimate) for estimate in panel.estimates.values())]
    if not panels:
        return None
    models = [model for model in result.models if any(known(panel.estimates.get(model)) for panel in panels)]
    down = math.ceil(len(panels) / _ACROSS)
    across = math.ceil(len(panels) / down)
    figure, grid = _grid(across, down, max(_HEIGHT, 0.4 + 0.28 * len(models)))
    style = looks(result.models)
    for axes, panel in zip(grid, panels, strict=False):
        for row, model in enumerate(models):
            _draw_model(axes, panel, model, row, style[model])
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
    hollow = any(known(estimate) for panel in panels for estimate in panel.below.values())
    whole = f"{title} · {short(result.data_label, _DATA)}{about_hollow if hollow else ''}"
    figure.suptitle(whole, x=0.01, ha="left", fontsize=11)
    return figure


def _draw_model(axes: Axes, panel: Panel, model: str, row: int, look: Look) -> None:
    second = panel.below.get(model)
    shift = _HOLLOW / 2 if known(second) else 0.0
    for estimate, at, shown in (
        (panel.estimates.get(model), -shift, look),
        (second, shift, look._replace(filled=False)),
    ):
        if known(estimate):
            draw_point(axes, estimate, row + at, shown, size=34, capsize=2)


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
