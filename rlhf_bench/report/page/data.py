"""What the page's script draws and lists, as one JSON object: models, axes, layers, prompts, responses, verdicts,
mistakes and training curves. Lists of responses are columns, since their names would be half of the file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.judge.results import VERDICTS, read_section
from rlhf_bench.report.plots.curves import STAGE_PANELS, stage_of
from rlhf_bench.report.plots.style import Look, looks
from rlhf_bench.report.render.html import definition
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.tables.pareto import front_of
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.reward import HELD_OUT_Z
from rlhf_bench.stats.pareto import pareto_front
from rlhf_bench.store import ANCHORS, ResultStore
from rlhf_bench.types import Estimate

__all__ = ["page_data", "page_looks", "script_json"]

LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # of a token's KL; browser.js has the same
_MOST_CHARACTERS = 24_000_000  # of responses; of more an even selection of prompts is in the page
_MOST_MISTAKES = 400
_CURVE_POINTS = 120
_ROLES = {"model_first": 0, "baseline_first": 1}
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def script_json(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element, and a lone surrogate is written as its escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def page_looks(result: Result) -> dict[str, Look]:
    """The look of every model and, after them, of stages that have a training log alone, such as reward models."""
    stages = [name for name, _ in result.logs if name not in result.models]
    return looks([*result.models, *dict.fromkeys(stages)])


def page_data(result: Result) -> dict[str, Any]:
    shown = page_looks(result)
    index = {name: number for number, name in enumerate(shown)}
    rows = _responses(result)
    prompts = dict.fromkeys(row["prompt_id"] for row in rows)
    scores = _scores_of(result, rows)
    strips, strip_max = _strips(scores)
    return {
        "reference": index.get(result.reference, 0),
        "reward": result.reward_key,
        "seeds": result.seeds,
        "models": [
            {"name": name, "marker": look.marker, "filled": look.filled, "data": name in ANCHORS}
            for name, look in shown.items()
        ],
        "axes": [axis for axis in _axes(result, list(shown)) if any(axis["cells"])],
        "layers": _layers(result),
        "fronts": {key: [index[name] for name in front] for key, front in _fronts(result)},
        "prompts": _prompts(rows, scores, list(prompts)),
        "responses": _columns(result, rows, scores, index, list(prompts), strips),
        "strip_max": strip_max,
        "verdicts": _verdicts(result, rows, index),
        "mistakes": _mistakes(result),
        "curves": _curves(result, index),
    }


def _short(value: Any) -> float | None:
    """Four significant digits; None for what is not known."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _quad(estimate: Estimate | None) -> list[float | int | None] | None:
    if not known(estimate):
        return None
    return [_short(estimate.value), _short(estimate.low), _short(estimate.high), estimate.n]


# models


def _axes(result: Result, models: Sequence[str]) -> Iterable[dict[str, Any]]:
    columns = {"kl_exact": "kl", result.reward_key: "reward", "gold": "gold"}
    for key in ("kl_exact", result.reward_key, "gold", HELD_OUT_Z, "n_tokens"):
        metric = describe(key)

        def cell(name: str, seed: int | None = None, key: str = key) -> Estimate | None:
            found = result.estimate(name, key, seed)
            if key == "kl_exact" and name == result.reference and not known(found):
                return Estimate(0.0, 0.0, 0.0, 0, method="definition")  # KL of the reference to itself
            return found

        label = f"KL to {result.reference} (exact, nats per response)" if key == "kl_exact" else metric.title
        per_seed = [[found.value if known(found := cell(m, seed)) else None for m in models] for seed in result.seeds]
        yield {
            "key": key,
            "title": "KL" if key == "kl_exact" else metric.title,
            "label": result.reward_label if key == result.reward_key else label,
            "about": definition(key),
            "digits": metric.digits,
            "column": columns.get(key),
            "cells": [_quad(cell(name)) for name in models],
            "seeds": [[_short(value) for value in row] for row in per_seed],
        }
    for number, judging in enumerate(result.judge.get("judgings", [])):
        rates = {rate["model"]: Estimate.from_dict(rate["estimate"]) for rate in judging["win_rates"]}
        title = f"Win rate against {judging['baseline']} by {judging['judge']}"
        cells = [_quad(rates.get(name)) for name in models]
        yield {"key": f"win_rate_{number}", "title": title, "label": title, "about": definition("win_rate"),
               "digits": 3, "column": None, "cells": cells, "seeds": []}  # fmt: skip


