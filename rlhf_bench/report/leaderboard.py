"""Models of several runs on the same prompts as one ranking, where suite, version and data agree.

Gold rewards are comparable between runs; learned rewards only where every run was scored by the same reward models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student_t

from rlhf_bench.report.notes import toy_lines
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.scorers import describe
from rlhf_bench.stats import FloatArray, crossed_difference, holm
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.store.score_table import score_table
from rlhf_bench.types import Estimate

_BESIDE = ("kl_exact", "n_tokens")  # shown beside the metric that ranks
_MOST = 20  # entries of a leaderboard: every pair of them is tested


class Leaderboard(NamedTuple):
    table: Table
    folders: list[Path]  # of the result of each row


class Entry(NamedTuple):
    result: Result
    model: str
    estimate: Estimate
    seeds: list[int]
    prompts: list[str]
    values: FloatArray  # (S, P): the mean over samples


def leaderboards(results: Sequence[Result]) -> list[Leaderboard]:
    """A ranking for each suite and data set of which there are two runs or more, and a number that they share."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        data = result.manifest["data"]
        key = (result.manifest["suite"], result.manifest.get("suite_version"), data.get("fingerprint"))
        if data.get("fingerprint"):
            groups.setdefault(key, []).append(result)
    boards = [_board(group) for group in groups.values() if len(group) > 1]
    return [board for board in boards if board is not None]


def ranks(values: Sequence[float], differs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first and the last rank that each entry may have: 1 plus how many are surely higher, and how many are not
    surely lower. `differs` holds the pairs that a test distinguishes.
    """
    higher, lower = [0] * len(values), [0] * len(values)
    for a, b in differs:
        better, worse = (a, b) if values[a] > values[b] else (b, a)
        higher[worse] += 1
        lower[better] += 1
    return [(1 + up, len(values) - down) for up, down in zip(higher, lower, strict=True)]


def _board(group: Sequence[Result]) -> Leaderboard | None:
    metric = _common_metric(group)
    entries = [entry for result in group for entry in _entries(result, metric)] if metric else []
    entries = sorted(entries, key=lambda entry: -entry.estimate.value)
    if metric is None or len(entries) < 2:
        return None
    shown = entries[:_MOST]
    found = ranks([entry.estimate.value for entry in shown], _different(shown))
    rows: list[list[Cell]] = [
        [
            f"{low}-{high}" if low < high else str(low),
            entry.model,
            str(entry.result.manifest["run"]),
            entry.estimate,
            *(entry.result.estimate(entry.model, name) for name in _BESIDE),
            len(entry.seeds),
        ]
        for (low, high), entry in zip(found, shown, strict=True)
    ]
    numbers = [Column(key, describe(key).title, describe(key).digits, interval=True) for key in (metric, *_BESIDE)]
    columns = [
        Column("rank", "Rank"),
        Column("model", "Model"),
        Column("run", "Run"),
        *numbers,
        Column("seeds", "Seeds"),
    ]
    notes = [
        "Rank: from 1 plus the number of entries that are surely higher, to the number that are not surely lower "
        "(paired tests on the same prompts, Holm over all pairs, 5 %). Runs with seeds in common are paired by seed; "
        "the seeds of others vary independently. Of a run with one seed it is not known how much retraining changes.",
        *(f"{line} ({result.manifest['run']})" for result in group for line in toy_lines(result.manifest)),
        *([f"The first {_MOST} of {len(entries)} entries."] if len(entries) > _MOST else []),
    ]
    suite = group[0].manifest["suite"]
    title = f"Leaderboard: {suite} on {group[0].data_label}"
    return Leaderboard(
        Table("leaderboard", title, columns, rows, notes, keys=3), [entry.result.path for entry in shown]
    )


def _common_metric(group: Sequence[Result]) -> str | None:
    if all(result.has_gold for result in group):
        return "gold"
    models = {tuple(entry.get("hash") for entry in result.manifest.get("reward_model") or []) for result in group}
    same = len(models) == 1 and all(models.pop())
    return "reward" if same and all(result.has("reward") for result in group) else None


def _entries(result: Result, metric: str) -> list[Entry]:
    table = score_table(result.scores, [metric])
    found = ((model, result.estimate(model, metric)) for model in result.policies if model in table.models)
    return [
        Entry(result, model, estimate, table.seeds, table.prompts, nanmean(table.block(model, metric), axis=2))
        for model, estimate in found
        if known(estimate)
    ]


def _different(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """The pairs of entries that differ significantly on the same prompts, Holm over all pairs, at 5 %."""
    pairs = list(combinations(range(len(entries)), 2))
    p_values = [_p_paired(entries[a], entries[b]) for a, b in pairs]
    return [pair for pair, p in zip(pairs, holm(p_values), strict=True) if p < 0.05]


def _p_paired(a: Entry, b: Entry) -> float:
    """Gives NaN where fewer than two prompts are in both."""
    prompts = [prompt for prompt in a.prompts if prompt in set(b.prompts)]
    if len(prompts) < 2:
        return math.nan
    places = [{prompt: number for number, prompt in enumerate(entry.prompts)} for entry in (a, b)]
    columns = [[place[prompt] for prompt in prompts] for place in places]
    ours, theirs = a.values[:, columns[0]], b.values[:, columns[1]]
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    if not seeds:
        return p_of_other_seeds(ours, theirs)
    rows = [[entry.seeds.index(seed) for seed in seeds] for entry in (a, b)]
    return float(crossed_difference(ours[rows[0]], theirs[rows[1]]).p_paired)


def p_of_other_seeds(a: FloatArray, b: FloatArray) -> float:
    """Two-sided p of equal means, (S, P) and (T, P), of prompts that are paired and seeds that are not.

    The variance of the difference is that of the prompts' differences over P plus, for each side of several seeds, that
    of its seeds' means over their number; Student's t with the degrees of freedom of Satterthwaite 1946. Seeds carry a
    share of the prompts' noise as well, which is counted twice: the test is conservative.
    """
    gap = nanmean(a, axis=0) - nanmean(b, axis=0)
    gap = gap[np.isfinite(gap)]
    if len(gap) < 2:
        return math.nan
    samples = [gap, *(nanmean(side, axis=1) for side in (a, b) if len(side) > 1)]
    parts = [(float(np.var(sample, ddof=1)) / len(sample), len(sample) - 1) for sample in samples]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return float(gap.mean() == 0)
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    return float(2 * student_t.sf(abs(gap.mean()) / math.sqrt(variance), freedom))
