"""The scores of a result's responses: what built-in judges decide by, and labels that a judge is held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from rlhf_bench.errors import StoreError
from rlhf_bench.judge.builtin import BUILTIN, BuiltinJudge
from rlhf_bench.store import ResultStore

__all__ = ["ResponseKey", "known_scores", "response_scores", "rule_of"]

ResponseKey: TypeAlias = tuple[str, int, str, int]  # model, seed, prompt id, sample


def response_scores(folder: Path, column: str) -> Mapping[ResponseKey, float]:
    """The column of scores.parquet, by response. Raises StoreError where the result has no such scores."""
    table = ResultStore(folder).read_scores()
    if column not in table.columns:
        raise StoreError(f"{folder} has no {column} scores, which this judge needs; use another judge, such as length")
    keys = zip(table["model"], table["seed"], table["prompt_id"], table["sample"], strict=True)
    return {
        (str(model), int(seed), str(prompt), int(sample)): float(value)
        for (model, seed, prompt, sample), value in zip(keys, table[column], strict=True)
    }


def rule_of(judge: str, folder: Path) -> tuple[BuiltinJudge, Mapping[ResponseKey, float]]:
    """A judge that asks nobody, and the scores that it goes by: none where it needs none. Raises StoreError."""
    rule = BUILTIN[judge]
    return rule, response_scores(folder, rule.column) if rule.column else {}


def known_scores(folder: Path, column: str) -> Mapping[ResponseKey, float]:
    """As `response_scores`; empty where the result has none."""
    try:
        return response_scores(folder, column)
    except StoreError:
        return {}
