"""Two numbers of every model against each other, both with their intervals; gold along the checkpoints of a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_bench.report.plots.labels import Boxes, PointLabel, path_boxes, place_labels, point_boxes, settle
from rlhf_bench.report.plots.names import lines_of, short, short_names
from rlhf_bench.report.plots.style import Look, arms, draw_point, frame, ink, legend_below, looks, seed_look, titled
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.tables.tradeoff import bands_of, front_of
from rlhf_bench.scorers.reward import HELD_OUT
from rlhf_bench.stats.overoptimisation import gold_gain
from rlhf_bench.stats.pareto import pareto_front
from rlhf_bench.types import Estimate

Line: TypeAlias = list[tuple[float, float]]  # corners, in the units of the data

_WORTH_NAMING = 0.05  # probability of being on the front
_CHOOSING = "#444444"  # best-of-n is no model: a line in no model's colour
_POSSIBLE = "#111111"  # nor is the frontier
_LEGEND_WIDTH, _FRONT_LINES = 100, 3  # characters of a line of the legend; lines for the front
_MAX_CURVES = 3  # in the legend
_CURVE_NAME = 36  # characters of a curve's name
_KL = "KL to {reference} (exact, nats per response)"


def reward_vs_kl(result: Result) -> Figure | None:
    return _against(result, "Reward against KL", "kl_exact", result.reward_key, _KL, result.reward_label, pareto=True)


def gold_vs_kl(result: Result) -> Figure | None:
    return _against(result, "Gold reward against KL", "kl_exact", "gold", _KL, "gold reward", pareto=True)


def gold_vs_reward(result: Result) -> Figure | None:
    title = "Gold reward against learned reward"
    return _against(result, title, result.reward_key, "gold", result.reward_label, "gold reward")


def held_out_vs_reward(result: Result) -> Figure | None:
    """A model below the line gains more by the reward model it was optimised against than by another seed's."""
    title = "Held-out reward against learned reward"
    own, other = (f"reward by {which} reward model (z)" for which in ("the seed's own", "another seed's"))
    return _against(result, title, "reward_z", f"{HELD_OUT}_z", own, other, diagonal="as much by either model")


def gold_vs_sqrt_kl(result: Result) -> Figure | None:
    """A curve a method: its checkpoints with intervals, the fitted form up to their largest KL, and where it turns."""
    curves: list[dict[str, Any]] = result.metrics.get("over_optimisation", [])
    if not curves:
        return None
    axes = frame()
    axes.axhline(0, color="#999999", linestyle=":", linewidth=1)
    style = looks([*result.models, *(curve["curve"] for curve in curves)])
    for curve in curves:
        look, fit = style[curve["curve"]], curve["fit"]
        for point in curve["points"]:
            gain = Estimate.from_dict(point["gain"])
            d = math.sqrt(max(0.0, point["kl"]))
            axes.errorbar([d], [gain.value], yerr=arms(gain), fmt=look.marker, color=look.colour, capsize=2.5)
        kl = np.linspace(0.0, math.sqrt(fit["largest_kl"]), 200) ** 2
        alpha, beta = (Estimate.from_dict(fit[name]) for name in ("alpha", "beta"))
        drawn = gold_gain(kl, alpha.value, beta.value, form=fit["form"])
        label = short(curve["curve"], _CURVE_NAME)
        axes.plot(np.sqrt(kl), drawn, color=look.colour, linestyle=(0, look.dashes or None), linewidth=1.6, label=label)
        if fit["turning_kl"]:
            axes.axvline(math.sqrt(fit["turning_kl"]["value"]), color=look.colour, linestyle=":", linewidth=1.2)
    axes.set(
        xlabel=f"d = sqrt of the exact KL to {short(result.reference)} (nats per response)",
        ylabel=f"gold reward, minus that of {short(result.reference)}",
    )
    legend_below(axes, columns=2)
    return titled(axes, result, "Over-optimisation")


