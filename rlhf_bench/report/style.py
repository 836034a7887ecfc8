"""How every figure looks: one colour and one marker a model, the same bytes for the same numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from rlhf_bench.files import atomic_write_bytes
from rlhf_bench.types import Estimate

__all__ = [
    "Look",
    "arms",
    "drawing",
    "line_look",
    "look_of",
    "looks",
    "marker_look",
    "place_labels",
    "save_figure",
    "tidy",
]

_PALETTE = sns.color_palette("colorblind").as_hex()


class _Place(NamedTuple):
    dx: float  # points
    dy: float
    horizontal: Literal["center", "left", "right"]
    vertical: Literal["center", "bottom", "top"]


class Look(NamedTuple):
    colour: str
    marker: str
    filled: bool = True


_FIXED = {
    "base": Look("#6b6b6b", "o"),
    "sft": Look(_PALETTE[0], "s"),
    "ppo": Look(_PALETTE[3], "^"),
    "grpo": Look(_PALETTE[2], "D"),
    "dpo": Look(_PALETTE[4], "v"),
    "reward": Look(_PALETTE[5], "p"),
    "chosen": Look("#222222", "*", filled=False),
    "rejected": Look("#8a6d3b", "X", filled=False),
}
_SPARE = [Look(_PALETTE[i], m) for i, m in ((1, "P"), (9, "h"), (5, "<"), (6, ">"), (8, "d"), (7, "p"))]


def looks(models: Sequence[str]) -> dict[str, Look]:
    """The known stages always look the same; other models take the spare colours in their order."""
    others = [name for name in models if name not in _FIXED]
    spare = {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(others)}
    return {name: _FIXED.get(name) or spare[name] for name in models}


def look_of(name: str) -> Look:
    return looks([name])[name]


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib settings for what is drawn inside; the caller's own settings come back afterwards."""
    settings = {
        **sns.axes_style("whitegrid", {"grid.color": "#e9e9e9", "axes.edgecolor": "#555555"}),
        "font.family": ["DejaVu Sans"],  # shipped with matplotlib, so the same on every machine
        "font.size": 10.0,
        "axes.titlesize": 11.0,
        "axes.labelsize": 10.0,
        "xtick.labelsize": 9.0,
        "ytick.labelsize": 9.0,
        "legend.fontsize": 9.0,
        "legend.frameon": False,
        "axes.axisbelow": True,
        "svg.hashsalt": "rlhf-bench",
        "svg.fonttype": "path",
    }
    with mpl.rc_context(settings):
        yield


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png (150 dpi) and `path`.svg, or only the one that the suffix names. No dates inside."""
    path = Path(path)
    FigureCanvasAgg(figure)
    suffixes = [path.suffix] if path.suffix in (".png", ".svg") else [".png", ".svg"]
    written = []
    for suffix in suffixes:
        buffer = io.BytesIO()
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        with drawing():
            figure.savefig(buffer, format=suffix[1:], dpi=150, facecolor="white", metadata=metadata)
        target = path if path.suffix == suffix else path.with_name(path.name + suffix)
        atomic_write_bytes(target, buffer.getvalue())
        written.append(target)
    return written


def tidy(axes: Axes) -> None:
    """No box around the plot: only the two axes that carry a scale."""
    axes.spines[["top", "right"]].set_visible(False)


def place_labels(axes: Axes, labels: Sequence[tuple[str, float, float, str]], blocked: Sequence[Bbox] = ()) -> None:
    """Write (text, x, y, colour) beside its point where it covers least: other labels, points and error bars.

    Greedy over 16 places around each point, in the order given. `blocked` are boxes in pixels. Call it last, when
    the axes' limits are final.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # the layout engine settles the axes
    frame = axes.get_window_extent()
    pixels = {text: axes.transData.transform((x, y)) for text, x, y, _ in labels}
    taken = [*blocked, *(Bbox.from_extents(px - 6, py - 6, px + 6, py + 6) for px, py in pixels.values())]
    for text, x, y, colour in labels:
        best: tuple[float, _Place] | None = None
        for distance in (9.0, 18.0):
            for dx, dy in ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
                place = _Place(dx * distance, dy * distance, _ACROSS[dx], _UP[dy])
                trial = _annotate(axes, text, x, y, colour, place)
                box = trial.get_window_extent()
                trial.remove()
                covered = sum(_overlap(box, other) for other in taken)
                outside = box.width * box.height - _overlap(box, frame)
                cost = covered + 4 * outside + distance
                if best is None or cost < best[0]:
                    best = (cost, place)
        assert best is not None
        taken.append(_annotate(axes, text, x, y, colour, best[1]).get_window_extent())


def arms(estimate: Estimate) -> list[list[float]]:
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(0.0, below) if math.isfinite(below) else 0.0], [max(0.0, above) if math.isfinite(above) else 0.0]]


def marker_look(look: Look) -> dict[str, Any]:
    face = look.colour if look.filled else "white"
    edge = "white" if look.filled else look.colour
    return {"marker": look.marker, "facecolor": face, "edgecolor": edge, "linewidth": 0.8 if look.filled else 1.4}


def line_look(look: Look) -> dict[str, Any]:
    face = look.colour if look.filled else "white"
    return {"color": look.colour, "marker": look.marker, "markersize": 5, "markerfacecolor": face, "linewidth": 1.6}


# by direction: -1 is the last entry
_ACROSS: tuple[Literal["center", "left", "right"], ...] = ("center", "left", "right")
_UP: tuple[Literal["center", "bottom", "top"], ...] = ("center", "bottom", "top")


def _annotate(axes: Axes, text: str, x: float, y: float, colour: str, place: _Place) -> Annotation:
    return axes.annotate(
        text,
        (x, y),
        xytext=(place.dx, place.dy),
        textcoords="offset points",
        ha=place.horizontal,
        va=place.vertical,
        color=colour,
        fontweight="bold",
        fontsize=9,
    )


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(np.clip(width, 0, None) * np.clip(height, 0, None))
