"""How many prompts a difference that the user names would need: between two results, or between the models of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from rlhf_bench.errors import UnknownName
from rlhf_bench.report.result import load_result
from rlhf_bench.scorers import METRICS, describe
from rlhf_bench.stats import FloatArray, prompts_needed
from rlhf_bench.stats.resample import is_constant, nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import score_table


def needed_text(differences: FloatArray, size: float) -> str:
    """(S, P) differences of two models -> how many prompts show one of `size`, or why no number does."""
    needed = prompts_needed(differences, size)
    if needed is not None:
        return f"{needed:,}"
    there = differences[np.isfinite(differences)]
    if len(there) < 2 or is_constant(there):
        return "not known, since the prompts do not differ"
    return "no number of prompts: more seeds"


def prompts_for(result: Path, differences: Mapping[str, float]) -> Iterator[str]:
    """A line a metric (metric -> size), with how many prompts each pair of the result's models needs.

    Raises StoreError where the folder is no result, UnknownName for a metric that it does not have.
    """
    scores = load_result(result).scores
    known = [c for c in map(str, scores.columns) if c in METRICS or c.startswith(("gold_", "reward:"))]
    for metric, size in differences.items():
        if metric not in known or describe(metric).kind not in ("mean", "share"):
            raise UnknownName("metric of the result", metric, known)
        table = score_table(scores, [metric])
        cells = {m: nanmean(table.block(m, metric), axis=2) for m in table.models if m not in ANCHORS}
        found = "; ".join(
            f"{b} - {a} {needed_text(cells[b] - cells[a], size)}"
            for a, b in combinations(cells, 2)
            if np.isfinite(cells[b] - cells[a]).any()
        )
        yield f"prompts that show a difference of {size:g} in {metric} with 80 % power at p < 0.05: {found}"
