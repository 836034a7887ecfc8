"""Two numbers of every model against each other, both with their intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from rlhf_bench.metrics.registry import HELD_OUT
from rlhf_bench.report.equal_kl import bands_of
from rlhf_bench.report.pareto import front_of, hypervolume_text
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.style import Look, arms, looks, marker_look, place_labels, tidy
from rlhf_bench.stats.pareto import pareto_front
from rlhf_bench.types import Estimate

__all__ = ["gold_vs_kl", "gold_vs_reward", "held_out_vs_reward", "reward_vs_kl", "titled"]

_WORTH_NAMING = 0.05  # probability of being on the front
_CHOOSING = "#444444"  # best-of-n is no model: a line in no model's colour
_LEGEND_WIDTH = 90  # characters that stand below a figure
_KL = "KL to {reference}, exact per prefix (nats per response)"


def reward_vs_kl(result: Result) -> Figure | None:
    figure = _against(result, "kl_exact", result.reward_key, _KL, result.reward_label, pareto=True)
    return titled(figure, result, "Reward against KL")


def gold_vs_kl(result: Result) -> Figure | None:
    figure = _against(result, "kl_exact", "gold", _KL, "gold reward", pareto=True)
    return titled(figure, result, "Gold reward against KL")


def gold_vs_reward(result: Result) -> Figure | None:
    figure = _against(result, result.reward_key, "gold", result.reward_label, "gold reward", pareto=False)
    return titled(figure, result, "Gold reward against learned reward")


def held_out_vs_reward(result: Result) -> Figure | None:
    """A model below the line gains more by the reward model it was optimised against than by another seed's."""
    label = "reward by another seed's model (z)"
    figure = _against(result, "reward_z", f"{HELD_OUT}_z", "reward by the seed's own model (z)", label, pareto=False)
    if figure is not None:
        figure.axes[0].axline((0, 0), slope=1, color="#999999", linestyle=":", linewidth=1, zorder=1)
    return titled(figure, result, "Held-out reward against learned reward")


def titled(figure: Figure | None, result: Result, title: str) -> Figure | None:
    if figure is not None:
        axes = figure.axes[0]
        axes.set_title(f"{title} · {result.data_label}", loc="left")
        tidy(axes)
    return figure


def _against(result: Result, x: str, y: str, x_label: str, y_label: str, *, pareto: bool) -> Figure | None:
    """Every model as a point with both intervals; with several seeds each seed as a small marker."""
    points = {}
    for name in result.models:
        across, up = _x_of(result, name, x), result.estimate(name, y)
        if known(across) and known(up):
            points[name] = (across, up)
    if not points:
        return None
    style = looks(result.models)
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    if x == "kl_exact":
        axes.axvline(0, color="#999999", linestyle=":", linewidth=1)
    front = pareto_front({n: (a.value, u.value) for n, (a, u) in points.items()}) if pareto and len(points) > 1 else []
    if front:
        axes.step(
            [points[n][0].value for n in front],
            [points[n][1].value for n in front],
            where="post",
            color="#777777",
            linestyle="--",
            linewidth=1.2,
            zorder=1,
            label=_front_label(result, y, front),
        )
    several = len(result.seeds) > 1
    for name, (across, up) in points.items():
        _point(axes, across, up, style[name])
        for seed in result.seeds if several else []:
            a, u = _x_of(result, name, x, seed), result.estimate(name, y, seed)
            if known(a) and known(u):
                axes.scatter(
                    [a.value], [u.value], s=11, zorder=5, **marker_look(Look(style[name].colour, "o", filled=False))
                )
    axes.set(xlabel=x_label.format(reference=result.reference), ylabel=y_label)
    _spread_x(axes, [a.value for a, _ in points.values()])
    axes.margins(0.08)
    if several:
        axes.scatter([], [], s=11, facecolor="white", edgecolor="#777777", label="small circles: each seed")
    choosing = x == "kl_exact" and _best_of_n(axes, result, y)
    along = x == "kl_exact" and _curves(axes, result, y, style)
    if front or several or choosing or along:
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=1)
    bars = [box for a, u in points.values() for box in _bar_boxes(axes, a, u)]
    corners = [(points[n][0].value, points[n][1].value) for n in front]
    bars += [box for start, end in pairwise(corners) for box in _step_boxes(axes, start, end)]
    place_labels(axes, [(n, a.value, u.value, style[n].colour) for n, (a, u) in points.items()], bars)
    return figure


