"""The whole summary of 5 models on 1,000 prompts with 4 samples each, 10,000 bootstraps: seconds, memory, profile.

All metrics and their intervals, all pairs, Pareto front, hypervolume and alarms, from the table of scores on; the goal
is under 60 s on 2 cores. The defaults are the sizes above:

    python benchmarks/summary.py [PROMPTS [SAMPLES [RESAMPLES [SEEDS]]]]
"""

from __future__ import annotations

import cProfile
import itertools
import pstats
import resource
import sys
import time

import numpy as np
import pandas as pd

from rlhf_bench.evaluate.summary import summarize
from rlhf_bench.stats import resampling

MODELS = {"base": -1.0, "sft": 0.0, "ppo": 0.5, "grpo": 0.6, "dpo": 0.4}
GOLD_PARTS = ("correct", "relevant", "safe", "polite", "specific")
SHOWN = 12  # functions of the profile


def scores(prompts: int, samples: int, seeds: int) -> pd.DataFrame:
    """A row a response with every metric of a default run, the data's own responses among them."""
    keys = itertools.product(MODELS, range(seeds), range(prompts), range(samples))
    anchors = itertools.product(("chosen", "rejected"), range(seeds), range(prompts), [0])
    frame = pd.DataFrame([*keys, *anchors], columns=["model", "seed", "prompt_id", "sample"])
    generator = np.random.default_rng(0)
    hardness = generator.standard_normal(prompts)[frame["prompt_id"]]
    shift = frame["model"].map(MODELS).fillna(0.0).to_numpy()

    def noisy(scale: float) -> np.ndarray:
        return np.asarray(shift + hardness + scale * generator.standard_normal(len(frame)))

    sampled = frame["model"].isin(MODELS).to_numpy()
    columns = {name: noisy(1.0) for name in ("reward", "gold", *(f"gold_{part}" for part in GOLD_PARTS))}
    for name in ("rouge1", "rouge2", "rougeL", "distinct1", "distinct2", "repetition", "copied"):
        columns[name] = generator.beta(2, 5, len(frame))
    columns["n_tokens"] = columns["n_words"] = generator.integers(5, 64, len(frame)).astype(float)
    columns["ended"] = (generator.random(len(frame)) < 0.9).astype(float)
    away = np.where(sampled, np.where(frame["model"] == "sft", 0.0, generator.gamma(2.0, 2.0, len(frame))), np.nan)
    for name in ("kl_exact", "kl_k1", "kl_k3"):
        columns[name], columns[f"{name}_token"] = away, away / columns["n_tokens"]
    first = sampled & (frame["sample"] == 0).to_numpy()
    columns["chosen_logprob"] = np.where(first, -generator.gamma(20, 2, len(frame)), np.nan)
    columns["chosen_tokens"] = columns["chosen_bytes"] = np.where(first, 20.0, np.nan)
    frame["prompt_id"] = [f"p{p:06d}" for p in frame["prompt_id"]]
    return frame.assign(**columns)


def main(prompts: int = 1_000, samples: int = 4, resamples: int = 10_000, seeds: int = 1) -> None:
    frame = scores(prompts, samples, seeds)
    profile = cProfile.Profile()
    began, used = time.perf_counter(), time.process_time()
    profile.enable()
    with resampling(resamples):
        found = summarize(frame, reference="sft")
    profile.disable()
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    numbers = sum(len(cells) for cells in found["models"].values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(MODELS)} models x {resamples:,} bootstraps x {prompts:,} prompts x {samples} samples x {seeds} seed(s): "
        f"{wall:.1f} s ({cpu:.1f} s of processors), {peak:,.0f} MiB at most; {numbers} numbers, "
        f"{len(found['pairwise'])} differences"
    )
    pstats.Stats(profile).sort_stats("cumulative").print_stats("rlhf_bench|scipy|numpy", SHOWN)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
