"""What the paired tests of a result say, in words.

A significant difference is not transitive: ppo may differ from base, and neither from sft. So a chain of models is
written only where every pair across its signs is rejected and no pair within a group is; else a compact letter display,
in which two models share a letter where they do not differ significantly; else, where they are few or have no order,
the pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

from rlhf_bench.report.result import Result, is_rejected
from rlhf_bench.report.table import number_text
from rlhf_bench.scorers import describe

Pair = frozenset[str]
_FEW = 3  # pairs that differ significantly: so many are listed sooner than put into letters


def verdict(result: Result) -> list[str]:
    """A sentence each on the gold reward and on the learned reward, as far as pairs of models were tested by them.

    Where there is neither, there is one on the first number that was tested and has a better direction.
    """
    named = {"gold": "gold", result.reward_key: "the learned reward"}
    tested = {metric: rows for metric in named if (rows := result.pairs(metric))}
    if not tested:
        metrics = dict.fromkeys(row["metric"] for row in result.metrics.get("pairwise", []))
        first = next((m for m in metrics if describe(m).higher_is_better is not None), None)
        tested = {} if first is None else {first: result.pairs(first)}
        named = dict.fromkeys(tested, describe(first).title if first else "")
    return [f"On {named[metric]}: {'; '.join(_findings(result, rows))}." for metric, rows in tested.items()]


def _findings(result: Result, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    higher = describe(rows[0]["metric"]).higher_is_better is not False
    wins = {_ordered(row, higher) for row in rows if is_rejected(row)}
    ahead = [_ordered(row, higher)[0] for row in rows]
    names = {row[side] for row in rows for side in ("a", "b")}
    models = sorted((model for model in result.models if model in names), key=lambda model: -ahead.count(model))
    alike = {frozenset(pair) for pair in combinations(models, 2)} - {frozenset(pair) for pair in wins}
    prompts, seeds = max(row["difference"]["n"] for row in rows), len(result.seeds)
    conditions = f"Holm p < .05; {prompts} prompts, {seeds} training seed{'' if seeds == 1 else 's'}"
    power = _power(rows, alike)
    if not wins:
        return [f"no two of {', '.join(models)} can be told apart ({conditions})", *power]
    groups = _chain(models, wins, alike)
    if groups is not None:
        chain = " > ".join(", ".join(group) for group in groups)
        several = [group for group in groups if len(group) > 1]
        together = [f"{', '.join(group[:-1])} and {group[-1]} cannot be told apart" for group in several]
        return [f"{chain} ({conditions})", *together, *power]
    places = {(winner, loser): (models.index(winner), models.index(loser)) for winner, loser in wins}
    if all(winner < loser for winner, loser in places.values()) and len(wins) > _FEW:
        letters = _letters(models, alike)
        shown = ", ".join(f"{model} ({letters[model]})" for model in models)
        return [f"{shown} ({conditions})", "models that share a letter cannot be told apart", *power]
    pairs = ", ".join(f"{winner} > {loser}" for winner, loser in sorted(wins, key=lambda pair: places[pair]))
    return [f"{pairs} ({conditions})", "no other pair can be told apart", *power]


def _chain(models: Sequence[str], wins: Collection[tuple[str, str]], alike: Collection[Pair]) -> list[list[str]] | None:
    """The models in groups, best first, where every pair of two groups is rejected and none within one; else None."""
    groups: list[list[str]] = []
    for model in models:
        if groups and all(frozenset((model, other)) in alike for other in groups[-1]):
            groups[-1].append(model)
        else:
            groups.append([model])
    across = [(a, b) for better, worse in combinations(groups, 2) for a in better for b in worse]
    return groups if all(pair in wins for pair in across) else None


def _letters(models: Sequence[str], alike: Collection[Pair]) -> dict[str, str]:
    """A compact letter display: a letter for each largest set of models of which no two differ significantly."""
    sets: list[set[str]] = []
    for model in models:
        joined = [{model}] + [{model} | {m for m in found if frozenset((model, m)) in alike} for found in sets]
        sets = [found for found in [*sets, *joined] if found]
        sets = [a for i, a in enumerate(sets) if not any(a < b or (a == b and j < i) for j, b in enumerate(sets))]
    sets.sort(key=lambda found: sorted(map(models.index, found)))
    return {m: "".join(_letter(i) for i, found in enumerate(sets) if m in found) for m in models}


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"({number})"


def _power(rows: Sequence[Mapping[str, Any]], alike: Collection[Pair]) -> list[str]:
    """The largest difference that a pair without a significant one would show in 80 % of repetitions."""
    open_pairs = [row for row in rows if frozenset((row["a"], row["b"])) in alike] or rows
    sizes = [row["detectable"] for row in open_pairs if row["detectable"] is not None and row["detectable"] > 0]
    return [f"80 % power for a difference of {number_text(max(sizes), 2)}"] if sizes else []


def _ordered(row: Mapping[str, Any], higher: bool) -> tuple[str, str]:
    return (row["a"], row["b"]) if (row["difference"]["value"] > 0) == higher else (row["b"], row["a"])