def _layers(result: Result) -> list[dict[str, Any]]:
    """Best-of-n of the reference, and the optimal frontier where the result has one, for each reward."""
    found = []
    for name, kind, rows in (
        ("best of n", "choosing", result.metrics.get("best_of_n") or []),
        ("optimal frontier", "optimal", _frontier_rows(result)),
    ):
        for key in (result.reward_key, "gold"):
            points = [[_kl(row), *(_quad(Estimate.from_dict(row[key])) or []), _point_name(row)]
                      for row in rows if row.get(key) and known(Estimate.from_dict(row[key]))]  # fmt: skip
            if points:
                found.append({"name": name, "kind": kind, "y": key, "points": points})
    return found


def _frontier_rows(result: Result) -> list[Mapping[str, Any]]:
    """A row a KL: its `kl` and an Estimate of each reward at it, the reference's own added to what is gained."""
    frontier = result.metrics.get("frontier") or {}
    start = frontier.get("start", {})
    return [
        {"kl": point["kl"], **{key: _shifted(point[key], start[key]) for key in start if key in point}}
        for point in frontier.get("points", [])
    ]


def _shifted(cell: Mapping[str, Any], by: float) -> dict[str, Any]:
    return {**cell, **{part: cell[part] + by for part in ("value", "low", "high")}}


def _kl(row: Mapping[str, Any]) -> float | None:
    """The KL of a point: the true one where it is known, else its bound."""
    kl = row.get("kl_true", row.get("kl", row.get("kl_bound")))
    return _short(kl["value"] if isinstance(kl, Mapping) else kl)


def _point_name(row: Mapping[str, Any]) -> str:
    return f"best of {row['n']}" if "kl_bound" in row else "optimal frontier"


def _fronts(result: Result) -> Iterable[tuple[str, list[str]]]:
    for key in (result.reward_key, "gold"):
        stored = front_of(result, key)
        points = {}
        for name in result.models:
            kl, reward = result.estimate(name, "kl_exact"), result.estimate(name, key)
            if known(kl) and known(reward):
                points[name] = (kl.value, reward.value)
        if stored or len(points) > 1:
            yield key, list(stored["front"]) if stored else pareto_front(points)


# responses


