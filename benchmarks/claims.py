"""What the default run is expected to show, held against a stored result, with the numbers: holds or does not.

rlhf-bench train all --run reported --seeds 3 --set seed=1
rlhf-bench eval --suite hh-test --run reported
rlhf-bench audit --run reported
python benchmarks/claims.py results/hh-test/reported               # one line per claim
python benchmarks/claims.py results/hh-test/reported --markdown    # the tables of docs/results.md
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.stats import mean_estimate
from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate

TRAINED = ("ppo", "grpo", "dpo")


def main(folder: str = "results/hh-test/default") -> None:
    store = ResultStore(Path(folder))
    metrics, scores = store.read_metrics(), store.read_scores()
    seeds = [str(seed) for seed in store.read_manifest()["seeds"]]
    learned = "reward_z" if any(row["metric"] == "reward_z" for row in metrics["pairwise"]) else "reward"
    for metric, pairs in ((learned, [("sft", "base"), *((m, "sft") for m in TRAINED)]),
                          ("gold", [("sft", "base"), *((m, "sft") for m in TRAINED)])):  # fmt: skip
        for a, b in pairs:
            for seed in seeds:
                estimate = difference(metrics, metric, a, b, seed)
                say(f"{metric}: {a} - {b}, seed {seed}", show(estimate), estimate.low > 0)
            if len(seeds) > 1:
                pooled = difference(metrics, metric, a, b, None)
                say(f"{metric}: {a} - {b}, seeds crossed with prompts", show(pooled), None)
    for seed in seeds:
        mine = scores[scores["seed"] == int(seed)]
        ended = mine.loc[mine["model"] == "sft", "ended"].mean()
        say(f"sft ends its responses, seed {seed}", f"{ended:.3f}", ended >= 0.95)
        own = mine.loc[mine["model"] == "sft", ["kl_k1", "kl_k3", "kl_exact"]].abs().to_numpy().max()
        say(f"KL of sft to itself, seed {seed}", f"{own:g}", own == 0)
        for model in ("base", *TRAINED):
            estimate = k1_minus_exact(mine[mine["model"] == model])
            say(f"kl_k1 - kl_exact, {model}, seed {seed}, 99.9 %", show(estimate), not estimate.excludes(0))
    audit = store.read_audit()
    for seed, row in (audit or {"models": {}})["models"].items():
        overall = row["overall"]
        accuracy, ceiling = Estimate.from_dict(overall["accuracy"]), overall["ceiling"]
        text = f"{show(accuracy)}, ceiling {ceiling:.3f}, {overall['pairs']} pairs"
        say(f"reward model within 3 points of the ceiling, {seed}", text, ceiling - accuracy.value <= 0.03)


def difference(metrics: dict[str, Any], metric: str, a: str, b: str, seed: str | None) -> Estimate:
    """The stored paired difference a - b; with `seed`, that seed's."""
    for row in metrics["pairwise"]:
        if row["metric"] == metric and {row["a"], row["b"]} == {a, b}:
            found = row["difference"] if seed is None else (row.get("per_seed") or {seed: row["difference"]})[seed]
            estimate = Estimate.from_dict(found)
            if row["a"] == a:
                return estimate
            return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n)
    raise SystemExit(f"no stored difference of {metric} between {a} and {b}")


def k1_minus_exact(rows: pd.DataFrame) -> Estimate:
    by_prompt = (rows["kl_k1"] - rows["kl_exact"]).groupby(rows["prompt_id"]).mean()
    return mean_estimate([float(x) for x in by_prompt], level=0.999)


def show(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def say(claim: str, numbers: str, holds: bool | None) -> None:
    verdict = {True: "holds", False: "FAILS", None: ""}[holds]
    print(f"{claim:58} {numbers:42} {verdict}")


COLUMNS = {
    "reward_z": ("learned reward (z)", 2), "reward": ("learned reward", 2), "gold": ("gold reward", 2),
    "kl_exact": ("KL exact (nats)", 2), "rougeL": ("ROUGE-L", 3), "n_tokens": ("tokens", 1), "ended": ("EOS rate", 3),
}  # fmt: skip


def markdown(folder: str) -> None:
    """The main numbers of each model, and the paired differences to sft, as two tables."""
    metrics = ResultStore(Path(folder)).read_metrics()
    models = metrics["models"]
    keys = [key for key in COLUMNS if any(key in cells for cells in models.values())]
    keys = [key for key in keys if key != "reward" or "reward_z" not in keys]
    print(f"| model | {' | '.join(COLUMNS[key][0] for key in keys)} |")
    print(f"| --- |{' --- |' * len(keys)}")
    for model, cells in models.items():
        print(f"| {model} | {' | '.join(_cell(cells.get(key), COLUMNS[key][1]) for key in keys)} |")
    print()
    print("| difference | learned reward | gold reward | KL exact |")
    print("| --- | --- | --- | --- |")
    learned = "reward_z" if "reward_z" in keys else "reward"
    for a, b in (("sft", "base"), *((model, "sft") for model in TRAINED)):
        cells = [_difference(metrics, metric, a, b) for metric in (learned, "gold", "kl_exact")]
        print(f"| {a} - {b} | {' | '.join(cells)} |")


def _cell(cell: dict[str, Any] | None, digits: int) -> str:
    if cell is None:
        return "-"
    if cell["low"] == cell["high"]:
        return f"{cell['value']:.{digits}f}"
    return f"{cell['value']:.{digits}f} [{cell['low']:.{digits}f}, {cell['high']:.{digits}f}]"


def _difference(metrics: dict[str, Any], metric: str, a: str, b: str) -> str:
    try:
        estimate = difference(metrics, metric, a, b, None)
    except SystemExit:
        return "-"
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


if __name__ == "__main__":
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    (markdown if "--markdown" in sys.argv else main)(*folders)
