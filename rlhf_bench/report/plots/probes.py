"""The metrics of a suite's own prompts: each a panel, each model a row with its interval."""

from __future__ import annotations

from matplotlib.figure import Figure

from rlhf_bench.report.plots.names import short
from rlhf_bench.report.plots.panels import SHARE, Panel, draw_panels
from rlhf_bench.report.plots.style import data_title, looks
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.tables.metrics import own_metrics
from rlhf_bench.scorers import describe


def suite_metrics(result: Result) -> Figure | None:
    """Shares lie between 0 and 1; a difference has a line at 0."""
    names = own_metrics(result)
    if not names:
        return None
    models = [m for m in result.models if any(known(result.estimate(m, name)) for name in names)]
    panels = [_panel(result, name, models) for name in names]
    title = f"{short(result.manifest['suite'], 40)} · {data_title(result)}"
    return draw_panels(panels, models, looks(result.models), title)


def _panel(result: Result, name: str, models: list[str]) -> Panel:
    metric, estimates = describe(name), {model: result.estimate(model, name) for model in models}
    if metric.kind == "share":
        return Panel(metric.title, "share of responses", estimates, limits=SHARE)
    return Panel(metric.title, "difference of shares", estimates, line=0)
