"""Variants of GRPO and of DPO on the same parents, data, seeds and sizes: only the keys that are shown differ.

    rlhf-bench train sft reward --run reported --seeds 3 --set seed=1
    python benchmarks/variants.py train grpo reported      # interrupted, it goes on; likewise: train dpo reported
    python benchmarks/variants.py evaluate grpo            # what is trained under every seed; likewise: dpo
    python benchmarks/variants.py table                    # evaluates what is left, and writes docs/variants.md

Nothing is tuned: each variant takes the recipe's learning rate and beta, whatever it would like best. Steps and pairs
are fewer than the recipe's, alike for all.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_bench.evaluate import evaluate
from rlhf_bench.files import atomic_write_text, json_text
from rlhf_bench.modeling.checkpoints import read_training, run_seeds, stage_path
from rlhf_bench.progress import Progress
from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate
from trainers.pipeline import train

ROOT = Path("checkpoints/variants")
PARENTS = ("base", "sft", "reward")
PAGE = Path("docs/variants.md")
TABLES = "<!-- tables: written by benchmarks/variants.py -->\n"
FOUR = "grpo.minibatches=4"  # with one update a rollout the ratio is 1, and nothing that is clipped can differ

COMMON = {
    "grpo": ["grpo.steps=20", "grpo.eval_every=0"],
    "dpo": ["dpo.max_pairs=2048", "dpo.eval_every=0"],
}
VARIANTS: dict[str, dict[str, list[str]]] = {
    "grpo": {
        "grpo": [],
        "dr_grpo": ["grpo.advantage=mean", "grpo.loss_type=dr_grpo"],
        "reinforce": ["grpo.advantage=mean", "grpo.ratio=none"],
        "rloo": ["grpo.advantage=rloo", "grpo.ratio=none", "grpo.kl_in=reward"],
        "kl-in-reward": ["grpo.kl_in=reward"],
        "rank-linear": ["grpo.advantage=rank_linear"],
        "grpo-4": [FOUR],
        "gspo-4": [FOUR, "grpo.ratio=sequence", "grpo.cliprange=3e-4", "grpo.cliprange_high=4e-4"],
        "dapo-4": [FOUR, "grpo.loss_type=dapo", "grpo.cliprange_high=0.28"],
        "bnpo": ["grpo.loss_type=bnpo"],
        "rank-exponential": ["grpo.advantage=rank_exponential"],
        "rank-tournament": ["grpo.advantage=rank_tournament"],
    },
    "dpo": {
        "sigmoid": [],
        "ipo": ["dpo.loss=ipo"],
        "cpo": ["dpo.loss=cpo"],
        "orpo": ["dpo.loss=orpo"],
        "kto": ["dpo.loss=kto"],
        "hinge": ["dpo.loss=hinge"],
        "slic": ["dpo.loss=slic"],
        "cdpo": ["dpo.loss=cdpo", "dpo.label_smoothing=0.1"],
        "robust": ["dpo.loss=robust", "dpo.label_smoothing=0.1"],
        "ipo_sum": ["dpo.loss=ipo_sum"],
        "sigmoid+sft": ["dpo.sft_weight=1"],
    },
}
COLUMNS = (("reward_z", "Reward (z by sft)", 2), ("gold", "Gold", 2), ("kl_exact", "KL exact (nats)", 2))


def train_family(family: str, run: str) -> None:
    """Every variant under every seed of `run`, variant by variant; what is complete is left alone."""
    source, progress = Path("checkpoints") / run, Progress()
    for name, keys in VARIANTS[family].items():
        for seed in run_seeds(source):
            link_parents(source, seed, ROOT / "parents" / f"seed-{seed}", ("sft", "reward"))
            folder = ROOT / f"seed-{seed}" / f"{family}.{name}"
            link_parents(source, seed, folder, PARENTS)
            whole = not (folder / f".{family}.work").exists()  # a continued training has lost count
            began = time.process_time()
            train(
                [family], run=folder.name, root=folder.parent, progress=progress,
                overrides=[*settings_of(source, seed), *COMMON[family], *keys, f"seed={seed}"],
            )  # fmt: skip
            if whole and not (folder / "cpu.json").exists():
                atomic_write_text(folder / "cpu.json", json_text({"cpu_seconds": time.process_time() - began}))


def link_parents(source: Path, seed: int | None, folder: Path, stages: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if not (folder / stage).exists():
            (folder / stage).symlink_to(stage_path(source, stage, seed).resolve(), target_is_directory=True)


def settings_of(source: Path, seed: int | None) -> Iterator[str]:
    """What the parents were trained with, as overrides: a recipe that has changed since must not disown them."""
    for stage in PARENTS:
        config = (read_training(stage_path(source, stage, seed)) or {"config": {}})["config"]
        for key, value in config.items():
            if key == stage:
                yield from (f"{stage}.{name}={json.dumps(setting)}" for name, setting in value.items())
            else:
                yield f"{key}={json.dumps(value)}"


def trained(family: str) -> dict[str, Path]:
    """The variants that have every seed, and their folders with `{seed}` for its number."""
    folders = {name: ROOT / "seed-{seed}" / f"{family}.{name}" / family for name in VARIANTS[family]}
    seeds = run_seeds(ROOT / "parents")
    return {n: f for n, f in folders.items() if all(Path(str(f).format(seed=s)).exists() for s in seeds)}


def evaluate_family(family: str) -> Path:
    """The results folder of the trained variants side by side; what is stored is not computed again."""
    return evaluate(
        "hh-test", run="parents", models={name: str(folder) for name, folder in trained(family).items()},
        checkpoints=ROOT, results=ROOT / "results", samples=1, progress=Progress(),
    ).folder  # fmt: skip


def write_table() -> None:
    """Evaluates each family's variants that have every seed, and writes the tables into docs/variants.md."""
    seeds = [str(seed) for seed in run_seeds(ROOT / "parents")]
    parts, hours = [], 0.0
    for family, variants in VARIANTS.items():
        done = trained(family)
        metrics = ResultStore(evaluate_family(family)).read_metrics()
        rows, spent = family_rows(metrics, family, done, seeds)
        hours += spent / 3600
        missing = [f"`{name}`" for name in variants if name not in done]
        parts += [f"## {family.upper()}", "", *rows, ""]
        parts += [f"Not trained: {', '.join(missing)}.", ""] if missing else []
    parts.append(f"The trainings took {hours:.1f} hours of one core's time, without the evaluation.")
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(TABLES)
    atomic_write_text(PAGE, before + TABLES + "\n" + "\n".join(parts) + "\n")


