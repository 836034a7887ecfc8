"""What responses are like: rewards, ROUGE, lengths, KL by position. A plot without its numbers is None."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from rlhf_bench.report.plots.names import short, short_names
from rlhf_bench.report.plots.style import arms, draw_point, frame, legend_below, line_look, looks, name_ticks, titled
from rlhf_bench.report.result import Result, known
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.rouge import UNICODE

_MIN_PROMPTS, _MIN_SHARE = 5, 0.1  # a mean over fewer prompts than this, or a smaller share of them, is not drawn
_ROUGE = {"rouge1": "#33567a", "rouge2": "#7ea3c4", "rougeL": "#d5e2ee"}
_MAX_POINTS = 2_000  # responses a model in a scatter plot


def reward_distribution(result: Result) -> Figure | None:
    names = [name for name in result.models if len(result.rows(name, result.reward_key)) > 1]
    if not names:
        return None
    style = looks(result.models)
    axes = _columns(names)
    values = pd.concat([pd.DataFrame({"model": n, "y": result.rows(n, result.reward_key)}) for n in names])
    sns.violinplot(
        data=values,
        x="model",
        y="y",
        hue="model",
        order=names,
        hue_order=names,
        palette={name: style[name].colour for name in names},
        inner=None,
        cut=0,
        linewidth=0.8,
        saturation=1,
        density_norm="width",
        width=0.66,
        alpha=0.35,
        legend=False,
        ax=axes,
    )
    _boxes(axes, [result.rows(n, result.reward_key) for n in names], width=0.14)
    _mean_markers(axes, result, names, result.reward_key)
    name_ticks(axes, names)
    axes.set(ylabel=f"{result.reward_label}, per response")
    return titled(axes, result, "Reward distribution")


def rouge(result: Result) -> Figure | None:
    """Bars of ROUGE-1, 2 and L for each model, with their intervals; from dark to light, to differ in grey."""
    ending = "" if any(result.has(key) for key in _ROUGE) else UNICODE
    keys = {f"{key}{ending}": colour for key, colour in _ROUGE.items()}
    names = [name for name in result.models if any(known(result.estimate(name, key)) for key in keys)]
    if not names:
        return None
    axes = _columns(names)
    width = 0.8 / len(_ROUGE)
    for i, (key, colour) in enumerate(keys.items()):
        for j, name in enumerate(names):
            estimate = result.estimate(name, key)
            if known(estimate):
                at = j + (i - (len(_ROUGE) - 1) / 2) * width
                label = describe(key).title if j == 0 else "_nolegend_"
                axes.bar(
                    at, estimate.value, width * 0.92, color=colour, edgecolor="#333333", linewidth=0.6, label=label
                )
                axes.errorbar(at, estimate.value, yerr=arms(estimate), fmt="none", ecolor="#111111", capsize=2)
    name_ticks(axes, names)
    axes.set(ylabel="ROUGE F (0 to 1), with its interval", ylim=(0, None))
    legend_below(axes, columns=3)
    return titled(axes, result, "ROUGE against the chosen responses")


def length(result: Result) -> Figure | None:
    names = [name for name in result.models if len(result.rows(name, "n_tokens"))]
    if not names:
        return None
    axes = _columns(names)
    style = looks(result.models)
    _boxes(axes, [result.rows(n, "n_tokens") for n in names], width=0.55, colours=[style[n].colour for n in names])
    _mean_markers(axes, result, names, "n_tokens")
    name_ticks(axes, names)
    axes.set(ylabel="response length (tokens)", ylim=(0, None))
    limit = result.sampling.get("max_new_tokens")
    if limit:
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.1 * limit))
        axes.axhline(limit, color="#999999", linestyle=":", linewidth=1)
        axes.annotate(
            f"limit: {limit} tokens",
            (0.005, limit),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            color="#777777",
            fontsize=8,
        )
    return titled(axes, result, "Response length")


def length_vs_reward(result: Result) -> Figure | None:
    """Responses as faint points, the mean of each fifth of the lengths as a line, Spearman's rho in the legend."""
    key = result.reward_key
    if not {key, "n_tokens"} <= set(result.scores.columns):
        return None
    style, shown = looks(result.models), short_names(result.models)
    axes = frame(8.0)
    drawn = 0
    for name in result.models:
        rows = result.scores.loc[result.scores["model"] == name, ["n_tokens", key]].dropna()
        if len(rows) < 2:
            continue
        drawn += 1
        x, y = rows["n_tokens"].to_numpy(float), rows[key].to_numpy(float)
        step = max(1, len(x) // _MAX_POINTS)
        axes.scatter(x[::step], y[::step], s=5, color=style[name].colour, alpha=0.12, linewidths=0, rasterized=True)
        fifths = [part for part in np.array_split(np.argsort(x, kind="stable"), 5) if len(part)]
        rho = float(spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else math.nan
        label = f"{shown[name]} (ρ = {rho:+.2f})" if math.isfinite(rho) else shown[name]
        axes.plot(
            [x[part].mean() for part in fifths],
            [y[part].mean() for part in fifths],
            label=label,
            **line_look(style[name]),
        )
    axes.set(xlabel="response length (tokens)", ylabel=f"{result.reward_label}, per response")
    if not drawn:
        return None
    legend_below(axes, columns=3, title="mean by fifth of length (Spearman's ρ over responses)")
    return titled(axes, result, "Reward against length")


def kl_by_position(result: Result) -> Figure | None:
    """Mean over prompts of the exact KL at each response token, with a band of 1.96 standard errors over prompts."""
    if "token_kl" not in result.scores.columns:
        return None
    style, shown = looks(result.models), short_names(result.models)
    axes = frame(8.0)
    drawn = 0
    for name in result.policies:
        means = _position_means(result, name)
        if name == result.reference or not means.size:
            continue  # the reference is 0 at every position
        drawn += 1
        position = np.arange(1, means.shape[1] + 1)
        count = np.sum(~np.isnan(means), axis=0)
        centre = np.nanmean(means, axis=0)
        error = 1.96 * np.nanstd(means, axis=0, ddof=1) / np.sqrt(count)
        axes.fill_between(position, centre - error, centre + error, color=style[name].colour, alpha=0.18, linewidth=0)
        axes.plot(position, centre, label=shown[name], markevery=(drawn % 5, 8), **line_look(style[name]))
    if not drawn:
        return None
    axes.set(xlabel="response token (position)", ylabel="exact KL at the token (nats)", ylim=(0, None))
    axes.set_xlim(1, None)
    legend_below(axes, columns=4, title="mean over prompts (band: ±1.96 SE)")
    return titled(axes, result, f"KL to {short(result.reference)} by position")


def _columns(names: Sequence[str]) -> Axes:
    return frame(max(5.4, 1.6 + 0.85 * len(names)), 4.8, under=1.1)


def _boxes(axes: Axes, values: list[pd.Series[float]], *, width: float, colours: list[str] | None = None) -> None:
    """Median and quartiles, whiskers to the 5th and 95th percentile."""
    drawn = axes.boxplot(
        [v.to_numpy() for v in values],
        positions=list(range(len(values))),
        widths=width,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": "#222222", "linewidth": 1.4},
        boxprops={"facecolor": "white", "edgecolor": "#444444", "linewidth": 0.9},
        whiskerprops={"color": "#444444", "linewidth": 0.9},
        capprops={"color": "#444444", "linewidth": 0.9},
    )
    for box, colour in zip(drawn["boxes"], colours or [], strict=False):
        box.set_facecolor(to_rgba(colour, 0.35))


def _mean_markers(axes: Axes, result: Result, names: list[str], metric: str) -> None:
    """The mean with its interval, beside the box."""
    for i, name in enumerate(names):
        estimate, look = result.estimate(name, metric), looks(result.models)[name]
        if known(estimate):
            draw_point(axes, i + 0.42, estimate, look, size=40, capsize=4)
    axes.set_xlim(-0.6, len(names) - 0.3)
    axes.set_xlabel("box: quartiles, whiskers: 5 to 95 %, marker: mean with its interval", fontsize=8, color="#777777")


def _position_means(result: Result, name: str) -> np.ndarray:
    """(prompts, positions): each prompt's mean over its responses; cut where too few prompts are that long."""
    rows = result.scores.loc[result.scores["model"] == name, ["prompt_id", "token_kl"]].dropna()
    lengths = [len(values) for values in rows["token_kl"]]
    if not lengths or not max(lengths):
        return np.empty((0, 0))
    grid = np.full((len(rows), max(lengths)), np.nan)
    for i, values in enumerate(rows["token_kl"]):
        grid[i, : len(values)] = values
    means = pd.DataFrame(grid).groupby(rows["prompt_id"].to_numpy()).mean().to_numpy()
    least = max(2, min(_MIN_PROMPTS, len(means)), _MIN_SHARE * len(means))
    enough = np.sum(~np.isnan(means), axis=0) >= least
    return means[:, : int(np.argmin(enough)) if not enough.all() else len(enough)]
