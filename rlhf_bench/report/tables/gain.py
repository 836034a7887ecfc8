"""Where each model's gain over the reference came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.report.tables.judge_forms import named_judgings
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.style import GROUPS
from rlhf_bench.types import Estimate

WHOLE = "gain"


class GainSplit(NamedTuple):
    """One model's gain in one outcome, and its parts."""

    title: str  # of the outcome: a reward, or the win rate by a judge
    unit: str
    model: str
    parts: dict[str, Estimate]  # the whole gain first
    shares: dict[str, Estimate]


def gain_splits(result: Result) -> Iterator[GainSplit]:
    """The splits of learned reward and gold, and of each judge's verdicts against the reference."""
    for split in result.metrics.get("gain", []):
        about = describe(split["metric"])
        yield _split(about.title, about.unit, split)
    for name, split in _judged(result):
        if "reason" not in split:
            yield _split(f"Win rate by {name}", "win rate less 0.5", split)


def _split(title: str, unit: str, split: dict[str, Any]) -> GainSplit:
    parts, shares = (
        {name: Estimate.from_dict(value) for name, value in split[key].items()} for key in ("parts", "shares")
    )
    return GainSplit(title, unit, split["model"], {WHOLE: Estimate.from_dict(split["gain"]), **parts}, shares)


def _judged(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, judging in named_judgings(result, "judgings"):
        if judging["baseline"] == result.reference:
            yield from ((name, split) for split in judging.get("gain", []))


def gain_table(result: Result) -> Table:
    """A row an outcome, model and part, the whole gain first; without rows where the result has no split."""
    columns = [
        Column("metric", "Of"),
        Column("model", "Model"),
        Column("part", "Part"),
        Column("value", "Gained", 3, interval=True),
        Column("share", "Share of the gain", 2, interval=True),
    ]
    rows: list[list[Cell]] = [
        [split.title, split.model, part, value, split.shares.get(part)]
        for split in gain_splits(result)
        for part, value in split.parts.items()
    ]
    title = f"Where the gains over {result.reference} came from, on {result.data_label}"
    return Table("gain", title, columns, rows, _notes(result), keys=3, section="Where a gain came from", folded=True)


def _notes(result: Result) -> list[str]:
    groups = "; ".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items())
    return [
        f"What {result.reference}'s own samples pay for a feature, within prompts, times how much more of it the "
        "model's responses have (Oaxaca-Blinder); the parts of features that go together are Shapley values. Rest: "
        "what no feature explains.",
        f"{groups.replace('_', ' ')}. A part is not there where the reference's samples hardly differ in it.",
        "value [low, high]: a bootstrap over prompts, and seeds where there are several, with the prices refitted in "
        "each resample. A share is given where the interval of the gain excludes 0.",
        *_verdict_notes(result),
        *(f"Not split: {m['reason']}." for m in result.metrics.get("missing", []) if m["metric"] == "gain"),
    ]


def _verdict_notes(result: Result) -> list[str]:
    judged = list(_judged(result))
    if not judged:
        return []
    unsplit = [f"Win rate by {name}, {one['model']}: {one['reason']}." for name, one in judged if "reason" in one]
    return [
        f"A win rate's gain is the win rate against {result.reference} less one half, and its prices are those of a "
        "regression of the verdicts on the differences of both responses' features; the rest is its intercept.",
        *unsplit,
    ]