def _against(
    result: Result,
    title: str,
    x: str,
    y: str,
    x_label: str,
    y_label: str,
    *,
    pareto: bool = False,
    diagonal: str = "",
) -> Figure | None:
    """Every model as a point with both intervals; with several seeds each seed as a small, hollow marker of its own.

    `diagonal` is the meaning of the line of equal numbers; none is drawn where it is empty.
    """
    points = {}
    for name in result.models:
        across, up = result.coordinate(name, x), result.estimate(name, y)
        if known(across) and known(up):
            points[name] = (across, up)
    if not points:
        return None
    style, shown = looks(result.models), short_names(result.models)
    axes = frame()
    if x == "kl_exact":
        axes.axvline(0, color="#999999", linestyle=":", linewidth=1)
    lines = _front(axes, result, y, points, shown) if pareto and len(points) > 1 else []
    seeds = {n: _seed_points(result, n, x, y) for n in points} if len(result.seeds) > 1 else {}
    for name, (across, up) in points.items():
        draw_point(axes, across, up, style[name], size=60, elinewidth=1.1, capsize=2.5, zorder=3)
        for at in seeds.get(name, []):
            axes.scatter(*at, s=18, zorder=3.5, **seed_look(style[name]))
    axes.set(xlabel=x_label.format(reference=short(result.reference)), ylabel=y_label)
    _spread_x(axes, [a.value for a, _ in points.values()])
    axes.margins(0.08)
    if seeds:
        axes.scatter([], [], s=18, facecolor="white", edgecolor="#777777", label="small, hollow: each seed")
    if x == "kl_exact":
        lines += [*_best_of_n(axes, result, y), *_frontier(axes, result, y), *_curves(axes, result, y, style)]
    if diagonal:
        lines.append(_diagonal(axes, diagonal))
    legend_below(axes)
    figure = titled(axes, result, title)
    settle(axes)
    blocked = [box for a, u in points.values() for box in _bar_boxes(axes, a, u)]
    blocked += [path_boxes(axes, line) for line in lines]
    blocked += [point_boxes(axes, found) for found in seeds.values()]
    labels = [PointLabel(shown[n], a.value, u.value, ink(style[n].colour)) for n, (a, u) in points.items()]
    place_labels(axes, labels, blocked)
    return figure


def _front(
    axes: Axes, result: Result, y: str, points: Mapping[str, tuple[Estimate, Estimate]], shown: Mapping[str, str]
) -> list[Line]:
    names = pareto_front({n: (a.value, u.value) for n, (a, u) in points.items()})
    if not names:
        return []
    corners = [(points[n][0].value, points[n][1].value) for n in names]
    axes.step(
        *zip(*corners, strict=True), where="post", color="#777777", linestyle="--", linewidth=1.2, zorder=1,
        label=_front_label(result, y, names, shown),
    )  # fmt: skip
    # as it is drawn: first along x, then up
    return [[at for (x0, y0), (x1, y1) in pairwise(corners) for at in ((x0, y0), (x1, y0), (x1, y1))]]


def _seed_points(result: Result, name: str, x: str, y: str) -> list[tuple[float, float]]:
    pairs = [(result.coordinate(name, x, seed), result.estimate(name, y, seed)) for seed in result.seeds]
    return [(a.value, u.value) for a, u in pairs if known(a) and known(u)]


