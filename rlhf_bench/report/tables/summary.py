"""The main table, a row a model, its columns in the order in which people ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rlhf_bench.judge.builtin import NOBODY
from rlhf_bench.metrics.registry import HELD_OUT, READ_PREFIXES, REWARD_PREFIX, describe
from rlhf_bench.metrics.summary import CUT
from rlhf_bench.report.notes import interval_note
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import ALWAYS, MAIN, REST, Cell, Column, Mark, Table
from rlhf_bench.report.tables.metrics import MODEL, available, mark_notes, metric_column, model_name, own_metrics
from rlhf_bench.types import Estimate

__all__ = ["missing_lines", "summary_metrics", "summary_table"]

_ALWAYS = ("reward", "reward_z", "gold", "kl_exact", "n_tokens")
_WITHOUT_KL = ("rouge1", "rouge2", "distinct2", "repetition")  # what stands in for it where responses come from files
_REST = (
    "reward_std", "reward_z_std", "kl_k1", "kl_k3", "rouge1", "rouge2", "distinct1", "distinct2", "repetition",
    "perplexity", "kl_forward", "perplexity_reference", "self_bleu",
)  # fmt: skip
_WIN_RATE = Column("win_rate", "Win rate ↑", interval=True)
_TRAINING = [Column("train_seconds", "Training (s)", 0, tier=REST)]
_TRAINING += [Column("train_samples", "Training samples", 0, tier=REST)]


def summary_table(result: Result) -> Table:
    """Rows are models. The reward is raw for one seed; for several it is z-scored within each seed."""
    metrics = [metric_column(result, name, tier=_tier(result, name), direction=True) for name in _names(result)]
    judging = _judging(result)
    after_kl = 1 + max((i for i, c in enumerate(metrics) if c.key in ("kl_exact", *_ALWAYS[:3])), default=-1)
    columns = [*metrics[:after_kl], *([_WIN_RATE] if judging else []), *metrics[after_kl:]]
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
        *(["* the best of its column, or not told apart from it (paired tests, Holm p < .05)"] if marks else []),
        *([f"Win rate: by {judging['judge']}, against {judging['baseline']}"] if judging else []),
        *_left_out(result),
        *_clipped(result, metrics),
        *mark_notes(result, metrics),
    ]
    title = f"{result.manifest['suite']} on {result.data_label}"
    return Table(
        "summary", title, [MODEL, *columns, *_TRAINING], rows, notes, section="Summary", keep_empty=True, marks=marks
    )


def summary_metrics(result: Result) -> list[str]:
    """The metrics of the summary that any model has, without those that the suite asks of its own prompts."""
    found = dict.fromkeys(key for cells in result.metrics["models"].values() for key in cells)
    further = [key for key in found if key.startswith(REWARD_PREFIX) or key == f"{HELD_OUT}_z"]
    read = [key for key in found if key.startswith(READ_PREFIXES)]
    spread = "reward_std" if result.reward_key == "reward_z" else "reward_z_std"
    names = [result.reward_key, *further, "gold", "kl_exact", "rougeL", "n_tokens", "ended", "refused", *_REST, *read]
    return [name for name in available(result, names) if name != spread]


def _names(result: Result) -> list[str]:
    """What the suite asks of its own prompts stands first: it is the reason to run that suite."""
    return list(dict.fromkeys([*own_metrics(result), *summary_metrics(result)]))


def _tier(result: Result, name: str) -> int:
    if name in _ALWAYS or name in own_metrics(result):
        return ALWAYS
    stands_in = name in _WITHOUT_KL and not available(result, ["kl_exact"])
    is_main = name in ("rougeL", "ended", "refused", f"{HELD_OUT}_z")
    return MAIN if is_main or stands_in or name.startswith((REWARD_PREFIX, READ_PREFIXES[0])) else REST


def missing_lines(result: Result) -> list[str]:
    """A line a reason: which numbers are not available, and why. Gaps without a reason are listed as such."""
    reasons: dict[str, dict[str, list[str]]] = {}  # reason -> metric -> models
    explained = set()
    for row in result.metrics.get("missing", []):
        explained.add((row["model"], row["metric"]))
        reasons.setdefault(row["reason"], {}).setdefault(row["metric"], []).append(row["model"])
    for name in _names(result):
        for model in result.models:
            if not {(model, name), ("all", name)} & explained and not known(result.estimate(model, name)):
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
    found: list[dict[str, Any]] = [row for row in result.judge.get("judgings", []) if row["base_url"] != NOBODY]
    return next(iter(sorted(found, key=lambda row: row["baseline"] != result.reference)), {})


def _marks(result: Result, columns: Sequence[Column]) -> Iterator[tuple[tuple[int, int], Mark]]:
    for j, column in enumerate(columns, 1):
        best = result.best(column.key)
        for i, model in enumerate(result.models):
            mark = Mark(model in best, result.differs(model, column.key))
            if mark != Mark():
                yield (i, j), mark


def _training(result: Result, model: str) -> list[Cell]:
    """Mean seconds and samples of the model's own stage over seeds."""
    runs: list[dict[str, Any]] = result.metrics.get("training", {}).get(model, [])
    if not runs:
        return [None, None]
    return [sum(float(run[key]) for run in runs) / len(runs) for key in ("seconds", "samples")]


def _left_out(result: Result) -> list[str]:
    """The rows that --skip-bad left out, a line a file."""
    return [
        f"{n:,} row{' of ' + file + ' was' if n == 1 else 's of ' + file + ' were'} left out as malformed (--skip-bad)"
        for file, n in result.manifest.get("left_out", {}).items()
    ]


def _clipped(result: Result, columns: Iterable[Column]) -> list[str]:
    """Which intervals would have left what the number can be, the sign of few prompts or seeds; a line a range."""
    found: dict[str, list[str]] = {}
    for model in result.models:
        for column in columns:
            cell = result.estimate(model, column.key)
            _, clipped, limits = cell.method.partition(CUT) if cell else ("", "", "")
            if clipped:
                found.setdefault(limits, []).append(f"{describe(column.key).title} of {model}")
    return [f"Intervals clipped to [{limits}: {', '.join(names)}" for limits, names in found.items()]
