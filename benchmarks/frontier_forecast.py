"""Does the frontier forecast where gold turns? Ten short GRPO runs without a KL penalty, from one base and sft.

    rlhf-bench train sft --recipe mini-short --run mini-short
    python benchmarks/frontier_forecast.py mini-short

Each training seed has a reward model and a GRPO run of its own, from the same sft (called base there). Its forecast is
made of samples of sft alone, which are drawn once and scored by each reward model. Gold is highest somewhere between
the neighbours of the evaluation at which it was, sft itself at KL 0 among them. A forecast agrees where its interval
holds a KL between them; one of "no turn up to x" agrees with what lies beyond x, and says nothing more. Prints a table;
some 8 minutes of one core.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_bench.evaluate.analyses.frontier import frontier_curve
from rlhf_bench.evaluate.models import SeedModels
from rlhf_bench.evaluate.plan import prepare
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.responses import sampled_rows
from rlhf_bench.evaluate.scoring import pool_of
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling.checkpoints import run_seeds, stage_path
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.processes import ALONE
from rlhf_bench.scorers.reward import add_reward_z
from rlhf_bench.types import Estimate
from trainers.pipeline import train

SEEDS, SAMPLES, PROMPTS = 10, 256, 64
REWARD = ["reward.optimizer=muon", "reward.lr=2e-3", "reward.head_lr=2e-3", "reward.muon_lr=0.01"]  # as in mini-short
GRPO = ["grpo.beta=0.0", "grpo.lr=2e-4", "grpo.steps=12", "grpo.schedule=constant", "grpo.eval_every=1"]
SETTINGS = ["start=base", "reward.backbone=base", *REWARD, *GRPO, "grpo.eval_size=100"]


def main(run: str) -> None:
    source = Path("checkpoints") / run
    sft = stage_path(source, "sft", run_seeds(source)[0])
    settings = [f"model={sft}", *SETTINGS]
    trained = train(["grpo"], recipe="mini-short", run="forecast", seeds=SEEDS, overrides=settings, progress=Progress())
    columns = "{:>4} {:>22} {:>20} {:>26} {:>7}"
    print(columns.format("seed", "forecast (nats)", "peak of gold (nats)", "gold: sft, peak, last", "agrees"))
    agreed = 0
    for seed, curve in forecasts(trained.name):
        rows = [row for row in read_jsonl(stage_path(trained, "grpo", seed) / "log.jsonl") if "eval_gold" in row]
        gold = [curve["start"]["gold"], *(float(row["eval_gold"]) for row in rows)]
        kl = [0.0, *(float(row["eval_kl_exact"]) for row in rows), math.inf]
        best, reach = gold.index(max(gold)), curve["reach"]
        peak = kl[max(best - 1, 0)], kl[best + 1]
        forecast = Estimate.from_dict(curve["turns"]["gold"]["kl"])
        turns = math.isfinite(forecast.value)
        text = f"{forecast.value:.2f} [{forecast.low:.2f}, {forecast.high:.2f}]" if turns else f"no turn to {reach:.2f}"
        low, high = (forecast.low, forecast.high) if turns else (reach, math.inf)
        agrees = low <= peak[1] and peak[0] <= high
        agreed += agrees
        course = f"{gold[0]:.2f}, {gold[best]:.2f}, {gold[-1]:.2f}"
        between = f"{peak[0]:.2f} to {peak[1]:.2f}"
        print(columns.format(seed, text, between, course, "yes" if agrees else "no"), flush=True)
    print(f"{agreed} of {SEEDS} agree; the samples reach {reach:.2f} nats under the last seed")


def forecasts(run: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each training seed and its frontier, from the same samples of sft."""
    plan = prepare(
        Request.of("hh-test", run=run, reference="base", split="validation", limit=PROMPTS), Progress(quiet=True)
    )
    drawn = None
    for seed in plan.seeds:
        models, reference = SeedModels(plan, seed, ALONE), plan.reference_model(seed)
        assert reference is not None
        if drawn is None:
            drawn = sampled_rows(reference, models, plan.items, samples=SAMPLES, on_batch=lambda _: None)
        pool = add_reward_z(pool_of(drawn, models.context(reference, chooser=True)).rows, plan.reference)
        yield seed, frontier_curve(pool, pool)


if __name__ == "__main__":
    main(*sys.argv[1:])
