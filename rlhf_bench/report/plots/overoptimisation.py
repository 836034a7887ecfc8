"""Gold reward against the distance from the reference along one method's checkpoints, with the fitted form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rlhf_bench.report.plots.names import short
from rlhf_bench.report.plots.style import arms, frame, legend_below, looks, titled
from rlhf_bench.report.result import Result
from rlhf_bench.stats.overoptimisation import gold_gain
from rlhf_bench.types import Estimate

_NAME = 36  # characters of a curve's name


def gold_vs_sqrt_kl(result: Result) -> Figure | None:
    """A curve a method: its checkpoints with intervals, the fitted form up to their largest KL, and where it turns."""
    curves: list[dict[str, Any]] = result.metrics.get("over_optimisation", [])
    if not curves:
        return None
    axes = frame()
    axes.axhline(0, color="#999999", linestyle=":", linewidth=1)
    style = looks([*result.models, *(curve["curve"] for curve in curves)])
    for curve in curves:
        look, fit = style[curve["curve"]], curve["fit"]
        for point in curve["points"]:
            gain = Estimate.from_dict(point["gain"])
            d = math.sqrt(max(0.0, point["kl"]))
            axes.errorbar([d], [gain.value], yerr=arms(gain), fmt=look.marker, color=look.colour, capsize=2.5)
        kl = np.linspace(0.0, math.sqrt(fit["largest_kl"]), 200) ** 2
        alpha, beta = (Estimate.from_dict(fit[name]) for name in ("alpha", "beta"))
        drawn = gold_gain(kl, alpha.value, beta.value, form=fit["form"])
        label = short(curve["curve"], _NAME)
        axes.plot(np.sqrt(kl), drawn, color=look.colour, linestyle=(0, look.dashes or None), linewidth=1.6, label=label)
        if fit["turning_kl"]:
            axes.axvline(math.sqrt(fit["turning_kl"]["value"]), color=look.colour, linestyle=":", linewidth=1.2)
    axes.set(
        xlabel=f"d = sqrt of the exact KL to {short(result.reference)} (nats per response)",
        ylabel=f"gold reward, minus that of {short(result.reference)}",
    )
    legend_below(axes, columns=2)
    return titled(axes, result, "Over-optimisation")
