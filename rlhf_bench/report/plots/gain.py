"""Where each model's gain over the reference came from, a panel a reward."""

from __future__ import annotations

from matplotlib.figure import Figure

from rlhf_bench.report.plots.panels import Panel, draw_panels
from rlhf_bench.report.plots.style import data_title, looks
from rlhf_bench.report.result import Result
from rlhf_bench.report.tables.gain import gain_splits


def gain_parts(result: Result) -> Figure | None:
    """A panel a part of the gain in learned reward, in gold and in win rates by judges; a row a model."""
    splits = list(gain_splits(result))
    if not splits:
        return None
    panels = []
    for title in dict.fromkeys(split.title for split in splits):
        of_outcome = [split for split in splits if split.title == title]
        unit = f"gained ({of_outcome[0].unit})" if of_outcome[0].unit else "gained"
        for part in dict.fromkeys(name for split in of_outcome for name in split.parts):
            estimates = {split.model: split.parts[part] for split in of_outcome if part in split.parts}
            panels.append(Panel(f"{title}: {part}", unit, estimates, line=0.0))
    models = list(dict.fromkeys(split.model for split in splits))
    return draw_panels(panels, models, looks(result.models), f"Where gains came from · {data_title(result)}")
