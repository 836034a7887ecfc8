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

from rlhf_bench.errors import BadValue, StoreError, UnknownName
from rlhf_bench.files import atomic_write_bytes, atomic_write_text, exclusive
from rlhf_bench.report.notes import interval_note, one_seed_note, toy_note
from rlhf_bench.report.plots.names import printable
from rlhf_bench.report.plots.style import arms, drawing, figure_bytes, looks, marker_look, tidy
from rlhf_bench.report.render.flat import csv_text
from rlhf_bench.report.render.markdown import markdown_text
from rlhf_bench.report.render.tex import tex_text
from rlhf_bench.report.result import Result, known, load_result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.metrics import metric_column
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate

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


def write_paper(result_dir: Path, choice: Choice, folder: Path | None = None) -> list[Path]:
    """Write figure.* and table.md, .csv and .tex to `folder`, by default `paper/` in the result; return the files.

    Raises UnknownName for a model or metric that the result does not have, BadValue for a choice that cannot be made,
    StoreError where the folder cannot be read or written.
    """
    result = load_result(result_dir)
    _check_formats(choice.formats)
    figure, table = paper_figure(result, choice), paper_table(result, choice)
    target = result.path / "paper" if folder is None else folder
    texts = {"table.md": markdown_text(table), "table.csv": csv_text(table), "table.tex": tex_text(table)}
    files = {f"figure.{name}": figure_bytes(figure, name) for name in choice.formats}
    try:
        with exclusive(result.path):
            for name, data in files.items():
                atomic_write_bytes(target / name, data)
            for name, text in texts.items():
                atomic_write_text(target / name, text)
    except OSError as error:
        raise StoreError(f"cannot write {target} ({error.strerror}); choose a folder that can be written") from error
    return [target / name for name in (*files, *texts)]


def paper_table(result: Result, choice: Choice) -> Table:
    """A row a model, a column a metric, under the chosen names and in the chosen order."""
    names, metrics = _names(result, choice), _metrics(result, choice)
    columns = [Column("model", "Model"), *(metric_column(result, metric, direction=True) for metric in metrics)]
    rows: list[list[Cell]] = [
        [shown, *(result.estimate(model, metric) for metric in metrics)] for model, shown in names.items()
    ]
    notes = [interval_note(result), *one_seed_note(result), *toy_note(result)]
    return Table("table", f"Models on {result.data_label}", columns, rows, notes)


def paper_figure(result: Result, choice: Choice) -> Figure:
    """Each metric against KL, with both intervals; where KL is not chosen, or no model has it, a panel a metric."""
    names, metrics = _names(result, choice), _metrics(result, choice)
    against = [metric for metric in metrics if metric != KL] if KL in metrics and _has(result, names, KL) else []
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
        across, up = _kl(result, model), result.estimate(model, metric)
        if not (known(across) and known(up)):
            continue
        axes.errorbar(across.value, up.value, xerr=arms(across), yerr=arms(up), fmt="none",
                      ecolor=found[model].colour, elinewidth=0.9)  # fmt: skip
        point = axes.scatter([across.value], [up.value], s=_POINTS[style], zorder=4, **marker_look(found[model]))
        point.set_label(printable(shown))
    axes.margins(0.1)
    axes.set(xlabel=f"KL to {printable(names.get(result.reference, result.reference))} (nats)",
             ylabel=_label(result, metric))  # fmt: skip


def _draw_panel(axes: Axes, result: Result, names: Mapping[str, str], metric: str, style: Style) -> None:
    found = looks(result.models)
    for row, model in enumerate(names):
        estimate = result.estimate(model, metric)
        if known(estimate):
            axes.errorbar(estimate.value, row, xerr=arms(estimate), fmt="none", ecolor=found[model].colour)
            axes.scatter([estimate.value], [row], s=_POINTS[style], zorder=4, **marker_look(found[model]))
    axes.set_yticks(range(len(names)), [printable(shown) for shown in names.values()])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(_label(result, metric))


def _label(result: Result, metric: str) -> str:
    return result.reward_label if metric == result.reward_key else describe(metric).title.lower()


def _kl(result: Result, model: str) -> Estimate | None:
    found = result.estimate(model, KL)
    if model == result.reference and not known(found):
        return Estimate(0.0, 0.0, 0.0, 0, method="definition")  # KL of the reference to itself
    return found


def _has(result: Result, models: Mapping[str, str], metric: str) -> bool:
    return any(known(result.estimate(model, metric)) for model in models)


def _names(result: Result, choice: Choice) -> dict[str, str]:
    """Model -> the name that is shown, in the order chosen."""
    rename = dict(choice.rename or {})
    for model in (*choice.models, *choice.order, *rename):
        if model not in result.models:
            raise UnknownName("model", model, result.models)
    models = list(dict.fromkeys(choice.models or result.policies))
    for model in (*choice.order, *rename):
        if model not in models:
            raise BadValue(f"given {model!r}, which --models leaves out; expected one of {', '.join(models)}")
    ordered = list(dict.fromkeys([*choice.order, *models]))
    names = {model: rename.get(model, model) for model in ordered}
    for name in names.values():
        twice = [model for model, shown in names.items() if shown == name]
        if len(twice) > 1:
            raise BadValue(f"given {name!r} as the name of {' and '.join(twice)}; expected a name of its own for each")
    return names


def _metrics(result: Result, choice: Choice) -> list[str]:
    """The chosen metrics; the reward is the z-score where there are several seeds."""
    wanted = list(dict.fromkeys(choice.metrics)) or [m for m in ("reward", "gold", KL) if _usable(result, m)]
    if not wanted:
        raise BadValue(f"{result.path} has no reward, gold or KL; expected metrics: --metrics {_some(result)}")
    for metric in wanted:
        if not _usable(result, metric):
            raise UnknownName("metric", metric, [name for name in result.metric_names if result.has(name)])
    return [result.reward_key if metric == "reward" else metric for metric in wanted]


def _usable(result: Result, metric: str) -> bool:
    return result.has(result.reward_key if metric == "reward" else metric)


def _some(result: Result) -> str:
    return ",".join([name for name in result.metric_names if result.has(name)][:3]) or "(none has a number)"


def _check_formats(formats: Sequence[str]) -> None:
    for name in formats:
        if name not in FORMATS:
            raise UnknownName("format", name, FORMATS)
    if not formats:
        raise BadValue(f"no format given; expected some of {', '.join(FORMATS)}")
