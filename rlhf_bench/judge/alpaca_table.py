"""AlpacaEval's annotations.json as a table: its own numbers for each model, and ours at equal length beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.judge.alpaca import alpaca_numbers, read_annotations
from rlhf_bench.judge.length import EqualLength, equal_length_win_rates
from rlhf_bench.types import prompt_id

__all__ = ["annotations_text"]

Rows = Sequence[Mapping[str, Any]]


def annotations_text(path: Path, *, seed: int = 0) -> str:
    """A line a model (generator_2) against its baseline (generator_1), in the order of the file.

    win_rate, standard_error and the counts are AlpacaEval 2's, in percent. The rate at equal length is that of
    `equal_length_win_rates`, not AlpacaEval's; a file without the outputs has none. Raises DataError.
    """
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in read_annotations(path):
        model, baseline = str(row.get("generator_2", "model")), str(row.get("generator_1", "baseline"))
        pairs.setdefault((baseline, model), []).append(row)
    at_equal = {
        baseline: _at_equal_length({model: rows for (b, model), rows in pairs.items() if b == baseline}, baseline, seed)
        for baseline in dict.fromkeys(b for b, _ in pairs)
    }
    lines, warnings = [_line(HEADER)], []
    for (baseline, model), rows in pairs.items():
        n, equal = alpaca_numbers(rows), at_equal[baseline].get(model)
        rates = [f"{x:.2f}" for x in (n.win_rate, n.standard_error, n.discrete_win_rate)]
        counts = [str(x) for x in (n.n_wins, n.n_wins_base, n.n_draws, n.n_total, n.n_dropped)]
        lines.append(_line([model, baseline, *rates, *counts, _interval(equal)]))
        if equal is not None and equal.warning:
            warnings.append(f"{model}: {equal.warning}")
    told = "at equal length: by a regression of our own, not AlpacaEval's; - where the file has no outputs"
    return "\n".join([*lines, told, *warnings])


HEADER = ["model", "baseline", "win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws",
          "n_total", "n_dropped", "at equal length"]  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    widths = [max(len(title), 12) for title in HEADER]
    padded = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()


def _interval(found: EqualLength | None) -> str:
    if found is None:
        return "-"
    value, low, high = (100 * x for x in (found.win_rate.value, found.win_rate.low, found.win_rate.high))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _at_equal_length(by_model: Mapping[str, Rows], baseline: str, seed: int) -> dict[str, EqualLength]:
    """model -> its rate; empty where no preference stands beside both outputs."""
    frame = pd.DataFrame([_pair(row, model, baseline) for model, rows in by_model.items() for row in rows])
    frame = frame.dropna(subset=["outcome", "model_length", "baseline_length"])
    if frame.empty:
        return {}
    return {found.model: found for found in equal_length_win_rates(frame, baseline=baseline, seed=seed)}


def _pair(row: Mapping[str, Any], model: str, baseline: str) -> dict[str, Any]:
    given = row.get("preference")
    known = isinstance(given, int | float) and not isinstance(given, bool) and (given == 0 or 1 <= given <= 2)
    lengths = [len(text) if isinstance(text := row.get(key), str) else None for key in ("output_2", "output_1")]
    return {
        "model": model,
        "baseline": baseline,
        "seed": 0,
        "prompt_id": prompt_id(str(row.get("instruction", ""))),
        "sample": 0,
        "outcome": (given - 1 if given else 0.5) if known and given is not None else None,
        "model_length": lengths[0],
        "baseline_length": lengths[1],
    }
