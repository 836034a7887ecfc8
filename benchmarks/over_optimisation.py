"""Over-optimisation on purpose: GRPO from a finished run, without a pull towards the reference and for more steps.

    rlhf-bench train all
    python benchmarks/over_optimisation.py

Writes checkpoints/over-optimised/ and docs/img/over_optimisation.png: learned and gold reward of the validation
prompts against exact KL to sft, both as they were measured while training.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling.checkpoints import run_seeds, stage_path
from rlhf_bench.progress import Progress
from trainers.pipeline import train

SETTINGS = ["grpo.beta=0.0", "grpo.lr=1e-3", "grpo.steps=150", "grpo.schedule=constant"]
SETTINGS += ["grpo.eval_every=5", "grpo.eval_size=100"]
PICTURE = Path("docs/img/over_optimisation.png")


def main(run: str = "default") -> None:
    source, target = Path("checkpoints") / run, Path("checkpoints/over-optimised")
    seed = run_seeds(source)[0]
    if not (target / "grpo").exists():
        for stage in ("base", "sft", "reward"):
            shutil.copytree(stage_path(source, stage, seed), target / stage, dirs_exist_ok=True)
        train(["grpo"], run=target.name, overrides=[*SETTINGS, f"seed={seed or 0}"], progress=Progress())
    rows = [row for row in read_jsonl(target / "grpo" / "log.jsonl") if "eval_reward" in row]
    kl = np.array([row["eval_kl_exact"] for row in rows])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, label, style in (("eval_reward", "learned reward (raw)", "o-"), ("eval_gold", "gold reward", "s--")):
        axes.plot(np.sqrt(kl), [row[key] for row in rows], style, markersize=4, label=label)
    axes.set(xlabel="sqrt of exact KL to sft (nats per response)", ylabel="reward")
    axes.set_title(f"GRPO without a KL penalty on hh-mini: {rows[-1]['step']} steps")
    axes.grid(alpha=0.3)
    axes.legend()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=150)
    for row in rows:
        numbers = (row["eval_kl_exact"], row["eval_reward"], row["eval_gold"])
        print(f"step {row['step']:4d}  KL {numbers[0]:7.2f}  learned {numbers[1]:6.2f}  gold {numbers[2]:6.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
