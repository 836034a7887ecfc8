"""Win rates and ratings by judges, drawn: a panel a judging, or a criterion of one; a row a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.report.plots.panels import SHARE, Panel, draw_panels
from rlhf_bench.report.plots.style import data_title, looks
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import estimate_of
from rlhf_bench.report.tables.judge_forms import judge_name


def win_rates(result: Result) -> Figure | None:
    """Each against its baseline, which is the line at one half; hollow and below: at equal length."""
    judgings: list[dict[str, Any]] = result.judge.get("judgings", [])
    panels = []
    for judging in judgings:
        rates = {rate["model"]: estimate_of(rate["estimate"]) for rate in judging["win_rates"]}
        equal = {
            cell["model"]: estimate_of(cell.get("win_rate"))
            for cell in judging["equal_length"]
            if cell.get("warning") != LENGTH_ALONE  # then the fit returns its prior
        }
        title = f"{judge_name(judgings, judging)}, against {judging['baseline']}"
        panels.append(Panel(title, "win rate", rates, equal, line=0.5, limits=SHARE))
    return _draw(result, panels, "Win rates by a judge", "hollow: at equal length")


def judge_ratings(result: Result) -> Figure | None:
    judgings: list[dict[str, Any]] = result.judge.get("ratings", [])
    panels = []
    for judging in judgings:
        scale = float(judging["low"]), float(judging["high"])
        for criterion in dict.fromkeys(cell["criterion"] for cell in judging["means"]):
            means = {c["model"]: estimate_of(c["estimate"]) for c in judging["means"] if c["criterion"] == criterion}
            title = f"{judge_name(judgings, judging)}: {criterion}"
            panels.append(Panel(title, f"mean rating ({scale[0]:g} to {scale[1]:g})", means, limits=scale))
    return _draw(result, panels, "Ratings by a judge")


def _draw(result: Result, panels: Sequence[Panel], title: str, note: str = "") -> Figure | None:
    panels = [panel for panel in panels if any(known(estimate) for estimate in panel.estimates.values())]
    if not panels:
        return None
    models = [model for model in result.models if any(known(panel.estimates.get(model)) for panel in panels)]
    hollow = any(known(estimate) for panel in panels for estimate in panel.below.values())
    note = f" · {note}" if hollow else ""
    return draw_panels(panels, models, looks(result.models), f"{title} · {data_title(result)}{note}")
