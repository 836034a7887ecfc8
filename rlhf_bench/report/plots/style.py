"""How every figure looks: one colour, marker and line a model, distinct in grey as well; same numbers, same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from rlhf_bench.files import atomic_write_bytes
from rlhf_bench.report.plots.names import FONT, short, short_names
from rlhf_bench.types import Estimate

if TYPE_CHECKING:
    from rlhf_bench.report.result import Result

Dashes: TypeAlias = tuple[float, ...]  # lengths of line and gap in line widths; none: a whole line

_PALETTE = sns.color_palette("colorblind").as_hex()
_SOLID: Dashes = ()
_CONTRAST = 4.5  # of a label's colour to white: the least that WCAG 2 allows for text
_MARGINS = 0.85, 0.2, 0.45  # inches left, right and above the axes
_CHARACTER = 0.092  # inches of a character of a title
_LINE = 0.165  # inches of a line of a legend
_LONG_NAME = 9  # characters of a name that fits below a column


class Look(NamedTuple):
    colour: str
    marker: str
    filled: bool = True
    dashes: Dashes = _SOLID


_FIXED = {
    "base": Look("#6b6b6b", "o", dashes=(1, 1.4)),
    "sft": Look(_PALETTE[0], "s"),
    "ppo": Look(_PALETTE[3], "^", dashes=(5, 1.6)),
    "grpo": Look(_PALETTE[2], "D", dashes=(5, 1.6, 1, 1.6)),
    "dpo": Look(_PALETTE[4], "v", dashes=(9, 1.6)),
    "reward": Look(_PALETTE[5], "p"),
    "chosen": Look("#222222", "*", filled=False, dashes=(2.2, 1.2)),
    "rejected": Look("#8a6d3b", "X", filled=False, dashes=(3, 3)),
}
# Further models: a marker each, so that 14 of them differ in grey; 5 colours, so that 70 differ in one or the other.
_MARKERS = [(m, True) for m in "Ph<>dX"] + [(m, False) for m in "os^Dvph<"]
_COLOURS = (_PALETTE[1], _PALETTE[9], "#882255", "#332288", "#999933")  # the last three of Tol's muted scheme
_DASHES: tuple[Dashes, ...] = (_SOLID, (6, 2), (1, 1.4), (6, 1.6, 1, 1.6), (3, 1.2), (9, 1.6, 3, 1.6))


def looks(models: Sequence[str]) -> dict[str, Look]:
    """The look of each model; give all models of a result, so that one looks the same on each of its plots.

    The known stages always look the same; others take the spare ones in their order. The members NAME@STEP of a curve
    have the marker of NAME, hollow, and its colour from pale to nearly full.
    """
    heads = list(dict.fromkeys(name.partition("@")[0] for name in models))
    spare = zip(cycle(_MARKERS), cycle(_COLOURS), cycle(_DASHES), strict=False)
    further = (Look(colour, *marker, dashes) for marker, colour, dashes in spare)
    whole = {head: _FIXED.get(head) or next(further) for head in heads}
    found = {}
    for name in models:
        head, at, _ = name.partition("@")
        members = [m for m in models if m.startswith(f"{head}@")]
        found[name] = _member(whole[head], members.index(name), len(members)) if at else whole[head]
    return found


def _member(look: Look, at: int, members: int) -> Look:
    """The look of the curve's `at`-th checkpoint: the later, the stronger."""
    pale = 0.7 * (members - at) / (members + 1)
    red, green, blue = (part + pale * (1 - part) for part in to_rgb(look.colour))
    return Look(to_hex((red, green, blue)), look.marker, filled=False, dashes=_DASHES[at % len(_DASHES)])


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib settings for what is drawn inside; the caller's own settings come back afterwards."""
    settings = {
        **sns.axes_style("whitegrid", {"grid.color": "#e9e9e9", "axes.edgecolor": "#555555"}),
        "font.family": [FONT],
        "text.parse_math": False,  # a $ in a name is a $
        "font.size": 10.0,
        "axes.titlesize": 11.0,
        "axes.labelsize": 10.0,
        "xtick.labelsize": 9.0,
        "ytick.labelsize": 9.0,
        "legend.fontsize": 9.0,
        "legend.frameon": False,
        "legend.handlelength": 3.0,  # long enough to show the dashes
        "axes.axisbelow": True,
        "svg.hashsalt": "rlhf-bench",
        "svg.fonttype": "path",
    }
    with mpl.rc_context(settings):
        yield


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg."""
    written = [path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")]
    for target in written:
        atomic_write_bytes(target, figure_bytes(figure, target.suffix[1:]))
    return written


_DATES: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as svg, png (150 dpi) or pdf (its fonts embedded as TrueType); no dates inside."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    with drawing(), mpl.rc_context({"pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, dpi=150, facecolor="white", metadata=_DATES[kind])
    return buffer.getvalue()


def figure_of(axes: Axes) -> Figure:
    """The figure that the axes are in."""
    figure = axes.figure
    assert isinstance(figure, Figure)  # and no part of one
    return figure


def tidy(axes: Axes) -> None:
    """No box around the plot: only the two axes that carry a scale."""
    axes.spines[["top", "right"]].set_visible(False)


def frame(width: float = 7.0, height: float = 4.6, *, under: float = 0.6) -> Axes:
    """Axes of a fixed size in a figure of so many inches, `under` of them below: no text decides their size."""
    left, right, top = _MARGINS
    box = left / width, under / height, (width - left - right) / width, (height - top - under) / height
    return Figure(figsize=(width, height)).add_axes(box)


def legend_below(axes: Axes, *, columns: int = 1, title: str | None = None) -> None:
    """A legend under the axes; the figure grows by its lines, the axes keep their size."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    figure = figure_of(axes)
    width, height = (float(inches) for inches in figure.get_size_inches())
    rows = [labels[i :: math.ceil(len(labels) / columns)] for i in range(math.ceil(len(labels) / columns))]
    lines = sum(max(label.count("\n") + 1 for label in row) for row in rows) + (title is not None)
    below = _LINE * lines + 0.1
    figure.set_size_inches(width, height + below)
    box, whole = axes.get_position(), height + below
    axes.set_position((box.x0, (box.y0 * height + below) / whole, box.width, box.height * height / whole))
    anchor = (0.1 / width, (below + 0.03) / whole)
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=anchor, ncols=columns, title=title, alignment="left",
        borderaxespad=0, borderpad=0, labelspacing=0.25, columnspacing=1.2, fontsize=8, title_fontsize=8,
    )  # fmt: skip


