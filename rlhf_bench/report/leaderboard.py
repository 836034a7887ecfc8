"""Models of several runs on the same prompts as one ranking, where suite, version and data agree.

Gold rewards are comparable between runs; learned rewards only where every run was scored by the same reward models.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from rlhf_bench.evaluate.score_table import score_table
from rlhf_bench.report.notes import toy_note
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.scorers import describe
from rlhf_bench.stats import FloatArray, crossed_difference, holm
from rlhf_bench.stats.resample import nanmean
from rlhf_bench.types import Estimate

__all__ = ["leaderboards", "ranks"]

_MOST = 20  # entries of a leaderboard: every pair of them is tested


class Entry(NamedTuple):
    run: str
    model: str
    estimate: Estimate
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    values: FloatArray  # (S, P): the mean over samples


def leaderboards(results: Sequence[Result]) -> list[Table]:
    """A table for each suite and data set of which there are two runs or more, and a number that they share."""
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
    surely lower. `differs` holds the pairs that a test tells apart.
    """
    higher, lower = [0] * len(values), [0] * len(values)
    for a, b in differs:
        better, worse = (a, b) if values[a] > values[b] else (b, a)
        higher[worse] += 1
        lower[better] += 1
    return [(1 + up, len(values) - down) for up, down in zip(higher, lower, strict=True)]


def _board(group: Sequence[Result]) -> Table | None:
    metric = _common_metric(group)
    entries = [entry for result in group for entry in _entries(result, metric)] if metric else []
    entries = sorted(entries, key=lambda entry: -entry.estimate.value)
    if metric is None or len(entries) < 2:
        return None
    shown = entries[:_MOST]
    found = ranks([entry.estimate.value for entry in shown], _told_apart(shown))
    rows: list[list[Cell]] = [
        [f"{low}-{high}" if low < high else str(low), entry.model, entry.run, entry.estimate, len(entry.seeds)]
        for (low, high), entry in zip(found, shown, strict=True)
    ]
    about = describe(metric)
    columns = [Column("rank", "Rank"), Column("model", "Model"), Column("run", "Run"),
               Column(metric, about.title, about.digits, interval=True), Column("seeds", "Seeds")]  # fmt: skip
    notes = [
        "Rank: from 1 plus the number of entries that are surely higher, to the number that are not surely lower "
        "(paired tests on the same prompts, Holm over all pairs, 5 %). Runs with seeds in common are paired by seed; "
        "others by the mean over their seeds, which leaves out how much retraining changes.",
        *(f"{line} ({result.manifest['run']})" for result in group for line in toy_note(result)),
        *([f"The first {_MOST} of {len(entries)} entries."] if len(entries) > _MOST else []),
    ]
    suite = group[0].manifest["suite"]
    return Table("leaderboard", f"Leaderboard: {suite} on {group[0].data_label}", columns, rows, notes, keys=3)


def _common_metric(group: Sequence[Result]) -> str | None:
    if all(result.has_gold for result in group):
        return "gold"
    models = {tuple(entry.get("hash") for entry in result.manifest.get("reward_model") or []) for result in group}
    same = len(models) == 1 and all(models.pop())
    return "reward" if same and all(result.has("reward") for result in group) else None


def _entries(result: Result, metric: str) -> list[Entry]:
    table = score_table(result.scores, [metric])
    run = str(result.manifest["run"])
    found = [(model, result.estimate(model, metric)) for model in result.policies if model in table.models]
    return [
        Entry(
            run, model, estimate, tuple(table.seeds), tuple(table.prompts), nanmean(table.block(model, metric), axis=2)
        )
        for model, estimate in found
        if known(estimate)
    ]


def _told_apart(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """The pairs of entries whose difference on the same prompts is significant, Holm over all pairs, at 5 %."""
    pairs = list(combinations(range(len(entries)), 2))
    p_values = [_p_paired(entries[a], entries[b]) for a, b in pairs]
    return [pair for pair, p in zip(pairs, holm(p_values), strict=True) if p < 0.05]


def _p_paired(a: Entry, b: Entry) -> float:
    """NaN where fewer than two prompts are in both."""
    prompts = [prompt for prompt in a.prompts if prompt in set(b.prompts)]
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    sides = []
    for entry in (a, b):
        at = {prompt: number for number, prompt in enumerate(entry.prompts)}
        values = entry.values[:, [at[prompt] for prompt in prompts]]
        rows = [entry.seeds.index(seed) for seed in seeds]
        sides.append(values[rows] if seeds else nanmean(values, axis=0)[None])
    return float(crossed_difference(*sides).p_paired) if len(prompts) > 1 else float("nan")
