"""What a suite asked of its own prompts, drawn: each metric a panel, each model a row with its interval."""

from __future__ import annotations

from matplotlib.figure import Figure

from rlhf_bench.report.panels import SHARE, Panel, draw_panels
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.style import looks
from rlhf_bench.scorers import describe, rules

__all__ = ["own_metrics", "suite_metrics"]


def own_metrics(result: Result) -> list[str]:
    """The metrics that the suite asked of its own prompts, in its order, as far as any model has them."""
    asked = [str(name) for name in result.manifest.get("metrics", [])]
    return [name for name in rules.suite_metrics(asked) if any(known(result.estimate(m, name)) for m in result.models)]


def suite_metrics(result: Result) -> Figure | None:
    """Shares stand between 0 and 1; a difference has the line at 0 that it is read against."""
    names = own_metrics(result)
    if not names:
        return None
    models = [m for m in result.models if any(known(result.estimate(m, name)) for name in names)]
    panels = [_panel(result, name, models) for name in names]
    return draw_panels(panels, models, looks(result.models), f"{result.manifest['suite']} · {result.data_label}")


def _panel(result: Result, name: str, models: list[str]) -> Panel:
    metric, estimates = describe(name), {model: result.estimate(model, name) for model in models}
    if metric.kind == "share":
        return Panel(metric.title, "share of responses", estimates, limits=SHARE)
    return Panel(metric.title, "difference of shares", estimates, line=0)
