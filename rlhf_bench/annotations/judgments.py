"""Judgments of Arena-Hard and MT-Bench as tables: the benchmarks' own numbers, each with an interval over questions.

    Arena-Hard   a row a question: model, games (two, of which the model is B in the first and A in the second), score
                 A>>B, A>B, A=B, B>A or B>>A. A verdict of >> counts three times, as in Arena-Hard.
    MT-Bench     a row a question and turn: model, score (1 to 10; -1: the judge gave none), turn
                 or a pair: model_1, model_2, g1_winner, g2_winner. A model wins a pair that it wins in both orders.

What AlpacaEval's annotations hold is in alpaca.py. A row that cannot be read is left out, counted and named; of
Arena-Hard's, as there, only the game.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlhf_bench.annotations.cells import as_number, percent, text_table
from rlhf_bench.data.tabular import NAMED, RawTable, Unusable
from rlhf_bench.stats import mean_estimate, ratio_estimate
from rlhf_bench.types import Estimate

Row = Mapping[str, Any]
STRONG = 3.0  # what a verdict of >> counts
_GAME = {"A>>B": (1.0, STRONG), "A>B": (1.0, 1.0), "A=B": (0.5, 1.0), "B>A": (0.0, 1.0), "B>>A": (0.0, STRONG)}
_WINNERS = ("model_1", "model_2", "tie")


_Said = tuple[list[tuple[Any, ...]], list[str]]  # what one row says, and what of it is left out
_Line = tuple[str | Estimate | int, ...]  # of a table


class _Form(NamedTuple):
    what: str
    needed: frozenset[str]
    read: Callable[[Row], _Said]
    columns: tuple[str, ...]  # of what rows say
    lines: Callable[[pd.DataFrame], Iterable[_Line]]
    header: tuple[str, ...]
    scale: float  # of the numbers


def judgments_text(table: RawTable) -> str | None:
    """The table of a file of judgments; None for a file of another kind. Raises DataError where no row can be read."""
    form = next((form for form in _FORMS if form.needed <= {*table.columns}), None)
    if form is None:
        return None
    read = table.read(lambda _, row: form.read(row))
    found = pd.DataFrame([one for _, (rows, _) in read for one in rows], columns=list(form.columns))
    parts = [f"row {number} {why}" for number, (_, lost) in read for why in lost]
    left_out = table.settle(skip=True)
    cells = ((percent(c, form.scale) if isinstance(c, Estimate) else c for c in line) for line in form.lines(found))
    text = text_table([dict(zip(form.header, line, strict=True)) for line in cells])
    notes = [left_out] if left_out else []
    if parts:
        more = f"; and {len(parts) - NAMED:,} more" if len(parts) > NAMED else ""
        notes.append(f"games left out: {len(parts):,} ({'; '.join(parts[:NAMED])}{more})")
    return "\n".join([form.what, text, *notes])


def _arena_hard(row: Row) -> _Said:
    question, games = row.get("question_id", row.get("uid")), row["games"]
    if not isinstance(games, list) or not games or question is None or not row.get("model"):
        raise Unusable("has no question, model or games")
    found: list[tuple[Any, ...]] = []
    lost = []
    for place, game in enumerate(games):
        score = game.get("score") if isinstance(game, Mapping) else None
        if score not in _GAME:
            lost.append(f"has the score {score!r} in game {place + 1}, expected {', '.join(_GAME)}")
            continue
        first, weight = _GAME[score]
        found.append((str(row["model"]), str(question), 1 - first if place == 0 else first, weight))
    if not found:
        raise Unusable(lost[0])
    return found, lost


def _arena_lines(games: pd.DataFrame) -> Iterator[_Line]:
    """Weighted share of wins over the baseline: what Arena-Hard's Bradley-Terry fit gives for each model beside it."""
    for model, mine in games.groupby("model", sort=False):
        won = mine["weight"] * mine["outcome"]
        sums = mine.assign(won=won).groupby("question", sort=False)[["won", "weight"]].sum()
        yield str(model), ratio_estimate(*sums.to_numpy(dtype=np.float64).T), len(sums), len(mine)


def _mt_single(row: Row) -> _Said:
    score, turn = as_number(row.get("score")), as_number(row.get("turn"))
    if not 0 <= score <= 10:
        why = "which means no score" if score == -1 else "expected 1 to 10"
        raise Unusable(f"has the score {row.get('score')!r}, {why}")
    if turn not in (1, 2) or row.get("question_id") is None or not row.get("model"):
        raise Unusable(f"has the turn {row.get('turn')!r} of {row.get('question_id')!r}, expected 1 or 2 of a question")
    return [(str(row["model"]), str(row["question_id"]), int(turn), score)], []


def _mt_single_lines(scores: pd.DataFrame) -> Iterator[_Line]:
    for model, mine in scores.groupby("model", sort=False):
        parts = (mine[mine["turn"] == 1], mine[mine["turn"] == 2], mine)
        means = (_over_questions(part, "score") for part in parts)
        yield str(model), *means, mine["question"].nunique(), len(mine)


def _mt_pair(row: Row) -> _Said:
    given = [row.get(name) for name in ("g1_winner", "g2_winner")]
    wrong = next((one for one in given if one not in _WINNERS), None)
    if wrong is not None or None in given:
        raise Unusable(f"has the winner {wrong!r}, expected {', '.join(_WINNERS)}")
    if not row.get("model_1") or not row.get("model_2") or row.get("question_id") is None:
        raise Unusable("has no question or no models")
    winner = given[0] if given[0] == given[1] else "tie"
    outcome = {"model_1": 1.0, "tie": 0.5, "model_2": 0.0}[str(winner)]
    question = str(row["question_id"])
    return [(str(row["model_1"]), question, outcome), (str(row["model_2"]), question, 1 - outcome)], []


def _mt_pair_lines(outcomes: pd.DataFrame) -> Iterator[_Line]:
    for model, mine in outcomes.groupby("model", sort=False):
        counts = (int((mine["outcome"] == outcome).sum()) for outcome in (1.0, 0.5, 0.0))
        yield str(model), _over_questions(mine, "outcome"), *counts


def _over_questions(rows: pd.DataFrame, column: str) -> Estimate:
    return mean_estimate(rows.groupby("question", sort=False)[column].mean().to_numpy(dtype=np.float64))


_FORMS = (
    _Form(
        "Arena-Hard: win rate against its baseline in percent, a verdict of >> counted three times, 95 % interval over "
        "questions", frozenset({"games", "model"}), _arena_hard,
        ("model", "question", "outcome", "weight"), _arena_lines,
        ("model", "win rate", "questions", "games"), 100.0,
    ),
    _Form(
        "MT-Bench: mean scores, 95 % interval over questions", frozenset({"question_id", "model", "score", "turn"}),
        _mt_single, ("model", "question", "turn", "score"), _mt_single_lines,
        ("model", "turn 1", "turn 2", "both", "questions", "scores"), 1.0,
    ),
    _Form(
        "MT-Bench: win rate in percent, ties one half, 95 % interval over questions",
        frozenset({"question_id", "model_1", "model_2", "g1_winner", "g2_winner"}), _mt_pair,
        ("model", "question", "outcome"), _mt_pair_lines,
        ("model", "win rate", "wins", "ties", "losses"), 100.0,
    ),
)  # fmt: skip
