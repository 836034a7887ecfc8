"""How varied a response is, how much it repeats itself, and how much of its prompt it copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlhf_bench.scorers.base import AlarmRule, Columns, EvalContext, Metric, ResponseRow, Scorer
from rlhf_bench.scorers.text import copied_share, distinct_n, repetition


class DiversityScorer(Scorer):
    order = 60
    metrics = (
        Metric(
            "distinct1", "Distinct-1", "share", True, 3, "distinct words of a response; falls with its length",
            bounds=(0.0, 1.0), tables={"summary": 80, "per_seed": 80}, expected=True,
        ),
        Metric(
            "distinct2", "Distinct-2", "share", True, 3, "distinct pairs of words of a response; falls with its length",
            bounds=(0.0, 1.0),
            alarm=AlarmRule("distinct-2", -1, "its responses may repeat themselves, or be longer", least=0.02),
            tables={"summary": 81, "per_seed": 81}, expected=True,
        ),
        Metric(
            "repetition", "Repetition", "share", False, 3, "4-grams of words that repeat an earlier one",
            bounds=(0.0, 1.0), alarm=AlarmRule("repetition", 1, "its responses may loop", least=0.02),
            tables={"summary": 82, "per_seed": 82}, expected=True,
        ),
        Metric(
            "copied", "Copied", "share", None, 3, "4-grams of words that are in the prompt as well",
            bounds=(0.0, 1.0),
            alarm=AlarmRule("copied prompts", 1, "its responses may repeat the prompt, not answer it", least=0.05),
        ),
    )  # fmt: skip

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        return {
            "distinct1": np.array([distinct_n(row.response, 1) for row in rows]),
            "distinct2": np.array([distinct_n(row.response, 2) for row in rows]),
            "repetition": np.array([repetition(row.response) for row in rows]),
            "copied": np.array([copied_share(row.response, row.prompt) for row in rows]),
        }


SCORER = DiversityScorer()
