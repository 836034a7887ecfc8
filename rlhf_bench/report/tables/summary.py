"""The main table, a row a model, its columns in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rlhf_bench.judge.forms.builtin import BUILT_IN
from rlhf_bench.report.notes import interval_note
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import ALWAYS, MAIN, REST, Cell, Column, Mark, Table
from rlhf_bench.report.tables.metrics import MODEL, labeller_notes, mark_notes, metric_column, model_name, own_metrics
from rlhf_bench.scorers import METRICS, Metric, describe, metrics_for
from rlhf_bench.types import Estimate

# The main columns in the order in which they are read; the registry's order holds for the rest. A narrow terminal keeps
# the first of them.
_ALWAYS = ("reward", "reward_z", "gold", "kl_exact", "n_tokens")
_MAIN = ("reward", "reward_z", "gold", "kl_exact", "rougeL", "rougeL_unicode", "n_tokens", "ended", "refused")
_WITHOUT_KL = ("rouge1", "rouge2", "distinct2", "repetition")  # where no model was sampled these are main, too
_WIN_RATE = Column("win_rate", "Win rate ↑", interval=True)
_TRAINING = [Column("train_seconds", "Training + RM (s)", 0, tier=REST)]
_TRAINING += [Column("train_samples", "Training samples", 0, tier=REST)]


def summary_table(result: Result) -> Table:
    """Rows are models. The reward is raw for one seed; for several it is z-scored within each seed."""
    metrics = [metric_column(result, m.name, tier=_tier(result, m), direction=True) for m in _metrics(result)]
    judging = _judging(result)
    columns = [c for m in metrics for c in ([m, _WIN_RATE] if judging and m.key == "kl_exact" else [m])]
    rates = {rate["model"]: Estimate.from_dict(rate["estimate"]) for rate in judging.get("win_rates", [])}
    rows: list[list[Cell]] = [
        [
            model_name(model),
            *(rates.get(model) if column is _WIN_RATE else result.estimate(model, column.key) for column in columns),
            *_training(result, model),
        ]
        for model in result.models
    ]
    marks = dict(_marks(result, columns))
    notes = [
        interval_note(result),
        *(
            ["* the best of its column, or not significantly different from it (paired tests, Holm p < .05)"]
            if marks
            else []
        ),
        *([f"Win rate: by {judging['judge']}, against {judging['baseline']}"] if judging else []),
        *_left_out(result),
        *result.metrics.get("cuts", []),
        *_clipped(result, metrics),
        *mark_notes(result, metrics),
        *labeller_notes(result),
    ]
    title = f"{result.manifest['suite']} on {result.data_label}"
    return Table(
        "summary", title, [MODEL, *columns, *_TRAINING], rows, notes, section="Summary", keep_empty=True, marks=marks
    )


def _metrics(result: Result) -> list[Metric]:
    """The summary's metrics in their order: the suite's own, the main ones, the rest."""

    first = [*own_metrics(result), *_MAIN]
    found = metrics_for("summary", result.metric_names, seeds=len(result.seeds))
    return sorted(found, key=lambda metric: first.index(metric.name) if metric.name in first else len(first))


def _tier(result: Result, metric: Metric) -> int:
    """A metric of a name that the user gave, such as a further reward model's, is a main one."""
    if metric.name in (*_ALWAYS, *own_metrics(result)):
        return ALWAYS
    stands_in = metric.name in _WITHOUT_KL and not result.has("kl_exact")
    return MAIN if metric.name in _MAIN or metric.name not in METRICS or stands_in else REST


def missing_lines(result: Result) -> list[str]:
    """A line a reason: which numbers are not available, and why. Gaps without a reason are listed as such."""
    reasons: dict[str, dict[str, list[str]]] = {}  # reason -> metric -> models
    explained = set()
    for row in result.metrics.get("missing", []):
        explained.add((row["model"], row["metric"]))
        reasons.setdefault(row["reason"], {}).setdefault(row["metric"], []).append(row["model"])
    for name in (metric.name for metric in _metrics(result)):
        for model in result.models:
            if not {(model, name), ("all", name), (model, "everything")} & explained and not known(
                result.estimate(model, name)
            ):
                reasons.setdefault("no reason recorded", {}).setdefault(name, []).append(model)
    return [line for reason, metrics in reasons.items() for line in _reason_lines(reason, metrics)]


def _reason_lines(reason: str, metrics: dict[str, list[str]]) -> Iterable[str]:
    by_models: dict[tuple[str, ...], list[str]] = {}
    for metric, models in metrics.items():
        by_models.setdefault(tuple(models), []).append(metric)
    for group, names in by_models.items():
        yield f"{', '.join(group)}: {', '.join(names)}: {reason}"


def _judging(result: Result) -> dict[str, Any]:
    """The win rates of the summary: by a judge that reads the responses, against the reference where there are such."""
    found: list[dict[str, Any]] = [row for row in result.judge.get("judgings", []) if row["base_url"] != BUILT_IN]
    return next(iter(sorted(found, key=lambda row: row["baseline"] != result.reference)), {})


def _marks(result: Result, columns: Sequence[Column]) -> Iterator[tuple[tuple[int, int], Mark]]:
    for j, column in enumerate(columns, 1):
        best = result.best(column.key)
        for i, model in enumerate(result.models):
            mark = Mark(model in best, result.differs(model, column.key))
            if mark != Mark():
                yield (i, j), mark


def _training(result: Result, model: str) -> list[Cell]:
    runs: list[dict[str, Any]] = result.metrics.get("training", {}).get(model, [])
    if not runs:
        return [None, None]
    return [sum(float(run[key]) for run in runs) / len(runs) for key in ("seconds_with_reward", "samples")]


def _left_out(result: Result) -> list[str]:
    """The rows that --skip-bad left out, and what responses carry besides their answers; a line a file."""
    skipped = [
        f"{n:,} row{' of ' + file + ' was' if n == 1 else 's of ' + file + ' were'} left out as malformed (--skip-bad)"
        for file, n in result.manifest.get("left_out", {}).items()
    ]
    return [*result.manifest.get("carried", []), *skipped]


def _clipped(result: Result, columns: Iterable[Column]) -> list[str]:
    """Which intervals would have left what the number can be, the sign of few prompts or seeds; a line a range."""
    found: dict[tuple[float, float], list[str]] = {}
    for model in result.models:
        for column in columns:
            cell = result.estimate(model, column.key)
            if cell and cell.clipped:
                found.setdefault(cell.clipped, []).append(f"{describe(column.key).title} of {model}")
    return [f"Intervals clipped to [{low:g}, {high:g}]: {', '.join(names)}" for (low, high), names in found.items()]
