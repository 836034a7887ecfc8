"""Columns of metrics, and rows of a model each: what most tables of a report are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import MAIN, Cell, Column
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.rules import labeller_note, suite_metrics
from rlhf_bench.store import ANCHORS

MODEL = Column("model", "Model")
_DIRECTIONS = {True: " ↑", False: " ↓", None: ""}


def metric_column(result: Result, name: str, *, title: str = "", tier: int = MAIN, direction: bool = False) -> Column:
    """A metric's column: `title` or its own, which way is better, and † where the metric has a note of its own."""
    metric = describe(name)
    unit = " (nats)" if metric.unit.startswith("nats") and not title else ""
    arrow = _DIRECTIONS[metric.higher_is_better] if direction else ""
    mark = " †" if name in result.metrics.get("marks", {}) else ""
    return Column(name, f"{title or metric.title}{unit}{arrow}{mark}", metric.digits, interval=True, tier=tier)


def mark_notes(result: Result, columns: Iterable[Column]) -> list[str]:
    """What † means, of the columns that have it."""
    marks: dict[str, str] = result.metrics.get("marks", {})
    return [f"† {describe(c.key).title}: {marks[c.key]}" for c in columns if c.key in marks]


def model_rows(
    result: Result, columns: Sequence[Column], models: Sequence[str] | None = None, seed: int | None = None
) -> list[list[Cell]]:
    """A row a model: its name, then its estimate of each column's metric; of one seed where one is given."""
    names = result.models if models is None else models
    return [[model_name(name), *(result.estimate(name, column.key, seed) for column in columns)] for name in names]


def model_name(model: str) -> str:
    return f"{model} (data)" if model in ANCHORS else model


def own_metrics(result: Result) -> list[str]:
    """The metrics that the suite measures on its own prompts, in its order, as far as any model has them."""
    named = [str(name) for name in result.manifest.get("metrics", [])]
    return [name for name in suite_metrics(named) if result.has(name)]


def labeller_notes(result: Result) -> list[str]:
    """The line on the labeller of refusals, for the suites that count them by a metric of their own."""
    note = labeller_note(own_metrics(result))
    return [] if note is None else [note]