def titled(axes: Axes, result: Result, title: str) -> Figure:
    """The figure, with its title and the data's name, as much of it as there is room for."""
    figure = figure_of(axes)
    room = int((figure.get_size_inches()[0] - _MARGINS[0]) / _CHARACTER) - len(title) - 3
    axes.set_title(f"{title} · {short(result.data_label, max(8, room))}", loc="left")
    tidy(axes)
    return figure


def name_ticks(axes: Axes, names: Sequence[str]) -> None:
    """A column a model: short names, aslant where one of them is too long for its column."""
    shown = list(short_names(names).values())
    aslant = max(map(len, shown)) > _LONG_NAME
    turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if aslant else {}
    axes.set_xticks(range(len(names)), shown, **turned)
    axes.grid(axis="x", visible=False)


def arms(estimate: Estimate) -> list[list[float]]:
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(0.0, below) if math.isfinite(below) else 0.0], [max(0.0, above) if math.isfinite(above) else 0.0]]


def marker_look(look: Look) -> dict[str, Any]:
    face = look.colour if look.filled else "white"
    edge = "white" if look.filled else look.colour
    return {"marker": look.marker, "facecolor": face, "edgecolor": edge, "linewidth": 0.8 if look.filled else 1.4}


def draw_point(
    axes: Axes, x: float | Estimate, y: float | Estimate, look: Look, *, size: float, **bars: Any
) -> PathCollection:
    """A model's marker, with the interval of each coordinate that is an Estimate; `bars`: how intervals are drawn."""
    across, up = (one.value if isinstance(one, Estimate) else one for one in (x, y))
    xerr, yerr = (arms(one) if isinstance(one, Estimate) else None for one in (x, y))
    axes.errorbar(across, up, xerr=xerr, yerr=yerr, fmt="none", ecolor=look.colour, **bars)
    return axes.scatter([across], [up], s=size, zorder=4, **marker_look(look))


def seed_look(look: Look) -> dict[str, Any]:
    """One seed of a model: its marker, small and hollow, with a line thin enough for a star to stay one."""
    return {"marker": look.marker, "facecolor": "white", "edgecolor": look.colour, "linewidth": 0.9}


def line_look(look: Look) -> dict[str, Any]:
    """A line with markers. The white rim sets a filled marker off from its own line and from others."""
    return {
        "color": look.colour,
        "linestyle": (0, look.dashes or None),
        "linewidth": 1.6,
        "marker": look.marker,
        "markersize": 6,
        "markerfacecolor": look.colour if look.filled else "white",
        "markeredgecolor": "white" if look.filled else look.colour,
        "markeredgewidth": 0.8 if look.filled else 1.2,
    }


def ink(colour: str) -> str:
    """`colour`, darkened until it can be read as text on white."""
    red, green, blue = to_rgb(colour)
    while 1.05 / (luminance(red, green, blue) + 0.05) < _CONTRAST:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return to_hex((red, green, blue))


def luminance(red: float, green: float, blue: float) -> float:
    """Relative luminance of sRGB, 0 to 1 (WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