def _diagonal(axes: Axes, meaning: str) -> Line:
    """The line of equal numbers, as far as it is seen: a curve where an axis is logarithmic."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    equal = np.linspace(max(left, bottom), min(right, top), 200)
    axes.plot(equal, equal, color="#777777", linestyle=":", linewidth=1.2, zorder=1, label=meaning)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return [(float(at), float(at)) for at in equal]


def _front_label(result: Result, metric: str, front: list[str], shown: Mapping[str, str]) -> str:
    """Who is on the front, and how surely; models that a resample may put there come after."""
    stored = front_of(result, metric)
    if stored is None:
        text = "Pareto front (more reward, less KL): " + ", ".join(shown[name] for name in front)
    else:
        shares: dict[str, float] = stored["on_front"]
        sure = ", ".join(f"{shown[name]} {shares[name]:.2f}" if name in shares else shown[name] for name in front)
        others = {name: share for name, share in shares.items() if name not in front and share >= _WORTH_NAMING}
        maybe = ", ".join(f"{shown[name]} {share:.2f}" for name, share in others.items())
        text = f"Pareto front, with the probability of being on it: {sure}" + (f"; not drawn: {maybe}" if maybe else "")
    return lines_of(text, _LEGEND_WIDTH, most=_FRONT_LINES)


def _best_of_n(axes: Axes, result: Result, y: str) -> list[Line]:
    """Best-of-n of the reference as a line with a band, where the result has a pool."""
    rows = [row for row in result.metrics.get("best_of_n", []) if y in row]
    if not rows:
        return []
    kl = [row["kl_bound"] for row in rows]
    estimates = [Estimate.from_dict(row[y]) for row in rows]
    label = (
        f"best of n = {rows[0]['n']} ... {rows[-1]['n']} of {short(result.reference)} (KL: upper bound log n - (n-1)/n)"
    )
    look: dict[str, Any] = {"color": _CHOOSING, "linestyle": "-.", "marker": ".", "linewidth": 1.2}
    lines = [_banded(axes, kl, estimates, 0.15, label=label, **look)]
    if all("kl_true" in row for row in rows):
        lines.append([(row["kl_true"]["value"], e.value) for row, e in zip(rows, estimates, strict=True)])
        axes.plot(*zip(*lines[1], strict=True), color=_CHOOSING, marker="x", markersize=4, linewidth=1.2,
                  label="the same at its true KL, summed over all responses")  # fmt: skip
    return lines


def _frontier(axes: Axes, result: Result, y: str) -> list[Line]:
    """The optimal frontier as a line with its band, from the reference's own mean by the pool to where it ends."""
    found = result.metrics.get("frontier")
    if not found or y not in found["start"]:
        return []
    start, kl = found["start"][y], [point["kl"] for point in found["points"]]
    gains = [Estimate.from_dict(point[y]) for point in found["points"]]
    by = "by" if y == "gold" else "of"
    label = (
        f"optimal frontier {by} the learned reward, from {found['n_samples']} samples of {short(result.reference)} a "
        f"prompt, which end at {found['reach']:.2f} nats"
    )
    return [_banded(axes, kl, gains, 0.2, start=start, color=_POSSIBLE, linewidth=1.8, zorder=2, label=label)]


def _curves(axes: Axes, result: Result, y: str, style: Mapping[str, Look]) -> list[Line]:
    """Each method's checkpoints as a line with a band, in the colour of its last."""
    lines: list[Line] = []
    for number, (name, points) in enumerate(bands_of(result, y).items()):
        colour = [look.colour for model, look in style.items() if model.startswith(f"{name}@")][-1]
        kl, estimates = [point["kl"] for point in points], [Estimate.from_dict(point["reward"]) for point in points]
        label = f"{short(name)}: its checkpoints, with a band for each KL alone" if number < _MAX_CURVES else "_"
        lines.append(_banded(axes, kl, estimates, 0.12, color=colour, linewidth=1.2, zorder=2, label=label))
    return lines


def _banded(
    axes: Axes, kl: Sequence[float], estimates: Sequence[Estimate], alpha: float, *, start: float = 0.0, **line: Any
) -> Line:
    """A line of estimates along KL, above `start`, with a band of that opacity for their intervals."""
    low, value, high = ([start + getattr(one, part) for one in estimates] for part in ("low", "value", "high"))
    axes.fill_between(kl, low, high, color=line["color"], alpha=alpha, linewidth=0)
    axes.plot(kl, value, **line)
    return list(zip(kl, value, strict=True))


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
    axes.set_xlabel(f"{axes.get_xlabel()}; linear to {threshold:.2g}, then log")


def _bar_boxes(axes: Axes, across: Estimate, up: Estimate) -> list[Boxes]:
    (left,), (right,) = arms(across)
    (below,), (above,) = arms(up)
    x, y = across.value, up.value
    return [path_boxes(axes, [(x - left, y), (x + right, y)]), path_boxes(axes, [(x, y - below), (x, y + above)])]
