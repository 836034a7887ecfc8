"""The audit of a reward model, drawn: prices of features, slices, probes, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from rlhf_bench.report.plots.names import short
from rlhf_bench.report.plots.style import Look, arms, draw_point, figure_of, frame, legend_below, line_look, looks, tidy
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.tables.audit_examination import examinations
from rlhf_bench.types import Estimate

_LOOK = Look("#0173b2", "o")
_ROW = 0.26  # inches of a row
_LEFT, _WIDTH, _NAME = 3.1, 7.4, 46  # inches of the names and of the figure; characters of a name
_SLICES = 16
_GAP = 0.18  # rows between the two points of one row
_NOTHING: tuple[str, dict[str, Any]] = ("", {"features": [], "slices": [], "probes": []})  # where none was examined


class _Row(NamedTuple):
    name: str
    estimate: Estimate
    second: Estimate | None = None  # hollow and below
    line: float | None = None  # a short upright line: what is expected there
    hollow: bool = False


def audit_features(result: Result) -> Figure | None:
    """The prices of the first audited model."""
    model, part = next(examinations(result.audit), _NOTHING)
    ordered = sorted(part["features"], key=lambda row: -abs(row["difference"]))
    rows = [_Row(row["feature"], _bar(row, "model"), _bar(row, "labels"), row["gold"]) for row in ordered]
    label = "logits for one standard deviation; upright line: the gold reward"
    return _forest(rows, f"What the reward model pays for · {model}; hollow: the labels", label, at=0.0)


def audit_slices(result: Result) -> Figure | None:
    """The slices with the smallest p, of the first audited model."""
    model, part = next(examinations(result.audit), _NOTHING)
    ordered = sorted(part["slices"], key=lambda row: row["p"])[:_SLICES]
    rows = [_Row(row["name"], Estimate.from_dict(row["inside"]), line=row["promised"]) for row in ordered]
    return _forest(rows, f"Accuracy by slice · {model}", "accuracy; upright line: promised by margins")


def audit_probes(result: Result) -> Figure | None:
    """The probes of the first audited model."""
    model, part = next(examinations(result.audit), _NOTHING)
    ordered = sorted(part["probes"], key=lambda row: row["change"]["value"])
    rows = [
        _Row(row["probe"].replace("_", " "), Estimate.from_dict(row["change"]), hollow=row["should"] < 0)
        for row in ordered
    ]
    label = "change of the reward, in root mean squares of margins\nhollow: it should fall"
    return _forest(rows, f"What edits do to the reward · {model}", label, at=0.0)


def audit_reliability(result: Result) -> Figure | None:
    """How often the preferred side is the chosen one, against how probable the model makes it; a line a model."""
    models: dict[str, Any] = result.audit.get("models", {})
    found = {
        model: [b for b in part["calibration"]["bins"] if b["n"]]
        for model, part in models.items()
        if "calibration" in part
    }
    if not any(found.values()):
        return None
    axes = frame(6.2, 4.6)
    axes.plot([0.5, 1], [0.5, 1], color="#777777", linewidth=1, label="as sure as right")
    for model, look in looks(list(found)).items():
        shares = [Estimate.from_dict(entry["share"]) for entry in found[model]]
        x = [entry["mean_predicted"] for entry in found[model]]
        for at, share in zip(x, shares, strict=True):
            axes.errorbar(at, share.value, yerr=arms(share), fmt="none", ecolor=look.colour, capsize=2)
        axes.plot(x, [share.value for share in shares], label=short(model, 30), **line_look(look))
    axes.set_xlabel("probability of the preferred side, by the model")
    axes.set_ylabel("share in which it is the chosen one")
    axes.set_title("Reliability of the reward model", loc="left")
    tidy(axes)
    legend_below(axes, columns=2)
    return figure_of(axes)


def _bar(row: Mapping[str, Any], key: str) -> Estimate:
    return Estimate(row[key], row[f"{key}_low"], row[f"{key}_high"], 2)


def _forest(rows: Sequence[_Row], title: str, label: str, *, at: float | None = None) -> Figure | None:
    """A row a name, from top to bottom; `at`: where an upright line is drawn."""
    rows = [row for row in rows if known(row.estimate)]
    if not rows:
        return None
    above, below = 0.45, 0.6 + 0.2 * label.count("\n")  # inches
    height = above + below + _ROW * len(rows)
    box = (_LEFT / _WIDTH, below / height, (_WIDTH - _LEFT - 0.2) / _WIDTH, _ROW * len(rows) / height)
    axes = Figure(figsize=(_WIDTH, height)).add_axes(box)
    if at is not None:
        axes.axvline(at, color="#777777", linewidth=1)
    for y, row in enumerate(rows):
        look = _LOOK._replace(filled=not row.hollow)
        draw_point(axes, row.estimate, y - (_GAP if row.second else 0.0), look, size=28, capsize=2)
        if row.second is not None:
            draw_point(axes, row.second, y + _GAP, _LOOK._replace(filled=False), size=28, capsize=2)
        if row.line is not None:
            axes.plot([row.line, row.line], [y - 0.4, y + 0.4], color="#222222", linewidth=1.6)
    axes.set_yticks(range(len(rows)), [short(row.name, _NAME) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    axes.set_title(title, loc="right", fontsize=10)
    tidy(axes)
    return figure_of(axes)
