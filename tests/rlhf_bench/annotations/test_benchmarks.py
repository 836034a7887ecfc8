"""Judgments of Arena-Hard and MT-Bench: their numbers by hand, and rows that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.annotations.alpaca import annotations_text
from rlhf_bench.errors import DataError


def table(tmp_path: Path, rows: list[dict[str, Any]]) -> list[list[str]]:
    path = tmp_path / "judgments.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [line.split() for line in annotations_text(path).splitlines()]


def arena(question: int, *scores: str | None, model: str = "mine") -> dict[str, Any]:
    return {"question_id": f"q{question}", "model": model, "judge": "gpt-4", "games": [{"score": s} for s in scores]}


def test_arena_hard_worked_by_hand(tmp_path: Path) -> None:
    """The model is B in game 1 and A in game 2. Question 1: B>A (won, 1) and A>>B (won, 3): 4 of 4; question 2: A>B
    (lost, 1) and A=B (half, 1): .5 of 2; question 3: A>>B (lost, 3) and B>A (lost, 1): 0 of 4; question 4: A>B (lost,
    1) and a game without a verdict: 0 of 1. 4.5 of 11 = 40.91 %."""
    rows = [arena(1, "B>A", "A>>B"), arena(2, "A>B", "A=B"), arena(3, "A>>B", "B>A"), arena(4, "A>B", None)]
    title, header, line, *notes = table(tmp_path, rows)
    assert title[0] == "Arena-Hard:"
    assert header[0] == "model"
    assert (line[0], line[1], line[-2:]) == ("mine", "40.91", ["4", "7"])
    assert "games left out: 1 (row 4 has the score None in game 2" in " ".join(notes[0])


def test_mt_bench_scores_worked_by_hand(tmp_path: Path) -> None:
    """Turn 1: 8 and 6, mean 7; turn 2: 5 and none; both: ((8 + 5) / 2 + 6) / 2 = 6.25 over questions."""
    scores = [(1, 1, 8), (1, 2, 5), (2, 1, 6), (2, 2, -1)]
    rows = [{"question_id": q, "model": "m", "judge": ["gpt-4"], "turn": t, "score": s} for q, t, s in scores]
    _, _, line, note = table(tmp_path, rows)
    numbers = [word for word in line if "[" not in word and "]" not in word]
    assert numbers == ["m", "7.00", "5.00", "6.25", "2", "3"]
    assert "row 4 has the score -1" in " ".join(note)


def test_mt_bench_pairs_worked_by_hand(tmp_path: Path) -> None:
    """Won in both orders, won in one (a tie), lost in both: (1 + .5 + 0) / 3 = 50 % for each."""
    winners = [("model_1", "model_1"), ("model_1", "model_2"), ("model_2", "model_2"), ("error", "model_1")]
    rows = [
        {"question_id": i, "model_1": "a", "model_2": "b", "g1_winner": one, "g2_winner": two}
        for i, (one, two) in enumerate(winners)
    ]
    _, _, a, b, note = table(tmp_path, rows)
    assert (a[0], a[1], a[-3:]) == ("a", "50.00", ["1", "1", "1"])
    assert b[0] == "b"
    assert "row 4 has the winner 'error'" in " ".join(note)


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row is left"):
        table(tmp_path, [arena(1, "A?B", None)])
