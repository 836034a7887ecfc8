"""Does the frontier forecast where gold turns? Ten short GRPO runs without a KL penalty, from one base and sft.

    rlhf-bench train all --recipe mini-short
    python benchmarks/frontier_forecast.py mini-short

For each training seed: a reward model and a GRPO run of its own, from the same sft. The forecast is made of samples of
sft alone; the peak is the KL of the evaluation while training at which gold was highest. A forecast of "no turn up to
x" agrees with every peak beyond x, and says nothing more. Prints a table; some 20 minutes of two cores.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

from rlhf_bench.evaluate import evaluate
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling.checkpoints import run_seeds, stage_path
from rlhf_bench.progress import Progress
from rlhf_bench.types import Estimate
from trainers.pipeline import train

SEEDS = range(10)
SAMPLES, PROMPTS = 64, 100
SETTINGS = ["grpo.beta=0.0", "grpo.lr=1e-3", "grpo.steps=40", "grpo.schedule=constant"]
SETTINGS += ["grpo.eval_every=4", "grpo.eval_size=100"]


def main(run: str) -> None:
    source = Path("checkpoints") / run
    first = run_seeds(source)[0]
    agreed = 0
    print(f"{'seed':>4} {'forecast (nats)':>28} {'peak of gold (nats)':>20} {'agrees':>8}")
    for seed in SEEDS:
        target = Path("checkpoints") / f"forecast-{seed}"
        if not (target / "grpo").exists():
            for stage in ("base", "sft"):
                shutil.copytree(stage_path(source, stage, first), target / stage, dirs_exist_ok=True)
            train(["reward", "grpo"], run=target.name, overrides=[*SETTINGS, f"seed={seed}"], progress=Progress())
        result = evaluate("hh-test", run=target.name, limit=PROMPTS, frontier=SAMPLES).folder
        found = json.loads((result / "metrics.json").read_text())["frontier"]
        kl, reach = Estimate.from_dict(found["turns"]["gold"]["kl"]), found["reach"]
        peak, is_last = peak_of_gold(target)
        text = f"{float(kl.value):.2f} [{float(kl.low):.2f}, {float(kl.high):.2f}]"
        if math.isinf(float(kl.value)):
            text = f"no turn up to {reach:.2f}"
        agrees = peak >= reach if math.isinf(float(kl.value)) else float(kl.low) <= peak <= float(kl.high)
        agreed += agrees
        beyond = " or later" if is_last else ""
        print(f"{seed:>4} {text:>28} {peak:>12.2f}{beyond:<9} {'yes' if agrees else 'no':>7}")
    print(f"{agreed} of {len(SEEDS)} agree")


def peak_of_gold(run: Path) -> tuple[float, bool]:
    """The KL at which gold was highest while training, and whether that was the end of it."""
    rows = [row for row in read_jsonl(run / "grpo" / "log.jsonl") if "eval_gold" in row]
    best = max(range(len(rows)), key=lambda i: float(rows[i]["eval_gold"]))
    return float(rows[best]["eval_kl_exact"]), best == len(rows) - 1


if __name__ == "__main__":
    main(*sys.argv[1:])
