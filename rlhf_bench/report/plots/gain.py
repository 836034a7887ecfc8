"""Where each model's gain over the reference came from, a panel a reward."""

from __future__ import annotations

from matplotlib.figure import Figure

from rlhf_bench.report.plots.panels import Panel, draw_panels
from rlhf_bench.report.plots.style import data_title, looks
from rlhf_bench.report.result import Result
from rlhf_bench.scorers import describe
from rlhf_bench.types import Estimate

__all__ = ["gain_parts"]


def gain_parts(result: Result) -> Figure | None:
    """A panel a part of the gain in learned reward, and of that in gold; a row a model."""
    splits = result.metrics.get("gain", [])
    if not splits:
        return None
    models = list(dict.fromkeys(split["model"] for split in splits))
    panels = []
    for metric in dict.fromkeys(split["metric"] for split in splits):
        of_metric = [split for split in splits if split["metric"] == metric]
        about = describe(metric)
        unit = f"gained ({about.unit})" if about.unit else "gained"
        for part in ("gain", *dict.fromkeys(name for split in of_metric for name in split["parts"])):
            cells = {
                split["model"]: (split["gain"] if part == "gain" else split["parts"].get(part)) for split in of_metric
            }
            estimates = {model: Estimate.from_dict(cell) for model, cell in cells.items() if cell}
            panels.append(Panel(f"{about.title}: {part}", unit, estimates, line=0.0))
    return draw_panels(panels, models, looks(result.models), f"Where gains came from · {data_title(result)}")
