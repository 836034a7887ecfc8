"""Names beside points, where they cover least: no label on another, nor on a point, an error bar or a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from rlhf_bench.report.plots.style import figure_of

Boxes = npt.NDArray[np.float64]  # (N, 4): x0, y0, x1, y1 in pixels

_DISTANCES = (9.0, 18.0, 30.0, 45.0, 64.0)  # points from the marker
_ANGLES = np.linspace(0.0, 2 * math.pi, 16, endpoint=False) + math.pi / 4  # up and to the right first
_LEADER = 20.0  # points beyond which a thin line ties a label to its marker
_SWEEPS = 3  # each label is placed again so many times, once the others have their places
_ON_LABEL, _OUTSIDE = 20.0, 4.0  # how much worse than a covered line: another label, or no room
_MISTAKEN = 25.0  # cost of each pixel that a label is nearer to another point than to its own
_ROUNDS = 8  # of the layout engine, at most
_STEP = 4.0  # pixels between the boxes along a line
_RADIUS = 5.0  # pixels around a marker


class PointLabel(NamedTuple):
    text: str
    x: float  # the data point it names
    y: float
    colour: str


class _Place(NamedTuple):
    dx: float  # points from the marker
    dy: float
    horizontal: Literal["center", "left", "right"]
    vertical: Literal["center", "bottom", "top"]


def place_labels(axes: Axes, labels: Sequence[PointLabel], blocked: Sequence[Boxes] = ()) -> list[Annotation]:
    """Write each label beside its point, where it covers least of the other labels, the points and `blocked`.

    Greedy over 16 directions and 5 distances, then each again with the others where they are; a far one gets a thin
    line to its point. `blocked` are boxes in pixels (N, 4). Call it last, when the axes' limits are final.
    """
    settle(axes)
    frame = axes.get_window_extent()
    pixels = axes.transData.transform([(label.x, label.y) for label in labels]).reshape(-1, 2)
    obstacles = np.vstack([_around(pixels, 6.0), *blocked])
    scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    sizes = [_size(axes, label) for label in labels]
    chosen: dict[int, tuple[_Place, Boxes]] = {}
    for i in [*range(len(labels))] * _SWEEPS:
        others = [box for j, (_, box) in chosen.items() if j != i]
        placed = np.vstack(others) if others else np.empty((0, 4))
        chosen[i] = _best(pixels, i, sizes[i], scale, frame, obstacles, placed)
    return [_annotate(axes, label, chosen[i][0]) for i, label in enumerate(labels)]


def settle(axes: Axes) -> None:
    """Let the layout engine place the axes, so data can be turned into pixels: wide legends take it a few rounds."""
    figure = figure_of(axes)
    FigureCanvasAgg(figure)
    for _ in range(_ROUNDS):
        before = axes.get_window_extent().bounds
        figure.draw_without_rendering()
        if np.allclose(before, axes.get_window_extent().bounds, atol=0.5):
            return


def point_boxes(axes: Axes, points: Sequence[tuple[float, float]]) -> Boxes:
    """Boxes around markers at data coordinates. Call `settle` first."""
    return _around(axes.transData.transform(points), _RADIUS) if points else np.empty((0, 4))


def path_boxes(axes: Axes, corners: Sequence[tuple[float, float]]) -> Boxes:
    """Small boxes along the line through `corners` in data coordinates. Call `settle` first."""
    pixels = axes.transData.transform(corners)
    return _along(pixels) if len(corners) > 1 else np.empty((0, 4))


def _along(pixels: npt.NDArray[np.float64]) -> Boxes:
    parts = []
    for start, end in pairwise(pixels):
        count = max(2, int(np.hypot(*(end - start)) / _STEP))
        parts.append(start + np.linspace(0, 1, count)[:, None] * (end - start))
    return _around(np.vstack(parts), _STEP / 2)


def _around(pixels: npt.NDArray[np.float64], radius: float) -> Boxes:
    return np.hstack([pixels - radius, pixels + radius]).reshape(-1, 4)


def _best(
    points: npt.NDArray[np.float64],
    own_point: int,
    size: tuple[float, float],
    scale: float,
    frame: Bbox,
    obstacles: Boxes,
    placed: Boxes,
) -> tuple[_Place, Boxes]:
    """The cheapest place of a label of `size` pixels, and the boxes that it and its line then take."""
    best: tuple[float, _Place, Boxes] | None = None
    point = points[own_point]
    for distance in _DISTANCES:
        for angle in _ANGLES:
            place = _place(distance, float(angle))
            box = _box(point, size, place, scale)
            own = box[None]
            if distance > _LEADER:
                own = np.vstack([own, _along(np.array([point, _anchor(point, place, scale)]))])
            covered = _overlap(box, obstacles) + _ON_LABEL * sum(_overlap(part, placed) for part in own)
            inside = _overlap(box, np.array([[frame.x0, frame.y0, frame.x1, frame.y1]]))
            cost = covered + _OUTSIDE * (size[0] * size[1] - inside) + distance
            far = _distances(box, points)
            cost += _MISTAKEN * (far[own_point] - far.min())
            if best is None or cost < best[0]:
                best = (cost, place, own)
    assert best is not None
    return best[1], best[2]


def _place(distance: float, angle: float) -> _Place:
    dx, dy = distance * math.cos(angle), distance * math.sin(angle)
    across, up = (round(1.2 * part / distance) for part in (dx, dy))  # -1, 0 or 1: within 25 degrees of an axis is 0
    return _Place(dx, dy, _ACROSS[across], _UP[up])


# by direction: -1 is the last entry
_ACROSS: tuple[Literal["center", "left", "right"], ...] = ("center", "left", "right")
_UP: tuple[Literal["center", "bottom", "top"], ...] = ("center", "bottom", "top")


def _anchor(point: npt.NDArray[np.float64], place: _Place, scale: float) -> npt.NDArray[np.float64]:
    shifted: npt.NDArray[np.float64] = point + scale * np.array([place.dx, place.dy])
    return shifted


def _box(point: npt.NDArray[np.float64], size: tuple[float, float], place: _Place, scale: float) -> Boxes:
    """The box of a text of `size` pixels, from its anchor and alignment."""
    x, y = _anchor(point, place, scale)
    width, height = size
    x0 = x - {"left": 0.0, "center": 0.5, "right": 1.0}[place.horizontal] * width
    y0 = y - {"bottom": 0.0, "center": 0.5, "top": 1.0}[place.vertical] * height
    return np.array([x0, y0, x0 + width, y0 + height])


def _overlap(box: Boxes, others: Boxes) -> float:
    """Area in pixels that a box shares with others."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return float((np.clip(width, 0, None) * np.clip(height, 0, None)).sum())


def _distances(box: Boxes, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,): how far each point is from a box; 0 inside it."""
    beyond = np.maximum(np.maximum(box[:2] - points, points - box[2:]), 0.0)
    return np.hypot(beyond[:, 0], beyond[:, 1])


def _size(axes: Axes, label: PointLabel) -> tuple[float, float]:
    """Width and height in pixels, with a pixel of air on each side."""
    trial = _annotate(axes, label, _Place(0.0, 0.0, "left", "bottom"))
    box = trial.get_window_extent()
    trial.remove()
    return box.width + 2, box.height + 2


def _annotate(axes: Axes, label: PointLabel, place: _Place) -> Annotation:
    far = math.hypot(place.dx, place.dy) > _LEADER
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(place.dx, place.dy),
        textcoords="offset points",
        ha=place.horizontal,
        va=place.vertical,
        color=label.colour,
        fontweight="bold",
        fontsize=9,
        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        if far
        else None,
    )