def _responses(result: Result) -> list[dict[str, Any]]:
    """Every response; of more text than a page can hold, those to an even selection of the prompts."""
    rows = result.responses()
    size = sum(len(row["response"]) + 60 for row in rows)
    ids = list(dict.fromkeys(row["prompt_id"] for row in rows))
    if size <= _MOST_CHARACTERS:
        return rows
    keep = max(1, int(len(ids) * _MOST_CHARACTERS / size))
    kept = {ids[number * len(ids) // keep] for number in range(keep)}
    return [row for row in rows if row["prompt_id"] in kept]


def _scores_of(result: Result, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The scores of the given responses, in their order."""
    keys = ["model", "seed", "prompt_id", "sample"]
    order = pd.MultiIndex.from_tuples([tuple(row[key] for key in keys) for row in rows], names=keys)
    return result.scores.set_index(keys).reindex(order)


def _prompts(rows: Sequence[Mapping[str, Any]], scores: pd.DataFrame, ids: Sequence[str]) -> dict[str, Any]:
    texts = {row["prompt_id"]: row["prompt"] for row in rows}
    categories: dict[str, str] = {}
    if "category" in scores:
        known_ones = scores["category"].dropna()
        categories = dict(zip(known_ones.index.get_level_values("prompt_id"), known_ones.astype(str), strict=True))
    return {"id": ids, "text": [texts[i] for i in ids], "category": [categories.get(i, "") for i in ids]}


def _columns(
    result: Result,
    rows: Sequence[Mapping[str, Any]],
    scores: pd.DataFrame,
    index: Mapping[str, int],
    ids: Sequence[str],
    strips: list[str] | None,
) -> dict[str, Any]:
    place = {prompt: number for number, prompt in enumerate(ids)}
    numbers = {"reward": result.reward_key, "gold": "gold", "kl": "kl_exact"}
    return {
        "model": [index[row["model"]] for row in rows],
        "seed": [row["seed"] for row in rows],
        "prompt": [place[row["prompt_id"]] for row in rows],
        "sample": [row["sample"] for row in rows],
        "text": [row["response"] for row in rows],
        **{name: _numbers(scores, column) for name, column in numbers.items()},
        "tokens": [None if row["n_tokens"] is None else int(row["n_tokens"]) for row in rows],
        "cut": [int(row["finish_reason"] == "length") for row in rows],
        "strip": strips,
    }


def _numbers(scores: pd.DataFrame, column: str) -> list[float | None] | None:
    if column not in scores or not scores[column].notna().any():
        return None
    return [_short(value) for value in scores[column].astype(float)]


def _strips(scores: pd.DataFrame) -> tuple[list[str] | None, float]:
    """Each response's KL by token, a character a token: its square root in 62 levels up to the 99.5th percentile."""
    if "token_kl" not in scores:
        return None, 0.0
    lists = [np.asarray(found, dtype=float) if found is not None and np.ndim(found) else None
             for found in scores["token_kl"]]  # fmt: skip
    values = [found for found in lists if found is not None and found.size]
    highest = float(np.nanquantile(np.concatenate(values), 0.995)) if values else 0.0
    if not highest > 0:
        return None, 0.0
    top = len(LEVELS) - 1

    def text(found: np.ndarray | None) -> str:
        if found is None:
            return ""
        levels = np.sqrt(np.clip(np.nan_to_num(found) / highest, 0, 1)) * top
        return "".join(LEVELS[level] for level in np.rint(levels).astype(int))

    return [text(found) for found in lists], float(_short(highest) or 0)


# judges, mistakes, training


def _verdicts(result: Result, rows: Sequence[Mapping[str, Any]], index: Mapping[str, int]) -> list[dict[str, Any]]:
    """Of each judge and baseline, by the number of a response: W, L, T or ? where it is shown first, then second."""
    table = read_section(result.path, VERDICTS)
    if table is None:
        return []
    numbers = {(row["model"], row["prompt_id"], row["seed"], row["sample"]): n for n, row in enumerate(rows)}
    found = []
    for (judge, _, template, baseline), group in table[table["repeat"] == 0].groupby(
        ["judge", "base_url", "template", "baseline"], sort=True
    ):
        by: dict[int, str] = {}
        baseline = str(baseline)
        for row in group.itertuples(index=False):
            number, place = numbers.get((row.model, row.prompt_id, row.seed, row.sample)), _ROLES[str(row.order)]
            if number is not None:
                orders = by.get(number, "--")
                by[number] = orders[:place] + _letter(row, place) + orders[place + 1 :]
        name = judge if template == "none" else f"{judge} ({template})"
        found.append({"judge": name, "baseline": index.get(str(baseline), 0), "by": by})
    return found


def _letter(row: Any, place: int) -> str:
    """How the model did where it is shown at `place`, 0 first."""
    if row.status != "read":
        return "?"
    return "T" if row.winner == "tie" else "W" if row.winner == ("first", "second")[place] else "L"


def _mistakes(result: Result) -> list[dict[str, Any]]:
    """The largest mistakes of all audited models together, largest wrong margin first."""
    rows = sorted(ResultStore(result.path).read_mistakes(), key=lambda row: row["margin"])[:_MOST_MISTAKES]
    texts = ("prompt", "chosen", "rejected", "split", "category")
    numbers = ("margin", "chosen_score", "rejected_score")
    return [
        {
            "audited": str(row.get("model", "")),
            "tags": [*map(str, row.get("tags") or []), *(["near-duplicate"] if row.get("near_duplicate") else [])],
            **{name: str(row.get(name) or "") for name in texts},
            **{name: _short(row.get(name)) for name in numbers},
        }
        for row in rows
    ]


def _curves(result: Result, index: Mapping[str, int]) -> list[dict[str, Any]]:
    """A panel for each number that stages log, with a smoothed line for each stage and seed."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for (model, seed), rows in result.logs.items():
        for panel in STAGE_PANELS[stage_of(model, rows)]:
            steps, values = _means(rows, panel.key)
            if len(steps) > 1:
                line = {"model": index[model], "seed": seed, "step": steps, "value": values}
                panels.setdefault(panel.label, []).append(line)
    return [{"label": label, "lines": lines} for label, lines in panels.items()]


def _means(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float | None]]:
    """The steps and values of a logged number, the mean of each of at most 120 spans."""
    found = [(int(row["step"]), float(row[key])) for row in rows
             if isinstance(row.get(key), int | float) and math.isfinite(row[key])]  # fmt: skip
    if not found:
        return [], []
    spans = [span for span in np.array_split(np.array(found), min(len(found), _CURVE_POINTS)) if len(span)]
    return [int(span[-1, 0]) for span in spans], [_short(span[:, 1].mean()) for span in spans]