def family_rows(
    metrics: dict[str, Any], family: str, done: dict[str, Path], seeds: list[str]
) -> tuple[list[str], float]:
    """The lines of a Markdown table, and the seconds of processor time that went into its trainings."""
    plain = next(iter(VARIANTS[family]))
    titles = ["Variant", "Keys", *(title for _, title, _ in COLUMNS), f"Gold less {plain}'s", "p (Holm)", "Samples"]
    lines = [row_text([*titles, "CPU (s)"]), row_text(["---", "---", *["---:"] * (len(titles) - 1)])]
    spent = 0.0
    for name in ["sft", *done]:
        cells = [metric_text(metrics["models"][name], key, digits) for key, _, digits in COLUMNS]
        costs = [] if name == "sft" else [seconds_of(str(done[name]).format(seed=s)) for s in seeds]
        known = [seconds for seconds in costs if seconds is not None]
        spent += sum(known) * len(costs) / max(1, len(known))
        training = {} if name == "sft" else read_training(Path(str(done[name]).format(seed=seeds[0]))) or {}
        keys = " ".join(f"`{key}`" for key in VARIANTS[family].get(name, []))
        cost = f"{statistics.mean(known):.0f}" if known else "–"
        samples = str(training.get("samples", "–"))
        lines.append(row_text([name, keys, *cells, *difference_text(metrics, name, plain), samples, cost]))
    return lines, spent


def metric_text(numbers: dict[str, Any], key: str, digits: int) -> str:
    return estimate_text(Estimate.from_dict(numbers[key]), digits) if key in numbers else "–"


def difference_text(metrics: dict[str, Any], name: str, plain: str) -> tuple[str, str]:
    """Gold of `name` less that of `plain`, paired, and Holm's p over all pairs of the table."""
    for row in metrics["pairwise"]:
        if row["metric"] == "gold" and {row["a"], row["b"]} == {name, plain} and name != plain:
            found = Estimate.from_dict(row["difference"])
            if row["a"] == plain:
                found = Estimate(-found.value, -found.high, -found.low, found.n)
            return estimate_text(found, 2), f"{row['p_holm']:.3f}"
    return "–", "–"


def estimate_text(estimate: Estimate, digits: int) -> str:
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def row_text(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def seconds_of(folder: str) -> float | None:
    """Processor seconds of a training from parents to weights; None where it was interrupted on the way."""
    file = Path(folder).parent / "cpu.json"
    return float(json.loads(file.read_text())["cpu_seconds"]) if file.exists() else None


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"] and len(sys.argv) == 4 and sys.argv[2] in VARIANTS:
        train_family(sys.argv[2], sys.argv[3])
    elif sys.argv[1:2] == ["evaluate"] and len(sys.argv) == 3 and sys.argv[2] in VARIANTS:
        evaluate_family(sys.argv[2])
    elif sys.argv[1:] == ["table"]:
        write_table()
    else:
        sys.exit(__doc__)
