"""The metrics: one module a family, found here and listed in the order of the tables.

A module of this package that has a `SCORER` takes part. Its metrics then have their place in the summary, the
pairwise differences, the alarms, the tables and the definitions of the docs; nothing else names them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection
from importlib import import_module

from rlhf_bench.errors import UnknownName
from rlhf_bench.scorers.base import Metric, Missing, ResponseRow, Scorer

__all__ = [
    "METRICS",
    "SCORERS",
    "Metric",
    "Missing",
    "ResponseRow",
    "Scorer",
    "describe",
    "found_metrics",
    "metrics_for",
]


def _discovered() -> tuple[Scorer, ...]:
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return tuple(sorted((m.SCORER for m in modules if hasattr(m, "SCORER")), key=lambda scorer: scorer.order))


SCORERS: tuple[Scorer, ...] = _discovered()

METRICS: dict[str, Metric] = {metric.name: metric for scorer in SCORERS for metric in scorer.metrics}


def describe(name: str) -> Metric:
    """The metric called `name`; `gold_<component>`, `reward:<model>`, `perplexity:<model>`, `bits_per_byte:<model>` and
    `<rule>:<category>` exist for any.

    Raises UnknownName.
    """
    if name in METRICS:
        return METRICS[name]
    made = next((metric for scorer in SCORERS if (metric := scorer.describe(name))), None)
    if made is None:
        raise UnknownName("metric", name, METRICS)
    return made


def found_metrics(columns: Collection[str]) -> list[Metric]:
    """Every metric that the columns of the scores allow, in the order of the registry."""
    return [metric for scorer in SCORERS for metric in scorer.found(columns)]


def metrics_for(table: str, available: Collection[str], *, seeds: int = 1) -> list[Metric]:
    """The metrics of a table in its order: those of `available`, and those that are expected there in any case.

    In the summary raw rewards have a place where there is one seed, and the standardised ones, if there are any, where
    there are several.
    """
    names = [*METRICS, *(name for name in available if name not in METRICS)]
    known = [describe(name) for name in names if name in available or METRICS[name].expected]
    placed = [metric for metric in known if table in metric.tables]
    if table == "summary":
        raw = {metric.standardises: metric.name for metric in METRICS.values() if metric.standardises}
        several = seeds > 1 and any(name in available for name in raw.values())
        left_out = set(raw) if several else set(raw.values())
        placed = [metric for metric in placed if metric.name not in left_out]
    return sorted(placed, key=lambda metric: metric.tables[table])
