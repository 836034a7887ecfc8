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
    """A judge that decides by a rule. `column` names the scores.parquet column that it needs, None if it needs none."""

    name: str
    column: str | None
    rule: Callable[[PairComparison, Order, tuple[float, float], int], float]  # above 0: the model is better
    score: Callable[[Single, float, int], float]  # of a response alone, with its value of `column`; higher is better

    def decide(
        self, comparison: PairComparison, order: Order, scores: tuple[float, float], *, repeat: int = 0
    ) -> ParsedAnswer:
        """The reading of one question; the same arguments give the same one, whatever came before.

        `scores` are the values of `column` for the model's response and the baseline's; a value that is missing (NaN)
        gives a reading that is unreadable. `repeat` matters to `random` alone. Two equal texts are a tie, whatever the
        rule.
        """
        if comparison.model_response == comparison.baseline_response:
            return ParsedAnswer("read", winner="tie", soft=0.5)
        lead = self.rule(comparison, order, scores, 1_000_003 * repeat)
        if math.isnan(lead):
            return ParsedAnswer("unreadable", note=f"no {self.column} for one of the responses")
        if lead == 0:
            return ParsedAnswer("read", winner="tie", soft=0.5)
        first = (lead > 0) == (order == "model_first")
        return ParsedAnswer("read", winner="first" if first else "second", soft=float(first))


def _by_score(comparison: PairComparison, order: Order, scores: tuple[float, float], seed: int) -> float:
    model, baseline = scores
    return 0.0 if model == baseline else model - baseline  # two infinities are a tie


def _by_length(comparison: PairComparison, order: Order, scores: tuple[float, float], seed: int) -> float:
    """Characters, without the white space around them."""
    return float(len(comparison.model_response.strip()) - len(comparison.baseline_response.strip()))


def _by_chance(comparison: PairComparison, order: Order, scores: tuple[float, float], seed: int) -> float:
    """A coin of each question's own: a bit of the hash of the texts in their order and the seed."""
    texts = (comparison.model_response, comparison.baseline_response)
    first, second = texts if order == "model_first" else texts[::-1]
    digest = hashlib.sha256(repr((seed, comparison.prompt, first, second)).encode()).digest()
    first_wins = digest[0] < 128
    return 1.0 if first_wins == (order == "model_first") else -1.0


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
    text = repr((seed, single.prompt_id, single.seed, single.sample, single.model, single.response))
    return float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))


BUILTIN: Mapping[str, BuiltinJudge] = MappingProxyType(
    {
        judge.name: judge
        for judge in (
            BuiltinJudge("reward", "reward", _by_score, _column),
            BuiltinJudge("gold", "gold", _by_score, _column),
            BuiltinJudge("length", None, _by_length, _characters),
            BuiltinJudge("random", None, _by_chance, _drawn),
        )
    }
)


def rule_of(judge: str, folder: Path) -> tuple[BuiltinJudge, Mapping[ResponseKey, float]]:
    """A built-in judge, and the scores that it needs, if any. Raises StoreError."""
    rule = BUILTIN[judge]
    return rule, response_scores(folder, rule.column) if rule.column else {}


def key_of(single: Single) -> ResponseKey:
    return single.model, single.seed, single.prompt_id, single.sample
