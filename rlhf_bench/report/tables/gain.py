"""Where each model's gain over the reference came from."""

from __future__ import annotations

from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, estimate_of
from rlhf_bench.scorers import describe
from rlhf_bench.scorers.style import GROUPS
from rlhf_bench.types import Estimate

__all__ = ["gain_table"]

WHOLE = "gain"


def gain_table(result: Result) -> Table:
    """A row a (reward, model, part), the whole gain first; without rows where the result has no split."""
    columns = [
        Column("metric", "Reward"), Column("model", "Model"), Column("part", "Part"),
        Column("value", "Gained", 3, interval=True), Column("share", "Share of the gain", 2, interval=True),
    ]  # fmt: skip
    rows = [row for split in result.metrics.get("gain", []) for row in _rows(split)]
    title = f"Where the gains over {result.reference} came from, on {result.data_label}"
    return Table("gain", title, columns, rows, _notes(result), keys=3, section="Where a gain came from", folded=True)


def _rows(split: dict[str, Any]) -> list[list[Cell]]:
    key: list[Cell] = [describe(split["metric"]).title, split["model"]]
    parts: list[list[Cell]] = [
        [*key, part, Estimate.from_dict(value), estimate_of(split["shares"].get(part))]
        for part, value in split["parts"].items()
    ]
    return [[*key, WHOLE, Estimate.from_dict(split["gain"]), None], *parts]


def _notes(result: Result) -> list[str]:
    groups = "; ".join(f"{group}: {', '.join(names)}" for group, names in GROUPS.items())
    return [
        f"What {result.reference}'s own samples pay for a feature, within prompts, times how much more of it the "
        "model's responses have (Oaxaca-Blinder); the parts of features that go together are Shapley values. Rest: "
        "what no feature explains.",
        f"{groups.replace('_', ' ')}. A part is not there where the reference's samples hardly differ in it.",
        "value [low, high]: a bootstrap over prompts, and seeds where there are several, with the prices refitted in "
        "each resample. A share is given where the interval of the gain excludes 0.",
        *(f"Not split: {m['reason']}." for m in result.metrics.get("missing", []) if m["metric"] == "gain"),
    ]
