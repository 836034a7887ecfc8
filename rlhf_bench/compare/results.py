"""Two results on the same prompts: the paired difference of every model that is in both; and how many prompts a
difference would need, between two results or between the models of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_bench.compare.compared import ComparedResults, Row, comparison_table
from rlhf_bench.compare.side import Side
from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.evaluate.summary import metric_difference
from rlhf_bench.report.notes import toy_lines
from rlhf_bench.report.result import load_result
from rlhf_bench.scorers import METRICS, describe, found_metrics
from rlhf_bench.scorers.reward import REWARD_PREFIX, add_reward_z
from rlhf_bench.stats import FloatArray, crossed_difference, prompts_needed, scaled_cells
from rlhf_bench.stats.cautions import Shown, caution_notes, near_an_end
from rlhf_bench.stats.resample import is_constant, nanmean
from rlhf_bench.store import ANCHORS
from rlhf_bench.store.score_table import BY_REFERENCE, score_table

_SETTINGS = ("temperature", "top_p", "top_k", "max_new_tokens", "stop")


def compare(a: Path, b: Path, differences: Mapping[str, float] | None = None) -> ComparedResults:
    """B minus A, paired by prompt and seed, with interval and p, and what could not be matched.

    Rewards only where reward models and data are the same, by hash; KL only where the reference is.
    Holm's p is over the models, within a metric. `differences` (metric -> size) adds how many prompts each would need.

    Raises StoreError where a folder is no result, or the two are of two versions of a suite, or have no prompt, no
    model or no seed in common; UnknownName for a difference of a metric that is not compared, BadValue for one that is
    not above 0.
    """
    left, right = Side.read(a), Side.read(b)
    _check_versions(left, right)
    seeds = _matched_seeds(left, right)
    models = [model for model in left.models if model in right.models]
    prompts = sorted(left.prompts & right.prompts)
    if not models:
        raise StoreError(f"{a} and {b} have no model in common; evaluate both with a model of the same name")
    if not prompts:
        suites = [side.manifest["suite"] for side in (left, right)]
        how = "evaluate both on the same data: --data SOURCE"
        if suites[0] != suites[1]:
            how = f"they are of the suites {suites[0]} and {suites[1]}: give two results of one suite"
        elif left.drawn_from == right.drawn_from:
            how = "evaluate both with the same --seed and --limit, which choose the prompts"
        raise StoreError(f"{a} and {b} have no prompt in common; {how}")
    metrics, left_out = _metrics(left, right, seeds)
    left_out = [f"not compared: {reason}" for reason in left_out]
    head = [*left.describe("A"), *right.describe("B"), *_matching(left, right, seeds, prompts, models), *left_out]
    frames = _with_common_reward(left, right) if "reward_z" in metrics else (left.scores, right.scores)
    rows = list(_rows(frames, seeds, models, prompts, metrics, str(left.manifest["reference"])))
    needs = []
    for metric, size in (differences or {}).items():
        of_model = {row.model: row.differences for row in rows if row.metric == metric}
        if not of_model:
            raise UnknownName("compared metric", metric, {row.metric for row in rows})
        needs.append(_needed_line(metric, size, of_model))
    return ComparedResults(comparison_table(rows, [*caution_notes(_shown(rows)), *needs]), head)


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
        pairs = {f"{b} - {a}": cells[b] - cells[a] for a, b in combinations(cells, 2)}
        yield _needed_line(metric, size, {name: cells for name, cells in pairs.items() if np.isfinite(cells).any()})


def _shown(rows: Sequence[Row]) -> Iterator[Shown]:
    for row in rows:
        is_share = describe(row.metric).kind == "share"
        sides = (replace(row.found.estimate, value=value) for value in (row.a, row.b))
        yield Shown(row.metric, row.model, row.found.estimate, is_share, is_share and any(map(near_an_end, sides)))


def _check_versions(left: Side, right: Side) -> None:
    versions = [side.manifest.get("suite_version") for side in (left, right)]
    if left.manifest["suite"] == right.manifest["suite"] and versions[0] != versions[1]:
        raise StoreError(
            f"{left.path} is of version {versions[0]} of the suite {left.manifest['suite']}, {right.path} of version "
            f"{versions[1]}: versions are not comparable; evaluate the older one again"
        )


def _needed_line(metric: str, size: float, differences: Mapping[str, FloatArray]) -> str:
    """How many prompts a difference of `size` needs; `differences`: name -> (S, P) of two models."""
    found = "; ".join(f"{name} {_needed(cells, size)}" for name, cells in differences.items())
    return f"prompts that show a difference of {size:g} in {metric} with 80 % power at p < 0.05: {found}"


def _needed(differences: FloatArray, size: float) -> str:
    """(S, P) differences of two models -> how many prompts show one of `size`, or why no number does."""
    needed = prompts_needed(differences, size)
    if needed is not None:
        return f"{needed:,}"
    there = differences[np.isfinite(differences)]
    if len(there) < 2 or is_constant(there):
        return "not known, since the prompts do not differ"
    return "no number of prompts: more seeds"


def _matched_seeds(left: Side, right: Side) -> list[tuple[int, int]]:
    """(seed in A, seed in B). One seed on each side is a pair, whatever their numbers."""
    common = [(seed, seed) for seed in left.seeds if seed in right.seeds]
    if not common and len(left.seeds) == len(right.seeds) == 1:
        return [(left.seeds[0], right.seeds[0])]
    if not common:
        raise StoreError(
            f"{left.path} has the seeds {left.seeds}, {right.path} {right.seeds}; expected at least one in both"
        )
    return common


def _metrics(left: Side, right: Side, seeds: Sequence[tuple[int, int]]) -> tuple[list[str], list[str]]:
    there = [str(column) for column in left.scores.columns if column in right.scores.columns]
    found = [m for m in found_metrics(there) if m.name in there and m.kind in ("mean", "share") and not m.detail]
    names = [m.name for m in found if m.name not in ("reward", "reward_z") and not m.name.startswith(REWARD_PREFIX)]
    left_out = []
    if "reward" in there:
        reason = _reward_differs(left, right, seeds)
        if reason:
            left_out.append(f"reward, since {reason}")
        else:
            names.insert(0, "reward" if len(seeds) == 1 else "reward_z")
    references = [
        (left.model_hash(str(left.manifest["reference"]), x), right.model_hash(str(right.manifest["reference"]), y))
        for x, y in seeds
    ]
    other_reference = any(x is None or x != y for x, y in references)
    texts = not (left.sampled and right.sampled)  # which the reference's tokenizer counts
    other_tokens = (other_reference and texts) or left.other_counts(right)
    for title, prefix, differs, reason in (
        ("KL", "kl_", other_reference, "it is taken to different references"),
        ("tokens", "n_tokens", other_tokens, "they are counted by different tokenizers"),
        ("self-BLEU", "self_bleu", left.prompts != right.prompts, "it depends on the other prompts of its result"),
    ):
        kept = [name for name in names if not name.startswith(prefix)]
        if differs and len(kept) < len(names):
            left_out.append(f"{title}, since {reason}")
            names = kept
    if any(name.startswith("rouge") for name in names) and left.other_texts(right):
        left_out.append("ROUGE, since the data's own responses to the same prompts are not the same")
        names = [name for name in names if not name.startswith("rouge")]
    return names, left_out


def _reward_differs(left: Side, right: Side, seeds: Sequence[tuple[int, int]]) -> str:
    """Why raw rewards have no common scale; "" where they do.

    The fingerprint is that of the prompts chosen: it distinguishes data where the prompts are the same. Other choices
    from one source are matched by the hash of each prompt.
    """
    prints = [side.manifest["data"].get("fingerprint") for side in (left, right)]
    same_source = left.prompts != right.prompts and left.drawn_from == right.drawn_from
    if None in prints or (prints[0] != prints[1] and not same_source):
        return f"the data are not the same (fingerprints {prints[0]} and {prints[1]})"
    for seed_a, seed_b in seeds:
        hashes = left.reward_hash(seed_a), right.reward_hash(seed_b)
        if hashes[0] is None or hashes[0] != hashes[1]:
            return f"the reward models of seed {seed_a} are not the same ({hashes[0]} and {hashes[1]})"
    return ""


def _with_common_reward(left: Side, right: Side) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rewards of both sides z-scored by A's reference, seed by seed: several reward models have no common scale."""
    name = "the reference of A"
    yardstick = left.scores[left.scores["model"] == str(left.manifest["reference"])].assign(model=name)
    first, second = (
        add_reward_z(pd.concat([side.scores, yardstick]), name).iloc[: len(side.scores)] for side in (left, right)
    )
    return first, second


