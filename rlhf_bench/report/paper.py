"""One figure and one table for a paper or slides: the models, names, order and numbers that an author chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rlhf_bench.errors import BadValue, UnknownName, check_known
from rlhf_bench.files import atomic_write_bytes, exclusive, writing
from rlhf_bench.report.notes import first_notes, interval_note
from rlhf_bench.report.plots.names import printable
from rlhf_bench.report.plots.style import draw_point, drawing, figure_bytes, looks, tidy
from rlhf_bench.report.render import texts_of
from rlhf_bench.report.result import Result, known, load_result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.metrics import metric_column
from rlhf_bench.scorers import describe

Style = Literal["paper", "slides"]
Columns = Literal["single", "double"]
FORMATS = ("pdf", "svg", "png")
KL = "kl_exact"
_WIDTHS = {"paper": (3.35, 6.9), "slides": (4.8, 10.0)}  # inches of one column, of two
_FONTS = {"paper": 8.0, "slides": 14.0}  # points
_POINTS = {"paper": 26.0, "slides": 70.0}  # area of a marker


@dataclass(frozen=True)
class Choice:
    """What an author chooses; an empty list of models or metrics is all models, or reward, gold and KL.

    `rename` maps a model to the name that is shown; models come in the order of `order`, those that it leaves out last.
    """

    models: Sequence[str] = ()
    metrics: Sequence[str] = ()
    rename: Mapping[str, str] | None = None
    order: Sequence[str] = ()
    formats: Sequence[str] = ("pdf",)
    style: Style = "paper"
    columns: Columns = "single"


def write_paper(result_dir: Path, choice: Choice, folder: Path) -> list[Path]:
    """Write figure.* and table.md, .csv and .tex to `folder`; return the files.

    Raises UnknownName for a model or metric that the result does not have, BadValue for a choice that cannot be made,
    StoreError where the folder cannot be read or written.
    """
    result = load_result(result_dir)
    check_known("format", choice.formats, FORMATS)
    if not choice.formats:
        raise BadValue(f"no format given; expected some of {', '.join(FORMATS)}")
    figure, table = paper_figure(result, choice), paper_table(result, choice)
    figures = {f"figure.{name}": figure_bytes(figure, name) for name in choice.formats}
    files = figures | {name: text.encode() for name, text in texts_of(table).items()}
    with writing(folder), exclusive(result.path):
        for name, data in files.items():
            atomic_write_bytes(folder / name, data)
    return [folder / name for name in files]


def paper_table(result: Result, choice: Choice) -> Table:
    """A row a model, a column a metric, under the chosen names and in the chosen order."""
    names, metrics = _names(result, choice), _metrics(result, choice)
    columns = [Column("model", "Model"), *(metric_column(result, metric, direction=True) for metric in metrics)]
    rows: list[list[Cell]] = [
        [shown, *(result.estimate(model, metric) for metric in metrics)] for model, shown in names.items()
    ]
    notes = [interval_note(result), *first_notes(result)]
    return Table("table", f"Models on {result.data_label}", columns, rows, notes)


def paper_figure(result: Result, choice: Choice) -> Figure:
    """Each metric against KL, with both intervals; where KL is not chosen, or no model has it, a panel a metric."""
    names, metrics = _names(result, choice), _metrics(result, choice)
    has_kl = KL in metrics and any(known(result.estimate(model, KL)) for model in names)
    against = [metric for metric in metrics if metric != KL] if has_kl else []
    shown = against or metrics
    single, double = _WIDTHS[choice.style]
    width = double if choice.columns == "double" else single
    beside = len(shown) if choice.columns == "double" else 1
    down = -(-len(shown) // beside)
    height = down * min(0.75 * width / beside, 0.5 * double)
    size = _FONTS[choice.style]
    with (
        drawing(),
        rc_context({
            "font.size": size, "axes.labelsize": size, "legend.fontsize": size,
            "xtick.labelsize": size, "ytick.labelsize": size,
        }),
    ):  # fmt: skip
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(down, beside, squeeze=False)
        for axes, metric in zip(grid.flat, shown, strict=True):
            if against:
                _draw_against(axes, result, names, metric, choice.style)
            else:
                _draw_panel(axes, result, names, metric, choice.style)
            tidy(axes)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3 * beside + 1))
    return figure


def _draw_against(axes: Axes, result: Result, names: Mapping[str, str], metric: str, style: Style) -> None:
    found = looks(result.models)
    for model, shown in names.items():
        across, up = result.coordinate(model, KL), result.estimate(model, metric)
        if not (known(across) and known(up)):
            continue
        point = draw_point(axes, across, up, found[model], size=_POINTS[style], elinewidth=0.9)
        point.set_label(printable(shown))
    axes.margins(0.1)
    axes.set(xlabel=f"KL to {printable(names.get(result.reference, result.reference))} (nats)",
             ylabel=_label(result, metric))  # fmt: skip


def _draw_panel(axes: Axes, result: Result, names: Mapping[str, str], metric: str, style: Style) -> None:
    found = looks(result.models)
    for row, model in enumerate(names):
        estimate = result.estimate(model, metric)
        if known(estimate):
            draw_point(axes, estimate, row, found[model], size=_POINTS[style])
    axes.set_yticks(range(len(names)), [printable(shown) for shown in names.values()])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(_label(result, metric))


def _label(result: Result, metric: str) -> str:
    return result.reward_label if metric == result.reward_key else describe(metric).title.lower()


def _names(result: Result, choice: Choice) -> dict[str, str]:
    """Model -> the name that is shown, in the order chosen."""
    rename = dict(choice.rename or {})
    check_known("model", (*choice.models, *choice.order, *rename), result.models)
    models = list(dict.fromkeys(choice.models or result.policies))
    for option, model in (*(("--order", m) for m in choice.order), *(("--rename", m) for m in rename)):
        if model not in models:
            raise BadValue(f"{option}: given {model!r}, which --models leaves out; expected one of {', '.join(models)}")
    ordered = list(dict.fromkeys([*choice.order, *models]))
    names = {model: rename.get(model, model) for model in ordered}
    for name in names.values():
        twice = [model for model, shown in names.items() if shown == name]
        if len(twice) > 1:
            raise BadValue(f"--rename: given {name!r} as the name of {' and '.join(twice)}; expected a name for each")
    return names


def _metrics(result: Result, choice: Choice) -> list[str]:
    """The chosen metrics; the reward is the z-score where there are several seeds."""
    wanted = list(dict.fromkeys(choice.metrics)) or [m for m in ("reward", "gold", KL) if _usable(result, m)]
    usable = [name for name in result.metric_names if result.has(name)]
    if not wanted:
        some = ",".join(usable[:3]) or "(none has a number)"
        raise BadValue(f"{result.path} has no reward, gold or KL; expected metrics: --metrics {some}")
    for metric in wanted:
        if not _usable(result, metric):
            raise UnknownName("metric", metric, usable)
    return [result.reward_key if metric == "reward" else metric for metric in wanted]


def _usable(result: Result, metric: str) -> bool:
    return result.has(result.reward_key if metric == "reward" else metric)
