"""Reasons that stand below a table are about rows that it has."""

from __future__ import annotations

from rlhf_bench.evaluate.missing import missing_of_texts


def test_nothing_is_said_of_reference_texts_that_are_not_there() -> None:
    alone = missing_of_texts([], ["chosen"])  # a file's reference texts, without rejected ones
    assert alone["chosen", "ended"] == "a file's reference texts: nothing says how they ended"
    none = missing_of_texts([], [])  # a suite's own prompts
    assert {model for model, _ in none} == {"all"}
    assert missing_of_texts([], ["chosen", "rejected"]) == {}
