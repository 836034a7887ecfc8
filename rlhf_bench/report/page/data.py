"""What the page's script draws and lists, as one JSON object: models, axes, layers, prompts, responses, verdicts,
alarms, mistakes and training curves.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from markupsafe import Markup

from rlhf_bench.judge.questions import is_another_sample
from rlhf_bench.report.page.alarms import alarm_rows
from rlhf_bench.report.page.responses import prompt_columns, read_rows, response_columns, short, verdicts
from rlhf_bench.report.plots.curves import STAGE_PANELS, stage_of
from rlhf_bench.report.plots.style import Look, looks
from rlhf_bench.report.render.html import definition
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.tables.tradeoff import front_of
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.reward import HELD_OUT_Z
from rlhf_bench.stats.pareto import pareto_front
from rlhf_bench.store import ANCHORS, ResultStore
from rlhf_bench.types import Estimate

_MOST_MISTAKES = 400  # of all audited models together
_CURVE_POINTS = 120
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def script_json(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element, and a lone surrogate is written as its escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def script_pieces(value: Mapping[str, Any]) -> Iterator[Markup]:
    """`script_json` of an object, a member at a time: that of many responses would be in memory several times."""
    yield Markup("{")
    for number, (key, member) in enumerate(value.items()):
        yield Markup(f"{',' if number else ''}{script_json(key)}:")
        yield from script_pieces(member) if isinstance(member, Mapping) else [Markup(script_json(member))]
    yield Markup("}")


def page_looks(result: Result) -> dict[str, Look]:
    """The look of every model and, after them, of stages that have a training log alone, such as reward models."""
    stages = [name for name, _ in result.logs if name not in result.models]
    return looks([*result.models, *dict.fromkeys(stages)])


def page_data(result: Result) -> dict[str, Any]:
    shown = page_looks(result)
    index = {name: number for number, name in enumerate(shown)}
    rows = read_rows(result)
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
        "prompts": prompt_columns(rows),
        "responses": response_columns(result, rows, index),
        "verdicts": verdicts(result, rows, index),
        "alarms": alarm_rows(result, rows.prompts, index),
        **_mistakes(ResultStore(result.path).read_mistakes()),
        "curves": _curves(result, index),
    }


def _quad(estimate: Estimate | None) -> list[float | int | None] | None:
    if not known(estimate):
        return None
    return [short(estimate.value), short(estimate.low), short(estimate.high), estimate.n]


# models


def _axes(result: Result, models: Sequence[str]) -> Iterable[dict[str, Any]]:
    columns = {"kl_exact": "kl", result.reward_key: "reward", "gold": "gold"}
    for key in ("kl_exact", result.reward_key, "gold", HELD_OUT_Z, "n_tokens"):
        metric = describe(key)
        label = f"KL to {result.reference} (exact, nats per response)" if key == "kl_exact" else metric.title
        per_seed = [[result.coordinate(model, key, seed) for model in models] for seed in result.seeds]
        yield {
            "key": key,
            "title": "KL" if key == "kl_exact" else metric.title,
            "label": result.reward_label if key == result.reward_key else label,
            "about": definition(key),
            "digits": metric.digits,
            "column": columns.get(key),
            "cells": [_quad(result.coordinate(name, key)) for name in models],
            "seeds": [[short(found.value) if known(found) else None for found in row] for row in per_seed],
        }
    for number, judging in enumerate(result.judge.get("judgings", [])):
        if is_another_sample(judging["baseline"]):
            continue  # a model against itself has no place among models
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
            points = [[_kl(row), *(_quad(Estimate.from_dict(row[key])) or []),
                       f"best of {row['n']}" if "kl_bound" in row else name]
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
    return short(kl["value"] if isinstance(kl, Mapping) else kl)


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


def _mistakes(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest mistakes of each audited model, and how many it has in all.

    Models take turns, each with its largest wrong margin first: their rewards have no common scale.
    """
    models: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: float(row["margin"])):
        models.setdefault(str(row.get("model", "")), []).append(row)
    in_turn = [row for turn in zip_longest(*models.values()) for row in turn if row is not None]
    return {
        "mistakes": [_mistake(row) for row in in_turn[:_MOST_MISTAKES]],
        "n_mistakes": {name: len(found) for name, found in models.items()},
    }


def _mistake(row: Mapping[str, Any]) -> dict[str, Any]:
    texts = ("prompt", "chosen", "rejected", "split", "category")
    numbers = ("margin", "chosen_score", "rejected_score")
    return {
        "audited": str(row.get("model", "")),
        "tags": [*map(str, row.get("tags") or []), *(["near-duplicate"] if row.get("near_duplicate") else [])],
        "slices": [str(name) for name in row.get("slices") or []],
        **{name: str(row.get(name) or "") for name in texts},
        **{name: short(row.get(name)) for name in numbers},
    }


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
    return [int(span[-1, 0]) for span in spans], [short(span[:, 1].mean()) for span in spans]
