"""The same training by one process and by two, on the cores of this machine: ms a step, medians, ratios.

    python benchmarks/processes.py [rounds]

Base, sft and grpo of the recipe mini, shortened; the ways take turns, and what loading takes is left out. A round, the
default, takes one to three minutes.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

STEPS = {"base": 16, "sft": 16, "grpo": 3}
SHORT = [
    f"base.max_steps={STEPS['base']}", f"sft.max_steps={STEPS['sft']}", f"grpo.steps={STEPS['grpo']}",
    *(f"{stage}.eval_every=0" for stage in STEPS), *(f"{stage}.eval_size=16" for stage in STEPS),
    "reward.function=gold", "data.limit=1500",
]  # fmt: skip
LAUNCHER = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
WAYS = {
    "1 process, 1 thread": ([], 1),
    "1 process, 2 threads": ([], 2),
    "2 processes, 1 thread each": (LAUNCHER, 1),
}


def seconds_a_step(launcher: list[str], threads: int) -> dict[str, float]:
    """Stage -> median seconds of its steps but the first, which pays for warming up."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["rlhf_bench", "--quiet", "train", "base", "sft", "grpo", "--checkpoints", folder, "--run", "timed"]
        sets = [word for key in SHORT for word in ("--set", key)]
        subprocess.run(
            [sys.executable, "-m", *launcher, *words, *sets], check=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        times = {}
        for stage in STEPS:
            log = (Path(folder) / "timed" / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
            at = [float(json.loads(line)["seconds"]) for line in log]
            times[stage] = statistics.median(b - a for a, b in itertools.pairwise(at))
        return times


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    measured: dict[str, dict[str, list[float]]] = {stage: defaultdict(list) for stage in STEPS}
    for _ in range(rounds):
        for name, (launcher, threads) in WAYS.items():
            for stage, seconds in seconds_a_step(launcher, threads).items():
                measured[stage][name].append(seconds)
    for stage, by_way in measured.items():
        baseline = by_way["1 process, 1 thread"]
        for name, seconds in by_way.items():
            ratios = [a / b for a, b in zip(baseline, seconds, strict=True)]
            print(
                f"{stage:5} {name:27} {1000 * statistics.median(seconds):7.0f} ms a step, "
                f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
