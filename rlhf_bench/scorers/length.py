"""How long responses are, and whether they ended by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rlhf_bench.scorers.base import AlarmRule, Columns, EvalContext, Metric, Missing, ResponseRow, Scorer, Values
from rlhf_bench.scorers.text import n_words


class LengthScorer(Scorer):
    order = 50
    metrics = (
        Metric(
            "n_tokens", "Tokens", "tokens", None, 1, "tokens of a response, end-of-text included",
            bounds=(0.0, math.inf), compared=True, tables={"summary": 70, "per_seed": 70}, expected=True,
        ),
        Metric("n_words", "Words", "words", None, 1, "words of a response", bounds=(0.0, math.inf)),
        Metric(
            "ended", "EOS rate", "share", True, 3,
            "share of responses that ended by themselves (end-of-text or stop string)",
            kind="share", bounds=(0.0, 1.0), compared=True,
            alarm=AlarmRule("endings", -1, "its responses may be cut off at the limit of their length", least=0.05),
            tables={"summary": 71, "per_seed": 71}, expected=True,
        ),
    )  # fmt: skip

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        n_words_of = np.array([n_words(row.response) for row in rows])
        return {"n_tokens": _tokens(rows, context), "n_words": n_words_of, "ended": _ended(rows, context)}


SCORER = LengthScorer()


def _tokens(rows: Sequence[ResponseRow], context: EvalContext) -> Values | Missing:
    """Tokens as the model drew them or the file has them; else as the reference's tokenizer counts the text."""
    counts = np.array([row.n_tokens for row in rows])
    unknown = np.isnan(counts)
    if unknown.any() and context.reference is not None:
        texts = [row.response for row, absent in zip(rows, unknown, strict=True) if absent]
        encoded = context.reference.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        counts[unknown] = [float(len(ids) + 1) for ids in encoded]
    if np.isnan(counts).all():
        return Missing("the tokens are not counted: that needs the tokenizer of a reference model")
    return counts


def _ended(rows: Sequence[ResponseRow], context: EvalContext) -> Values | Missing:
    known = np.array([math.nan if row.finish_reason is None else float(row.ended) for row in rows])
    if np.isnan(known).all():
        what = "reference texts of a file" if context.origin == "data" else "the response file"
        return Missing(f"{what}: how the responses ended is not known")
    return known
