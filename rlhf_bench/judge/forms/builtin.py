"""Judges without API calls: `reward`, `gold`, `length` and `random`, for a first try and as known truths in tests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy.stats import rankdata

from rlhf_bench.judge.questions import Order, PairComparison, ParsedAnswer, Single
from rlhf_bench.judge.results import ResponseKey, response_scores
from rlhf_bench.stats import FloatArray

BUILT_IN = "built in"  # the server of a judge without API calls, in tables and judge.json


@dataclass(frozen=True, slots=True)
class BuiltinJudge:
    """A judge that gives each response a number, the better the higher.

    `column` names the scores.parquet column that it needs, None if it needs none.
    """

    name: str
    column: str | None
    score: Callable[[Single, float, int], float]  # of a response with its value of `column`; the seed of a coin

    def decide(
        self, comparison: PairComparison, order: Order, scores: tuple[float, float], *, repeat: int = 0
    ) -> ParsedAnswer:
        """The reading of one question; the same arguments give the same one, whatever came before.

        `scores` are the values of `column` for the model's response and the baseline's; a value that is missing (NaN)
        gives a reading that is unreadable. `repeat` matters to `random` alone. Two equal texts are a tie, whatever the
        judge.
        """
        c = comparison
        places = (0, 1) if order == "model_first" else (1, 0)
        sides = zip((c.model, c.baseline), (c.model_response, c.baseline_response), scores, places, strict=True)
        model, baseline = (
            self.score(Single(c.prompt_id, c.prompt, c.seed, c.sample, name, text), score, coin(repeat, place))
            for name, text, score, place in sides
        )
        same = c.model_response == c.baseline_response
        if not same and (math.isnan(model) or math.isnan(baseline)):
            return ParsedAnswer("unreadable", note=f"no {self.column} for one of the responses")
        if same or model == baseline:
            return ParsedAnswer("read", winner="tie", soft=0.5)
        first = (model > baseline) == (order == "model_first")
        return ParsedAnswer("read", winner="first" if first else "second", soft=float(first))


def coin(repeat: int, question: int = 0) -> int:
    """A seed of each repeat, and of the questions about one response."""
    return 1_000_003 * repeat + question


def rate_by_rank(scores: FloatArray, *, low: int, high: int) -> FloatArray:
    """(N,) scores of all responses of one seed -> (N,) whole ratings: every rating to an equal share of the responses.

    Equal scores get the same rating; NaN stays NaN.
    """
    ratings = np.full(scores.shape, np.nan)
    there = ~np.isnan(scores)
    share = (rankdata(scores[there]) - 0.5) / max(1, int(there.sum()))
    ratings[there] = low + np.floor(share * (high - low + 1))
    return ratings


def _column(single: Single, score: float, seed: int) -> float:
    return score


def _characters(single: Single, score: float, seed: int) -> float:
    return float(len(single.response.strip()))


def _drawn(single: Single, score: float, seed: int) -> float:
    text = repr((seed, single.prompt, single.seed, single.sample, single.response))
    return float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))


BUILTIN: Mapping[str, BuiltinJudge] = MappingProxyType(
    {
        judge.name: judge
        for judge in (
            BuiltinJudge("reward", "reward", _column),
            BuiltinJudge("gold", "gold", _column),
            BuiltinJudge("length", None, _characters),
            BuiltinJudge("random", None, _drawn),
        )
    }
)


def rule_of(judge: str, folder: Path) -> tuple[BuiltinJudge, Mapping[ResponseKey, float]]:
    """A built-in judge, and the scores that it needs, if any. Raises StoreError."""
    rule = BUILTIN[judge]
    return rule, response_scores(folder, rule.column) if rule.column else {}


def key_of(single: Single) -> ResponseKey:
    return single.model, single.seed, single.prompt_id, single.sample