def _matching(
    left: Side, right: Side, seeds: Sequence[tuple[int, int]], prompts: Sequence[str], models: Sequence[str]
) -> list[str]:
    lines = []
    counts = [side.scores["prompt_id"].nunique() - len(prompts) for side in (left, right)]
    suites = [side.manifest["suite"] for side in (left, right)]
    if suites[0] != suites[1]:
        lines.append(f"different suites: {suites[0]} in A, {suites[1]} in B; only what both measured is compared")
    lines.append(f"prompts: {len(prompts)} in both, {counts[0]} only in A, {counts[1]} only in B")
    alone = {name: [m for m in side.models if m not in models] for name, side in (("A", left), ("B", right))}
    others = "".join(f"; only in {name}: {', '.join(found)}" for name, found in alone.items() if found)
    lines.append(f"models: {', '.join(models)} in both{others}")
    lines += [f"{line} in {name}" for name, side in (("A", left), ("B", right)) for line in toy_lines(side.manifest)]
    unmatched = [
        f"seed {s} only in {name}"
        for i, (name, side) in enumerate((("A", left), ("B", right)))
        for s in side.seeds
        if s not in {pair[i] for pair in seeds}
    ]
    lines.append("seeds: " + ", ".join([*(f"{x}" if x == y else f"{x} with {y}" for x, y in seeds), *unmatched]))
    same = [m for m in models if all(_same_model(left, right, m, pair) for pair in seeds)]
    if same:
        lines.append(f"the same checkpoint in both: {', '.join(same)}")
    samplings = [side.manifest.get("sampling") or {} for side in (left, right)]
    lines += [
        f"drawn differently: {key} {samplings[0].get(key)} in A, {samplings[1].get(key)} in B"
        for key in _SETTINGS
        if samplings[0].get(key) != samplings[1].get(key)
    ]
    return lines


