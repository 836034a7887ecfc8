"""What a suite asked of its own prompts, drawn: each metric a panel, each model a row with its interval."""

from __future__ import annotations

import math
import textwrap

from matplotlib.figure import Figure

from rlhf_bench.metrics.registry import describe, probe_names
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.style import arms, looks, marker_look, tidy

__all__ = ["own_metrics", "suite_metrics"]

_ACROSS = 3  # panels beside each other
_TITLE = 34  # characters of a panel's title in a line


def own_metrics(result: Result) -> list[str]:
    """The metrics that the suite asked of its own prompts, in its order, as far as any model has them."""
    asked = [str(name) for name in result.manifest.get("metrics", [])]
    return [name for name in probe_names(asked) if any(known(result.estimate(m, name)) for m in result.models)]


def suite_metrics(result: Result) -> Figure | None:
    """Shares stand between 0 and 1; a difference has the line at 0 that it is read against."""
    names = own_metrics(result)
    if not names:
        return None
    models = [m for m in result.models if any(known(result.estimate(m, name)) for name in names)]
    across, down = min(_ACROSS, len(names)), math.ceil(len(names) / _ACROSS)
    figure = Figure(figsize=(1.2 + 2.9 * across, 0.6 + down * (0.9 + 0.28 * len(models))), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    style = looks(result.models)
    for axes, name in zip(panels, names, strict=False):
        metric = describe(name)
        for row, model in enumerate(models):
            estimate = result.estimate(model, name)
            if known(estimate):
                axes.errorbar(
                    estimate.value, row, xerr=arms(estimate), fmt="none", ecolor=style[model].colour, capsize=2
                )
                axes.scatter([estimate.value], [row], s=34, zorder=4, **marker_look(style[model]))
        axes.set_title("\n".join(textwrap.wrap(metric.title, _TITLE)), fontsize=10)
        if metric.kind == "share":
            axes.set_xlim(-0.03, 1.03)
            axes.set_xlabel("share of responses")
        else:
            axes.axvline(0, color="#777777", linewidth=1)
            axes.set_xlabel("difference of shares")
        axes.set_yticks(range(len(models)), models)
        axes.grid(axis="y", visible=False)
        tidy(axes)
    panels[0].set_ylim(len(models) - 0.5, -0.5)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.suptitle(f"{result.manifest['suite']} · {result.data_label}", x=0.01, ha="left", fontsize=11)
    return figure