def _front_label(result: Result, metric: str, front: list[str]) -> str:
    """Who is on the front, how surely, and the area under it; models that a resample may put there come after."""
    stored = front_of(result, metric)
    if stored is None:
        return "Pareto front (more reward, less KL): " + ", ".join(front)
    shares: dict[str, float] = stored["on_front"]
    sure = ", ".join(f"{name} {shares[name]:.2f}" if name in shares else name for name in front)
    maybe = ", ".join(f"{m} {p:.2f}" for m, p in shares.items() if m not in front and p >= _WORTH_NAMING)
    text = f"Pareto front, with the probability of being on it: {sure}" + (f"; not drawn: {maybe}" if maybe else "")
    return "\n".join([*textwrap.wrap(text, _LEGEND_WIDTH), hypervolume_text(result, stored)])


def _best_of_n(axes: Axes, result: Result, y: str) -> bool:
    """Best-of-n of the reference as a line with a band, where the result has a pool; True if it was drawn."""
    rows = [row for row in result.metrics.get("best_of_n", []) if y in row]
    if not rows:
        return False
    kl = [row["kl_bound"] for row in rows]
    estimates = [Estimate.from_dict(row[y]) for row in rows]
    label = f"best of n = {rows[0]['n']} ... {rows[-1]['n']} of {result.reference} (KL: upper bound log n - (n-1)/n)"
    axes.fill_between(
        kl, [e.low for e in estimates], [e.high for e in estimates], color=_CHOOSING, alpha=0.15, linewidth=0
    )
    axes.plot(kl, [e.value for e in estimates], color=_CHOOSING, linestyle="-.", marker=".", linewidth=1.2, label=label)
    return True


def _curves(axes: Axes, result: Result, y: str, style: Mapping[str, Look]) -> bool:
    """Each method's checkpoints as a line with a band, in the colour of its first; True if there is one."""
    bands = bands_of(result, y)
    for name, points in bands.items():
        colour = next(look.colour for model, look in style.items() if model.startswith(f"{name}@"))
        kl, estimates = [point["kl"] for point in points], [Estimate.from_dict(point["reward"]) for point in points]
        axes.fill_between(
            kl, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.12, linewidth=0
        )
        label = f"{name}: its checkpoints, with a band for each KL alone"
        axes.plot(kl, [e.value for e in estimates], color=colour, linewidth=1.2, zorder=2, label=label)
    return bool(bands)


def _x_of(result: Result, name: str, metric: str, seed: int | None = None) -> Estimate | None:
    estimate = result.estimate(name, metric, seed)
    if metric == "kl_exact" and name == result.reference and not known(estimate):
        return Estimate(0.0, 0.0, 0.0, 0, method="definition")  # KL of the reference to itself
    return estimate


def _point(axes: Axes, across: Estimate, up: Estimate, look: Look) -> None:
    axes.errorbar(
        across.value,
        up.value,
        xerr=arms(across),
        yerr=arms(up),
        fmt="none",
        ecolor=look.colour,
        elinewidth=1.1,
        capsize=2.5,
        zorder=3,
    )
    axes.scatter([across.value], [up.value], s=60, zorder=4, **marker_look(look))


def _spread_x(axes: Axes, values: list[float]) -> None:
    """One model far away (often base) must not press the others together: then the axis is logarithmic from there on.

    It stays linear up to the median model. Ticks are 1, 2 and 5 times powers of ten, as plain numbers.
    """
    positive = sorted(v for v in values if v > 0)
    if len(positive) < 3 or positive[-1] <= 8 * positive[len(positive) // 2]:
        return
    threshold = positive[len(positive) // 2]
    axes.set_xscale("symlog", linthresh=threshold)
    steps = [m * 10.0**k for k in range(-6, 7) for m in (1, 2, 5)]
    ticks = [0.0, *(t for t in steps if threshold / 4 < t < 1.5 * positive[-1])]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"{axes.get_xlabel()}; linear to {threshold:.2g}, then logarithmic")


def _bar_boxes(axes: Axes, across: Estimate, up: Estimate) -> list[Bbox]:
    """Where the error bars are, in pixels."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    (left,), (right,) = arms(across)
    (below,), (above,) = arms(up)
    x, y = across.value, up.value
    ends = axes.transData.transform([(x - left, y), (x + right, y), (x, y - below), (x, y + above)])
    (x0, y0), (x1, _), (x2, y2), (_, y3) = ends
    return [Bbox.from_extents(x0, y0 - 2, x1, y0 + 2), Bbox.from_extents(x2 - 2, y2, x2 + 2, y3)]


def _step_boxes(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> list[Bbox]:
    """Where one step of the front is, in pixels: first along x, then up."""
    (x0, y0), (x1, y1) = axes.transData.transform([start, end])
    return [Bbox.from_extents(x0, y0 - 3, x1, y0 + 3), Bbox.from_extents(x1 - 3, y0, x1 + 3, y1)]