def _same_model(left: Side, right: Side, model: str, seeds: tuple[int, int]) -> bool:
    found = left.model_hash(model, seeds[0])
    return found is not None and found == right.model_hash(model, seeds[1])


def _rows(
    frames: tuple[pd.DataFrame, pd.DataFrame],
    seeds: Sequence[tuple[int, int]],
    models: Sequence[str],
    prompts: Sequence[str],
    metrics: Sequence[str],
    reference: str,
) -> Iterator[Row]:
    """One row a metric and model where both sides have values; `reference`, of A, standardised both sides' rewards."""
    tables = [score_table(frame, list(metrics)) for frame in frames]
    at_prompts = [[table.prompts.index(prompt) for prompt in prompts] for table in tables]
    at_seeds = [[table.seeds.index(pair[i]) for pair in seeds] for i, table in enumerate(tables)]
    for metric in metrics:
        for model in models:
            blocks = [
                table.block(model, metric)[rows][:, columns]  # (S, P, K)
                for table, rows, columns in zip(tables, at_seeds, at_prompts, strict=True)
            ]
            x, y = (nanmean(block, axis=2) for block in blocks)
            if metric in BY_REFERENCE:
                scale = tables[0].block(reference, metric)[at_seeds[0]][:, at_prompts[0]]
                change = scaled_cells(y - x, scale)
                found = crossed_difference(change, np.zeros_like(change))
            else:
                change, found = y - x, metric_difference(metric, blocks[1], blocks[0])
            if found.estimate.n:
                yield Row(metric, model, _mean(x, y), _mean(y, x), found, change)


def _mean(values: FloatArray, other: FloatArray) -> float:
    """Mean over the cells that both sides have."""
    both = (values + other) * 0 + values
    return float(nanmean(both.ravel()[None], axis=1)[0])
