"""Training curves from log rows: raw points light, a running mean strong, evaluation values as markers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_bench.files import atomic_write_bytes
from rlhf_bench.report.plots.names import short
from rlhf_bench.report.plots.style import Look, drawing, figure_bytes, looks, tidy
from rlhf_bench.store import order_models

if TYPE_CHECKING:  # a stage that saves its curve needs no result
    from rlhf_bench.report.result import Result

Rows = Sequence[Mapping[str, Any]]


class CurvePanel(NamedTuple):
    key: str  # TRL's name of the training value; its evaluation twin is eval_<key>
    label: str


_REWARD = CurvePanel("reward", "learned reward (raw)")
_EXACT = CurvePanel("kl_exact", "exact KL (nats per response)")
_GOLD = CurvePanel("gold", "gold reward")
_LOSS = CurvePanel("loss", "loss (nats per token)")
STAGE_PANELS: dict[str, list[CurvePanel]] = {
    "base": [_LOSS],
    "sft": [_LOSS],
    "reward": [CurvePanel("loss", "loss (nats per pair)"), CurvePanel("accuracy", "accuracy (share of pairs)")],
    "dpo": [
        CurvePanel("loss", "loss (nats per pair)"),
        CurvePanel("rewards/accuracies", "accuracy (share of pairs)"),
        CurvePanel("rewards/margins", "implicit reward margin (nats)"),
    ],
    "ppo": [_REWARD, CurvePanel("objective/kl", "KL, k1 (nats per response)"), _EXACT, _GOLD],
    "grpo": [_REWARD, CurvePanel("kl", "KL, k3 (nats per token)"), _EXACT, _GOLD],
}
_VALIDATION: dict[str, Any] = {"color": "#222222", "marker": "o", "markersize": 4, "markerfacecolor": "white",
                               "linewidth": 1, "linestyle": "--"}  # fmt: skip
_KEY_OF = {  # a key that only this stage logs
    "objective/scores": "ppo",
    "objective/kl": "ppo",
    "rewards/margins": "dpo",
    "rewards/accuracies": "dpo",
    "frac_reward_zero_std": "grpo",
    "reward": "grpo",
    "accuracy": "reward",
}


def stage_of(name: str, rows: Rows) -> str:
    """The stage that wrote these rows: the model's name if it is a stage, else by the logged keys."""
    if name in STAGE_PANELS:
        return name
    keys = {key for row in rows for key in row}
    return next((stage for key, stage in _KEY_OF.items() if key in keys), "sft")


def plot_training_curve(log_rows: list[dict[str, Any]], stage: str, path: Path) -> None:
    """Draw one stage's log.jsonl to `path`, a .png or .svg.

    `log_rows` have "step" and TRL's metric names; evaluation values are `eval_<name>`. A stage that is not known
    is found from its keys. A panel is left out where its key was never logged.
    """
    with drawing():
        panels = _panels(stage, log_rows)
        figure = Figure(figsize=(4.6 * max(1, len(panels)), 3.2), layout="constrained")
        grid = figure.subplots(1, max(1, len(panels)), squeeze=False)
        for axes, panel in zip(grid[0], panels, strict=False):
            _draw(axes, panel, [log_rows], looks([stage])[stage])
        if panels:
            grid[0][0].set_title(stage, loc="left")
            grid[0][0].legend()
        else:
            grid[0][0].set_axis_off()
            grid[0][0].text(0.5, 0.5, f"{stage}: no values were logged", ha="center", va="center")
        atomic_write_bytes(path, figure_bytes(figure, path.suffix[1:]))


def training_curves(result: Result) -> Figure | None:
    """One row of panels a model, a line a seed, with the looks of the other plots; None if no log holds a known key."""
    logs, models = result.logs, result.models
    names = order_models(name for name, _ in logs)
    if "reward" in names:  # it is trained after SFT and before the others
        names.remove("reward")
        names.insert(sum(name in ("base", "sft") for name in names), "reward")
    lines: list[tuple[str, Sequence[Rows], list[CurvePanel]]] = []
    for name in names:
        runs = [rows for (model, _), rows in sorted(logs.items()) if model == name]
        panels = _panels(stage_of(name, runs[0]), [row for rows in runs for row in rows])
        if panels:
            lines.append((name, runs, panels))
    if not lines:
        return None
    cells = [(name, runs, panel) for name, runs, panels in lines for panel in panels]
    width = min(3, len(cells))
    height = math.ceil(len(cells) / width)
    figure = Figure(figsize=(3.7 * width, 2.5 * height), layout="constrained")
    grid = figure.subplots(height, width, squeeze=False).flatten()
    style = looks([*models, *names])
    for axes, (name, rows_of, panel) in zip(grid, cells, strict=False):
        _draw(axes, panel, rows_of, style[name])
        axes.set_title(short(name, 30), loc="left")
    for axes in grid[len(cells) :]:
        axes.set_axis_off()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(handles))
    return figure


def _panels(stage: str, rows: Rows) -> list[CurvePanel]:
    panels = STAGE_PANELS[stage_of(stage, rows)]
    return [p for p in panels if values_of(rows, p.key)[0].size or values_of(rows, f"eval_{p.key}")[0].size]


def _draw(axes: Axes, panel: CurvePanel, runs: Sequence[Rows], look: Look) -> None:
    labelled: set[str] = set()

    def once(label: str) -> str:
        """One legend entry, however many seeds are drawn."""
        fresh = label not in labelled
        labelled.add(label)
        return label if fresh else "_nolegend_"

    for rows in runs:
        step, value = values_of(rows, panel.key)
        if step.size:
            if len(runs) == 1:
                axes.plot(step, value, color=look.colour, alpha=0.3, linewidth=0.8, label="each log row")
            mean = running_mean(value, max(1, len(value) // 15))
            axes.plot(step, mean, color=look.colour, linewidth=1.8, label=once("running mean"))
        step, value = values_of(rows, f"eval_{panel.key}")
        if step.size:
            axes.plot(step, value, label=once("validation"), **_VALIDATION)
    axes.set(xlabel="step", ylabel=panel.label)
    tidy(axes)


def values_of(rows: Rows, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one key."""
    found = [(row["step"], row[key]) for row in rows if "step" in row and isinstance(row.get(key), int | float)]
    pairs = np.array([pair for pair in found if math.isfinite(pair[1])], dtype=float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` rows to each side, over those that exist at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(0, index - window), np.minimum(len(values), index + window + 1)
    mean: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return mean
