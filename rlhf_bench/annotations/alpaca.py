"""AlpacaEval's annotations.json as a table: its own numbers for each model, and ours at equal length beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.annotations.cells import percent, preference_of, text_table, zero_one_note
from rlhf_bench.annotations.judgments import judgments_text
from rlhf_bench.annotations.length_controlled import Difficulty, length_controlled, read_difficulty, stored_rate
from rlhf_bench.data.tabular import read_table
from rlhf_bench.errors import DataError
from rlhf_bench.judge.analysis.length import EqualLength, equal_length_win_rates
from rlhf_bench.types import prompt_id


def alpaca_numbers(annotations: Iterable[Mapping[str, Any]]) -> dict[str, float | int]:
    """The columns of AlpacaEval's leaderboard, under its names, of rows with a `preference` in [1, 2]: 1 the baseline
    wins, 2 the model, 1.5 (or 0) a draw. Rates are in percent.

        win_rate = 100 mean(preference - 1)      standard_error = 100 sd(preference, ddof 1) / sqrt(n)

    A preference of any other value, or null, is dropped, as AlpacaEval does, and counted; the standard error
    of fewer than two is NaN. discrete_win_rate rounds each preference to a win, a loss or a draw. Raises DataError
    where a row has no such key.
    """
    given = []
    for number, row in enumerate(annotations, 1):
        if "preference" not in row:
            raise DataError(f"annotation {number} has no 'preference'; expected AlpacaEval's annotations.json")
        given.append(preference_of(row["preference"]))
    valid = np.array([value for value in given if value is not None], dtype=np.float64)
    n = len(valid)
    wins, losses = int((valid > 1.5).sum()), int((valid < 1.5).sum())
    draws = n - wins - losses
    return {
        "win_rate": 100 * float(valid.mean() - 1) if n else math.nan,
        "standard_error": 100 * float(valid.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
        "discrete_win_rate": 100 * (wins + draws / 2) / n if n else math.nan,
        "n_wins": wins,
        "n_wins_base": losses,
        "n_draws": draws,
        "n_total": n,
        "n_dropped": len(given) - n,
    }


Rows = Sequence[Mapping[str, Any]]


def annotations_text(path: Path, *, difficulty: Sequence[Path] = (), seed: int = 0) -> str:
    """A line a model (generator_2) against its baseline (generator_1), in the order of the file.

    win_rate, standard_error and the counts are AlpacaEval 2's, in percent. So is length_controlled_winrate, with files
    of `difficulty` (see `read_difficulty`), or where AlpacaEval has left its predictions in the file. The rate at equal
    length is that of `equal_length_win_rates`, not AlpacaEval's; a file without the outputs has none. Judgments of
    Arena-Hard and MT-Bench become a table of theirs (judgments.py). Raises DataError.
    """
    table = read_table(path)
    if not difficulty and (text := judgments_text(table)) is not None:
        return text
    table.settle(skip=False)
    if "preference" not in table.columns:
        raise DataError(
            f"{str(path)!r} has the columns {', '.join(table.columns) or 'none'} and lacks preference; expected "
            "AlpacaEval's annotations.json, or judgments of Arena-Hard or MT-Bench"
        )
    known = read_difficulty(difficulty) if difficulty else None
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for _, row in table.rows:
        model, baseline = str(row.get("generator_2", "model")), str(row.get("generator_1", "baseline"))
        pairs.setdefault((baseline, model), []).append(row)
    at_equal = {
        baseline: _at_equal_length({model: rows for (b, model), rows in pairs.items() if b == baseline}, baseline, seed)
        for baseline in dict.fromkeys(b for b, _ in pairs)
    }
    lines, warnings = [], []
    for (baseline, model), rows in pairs.items():
        equal = at_equal[baseline].get(model)
        rate = stored_rate(rows) if known is None else length_controlled(rows, known).rate
        numbers = alpaca_numbers(rows).items()
        lines.append(
            {"model": model, "baseline": baseline}
            | {name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in numbers}
            | {"LC win rate": "-" if rate is None else f"{rate:.2f}"}
            | {"at equal length": "-" if equal is None else percent(equal.win_rate)}
        )
        if equal is not None and equal.warning:
            warnings.append(f"{model}: {equal.warning}")
    if zero_one := zero_one_note(row.get("preference") for rows in pairs.values() for row in rows):
        warnings.insert(0, zero_one)
    note = "at equal length: by a regression of our own, not AlpacaEval's; - where the file has no outputs"
    return "\n".join([text_table(lines), _about_lc(known), note, *warnings])


def _about_lc(difficulty: Difficulty | None) -> str:
    if difficulty is None:
        return "LC win rate: AlpacaEval 2's, the mean of glm_preference; - without it: give --difficulty FILE"
    gamed = "" if difficulty.gamed is not None else "; without the rows of its gamed baselines (df_gamed.csv)"
    return f"LC win rate: by AlpacaEval 2's regression, with {difficulty.note}{gamed}"


def _at_equal_length(by_model: Mapping[str, Rows], baseline: str, seed: int) -> dict[str, EqualLength]:
    """model -> its rate; empty where no preference comes with both outputs."""
    frame = pd.DataFrame([_pair(row, model, baseline) for model, rows in by_model.items() for row in rows])
    frame = frame.dropna(subset=["outcome", "model_length", "baseline_length"])
    if frame.empty:
        return {}
    return {found.model: found for found in equal_length_win_rates(frame, baseline=baseline, seed=seed)}


def _pair(row: Mapping[str, Any], model: str, baseline: str) -> dict[str, Any]:
    preference = preference_of(row.get("preference"))
    lengths = [len(text) if isinstance(text := row.get(key), str) else None for key in ("output_2", "output_1")]
    return {
        "model": model,
        "baseline": baseline,
        "seed": 0,
        "prompt_id": prompt_id(str(row.get("instruction", ""))),
        "sample": 0,
        "outcome": None if preference is None else preference - 1,
        "model_length": lengths[0],
        "baseline_length": lengths[1],
    }
