"""Coverage of the intervals over several seeds: normal and skewed numbers, shares, and rewards z-scored by a reference.

Effects of the seed and, for shares, of the prompt are normal; those of shares on the scale of the logit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import optimize, special

from rlhf_bench import stats
from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.pareto import hypervolume_estimate
from rlhf_bench.types import Estimate

SEEDS = (2, 3, 5)
PROMPT_SD = 1.0  # of shares, on the scale of the logit
Simulate = Callable[[Generator, int], tuple[Estimate, float]]  # (generator, seeds) -> estimate, truth


def normal(prompts: int, seed_sd: float) -> Simulate:
    def simulate(g: Generator, s: int) -> tuple[Estimate, float]:
        cells = seed_sd * g.standard_normal((s, 1)) + g.standard_normal(prompts)
        return stats.crossed(cells + 0.5 * g.standard_normal((s, prompts))), 0.0

    return simulate


def lognormal(prompts: int, sigma: float, seed_sd: float) -> Simulate:
    """Lognormal over prompts, seeds and responses normal with `seed_sd` and half of the prompts' sd."""
    truth = math.exp(sigma**2 / 2)
    sd = math.sqrt((math.exp(sigma**2) - 1) * math.exp(sigma**2))

    def simulate(g: Generator, s: int) -> tuple[Estimate, float]:
        cells = g.lognormal(sigma=sigma, size=prompts) + seed_sd * sd * g.standard_normal((s, 1))
        return stats.crossed(cells + 0.5 * sd * g.standard_normal((s, prompts))), truth

    return simulate


def share(truth: float, seed_sd: float, samples: int, prompts: int = 150) -> Simulate:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = math.hypot(seed_sd, PROMPT_SD)

    def mean_share(offset: float) -> float:
        return float((weights * special.expit(offset + spread * nodes)).sum() / weights.sum()) - truth

    offset = float(optimize.brentq(mean_share, -20.0, 20.0))

    def simulate(g: Generator, s: int) -> tuple[Estimate, float]:
        logits = offset + seed_sd * g.standard_normal((s, 1, 1)) + PROMPT_SD * g.standard_normal((1, prompts, 1))
        return stats.crossed_share((g.random((s, prompts, samples)) < special.expit(logits)).astype(float)), truth

    return simulate


def z_scored(gain: float, samples: int, allow_for_scale: bool, prompts: int = 150) -> Simulate:
    """A model `gain` above the reference, with half of its effect of the prompt; seeds of sd .1 if several."""
    truth = gain / math.sqrt(2)  # of the reference's responses: prompts of variance 1, and responses

    def simulate(g: Generator, s: int) -> tuple[Estimate, float]:
        prompt = g.standard_normal((1, prompts, 1))
        reference = prompt + g.standard_normal((s, prompts, samples))
        of_seed = 0.1 * (s > 1) * g.standard_normal((s, 1, 1))
        model = gain + of_seed + 0.5 * prompt + g.standard_normal((s, prompts, samples))
        mean, sd = reference.mean(axis=(1, 2), keepdims=True), reference.std(axis=(1, 2), ddof=1, keepdims=True)
        z, of_reference = (model - mean) / sd, (reference - mean) / sd
        cells: FloatArray = stats.reference_z_cells(z, of_reference) if allow_for_scale else z.mean(axis=2)
        return stats.crossed(cells), truth

    return simulate


def z_difference(allow_for_scale: bool, *, limit: float | None = None, gain: float = 3.7, n: int = 150) -> Simulate:
    """The gain over the reference, or its hypervolume below `limit` nats, at 2 nats with an sd of 1 over prompts."""
    truth = gain / math.sqrt(2) * (1.0 if limit is None else limit - 2.0)

    def simulate(g: Generator, s: int) -> tuple[Estimate, float]:
        prompt = g.standard_normal((s, n, 1))
        reference = prompt + g.standard_normal((s, n, 4))
        model = gain + 0.5 * prompt + g.standard_normal((s, n, 4))
        sd = reference.std(axis=(1, 2), ddof=1, keepdims=True)
        cells: FloatArray = (model - reference).mean(axis=2) / sd[..., 0]
        if allow_for_scale:
            cells = stats.scaled_cells(cells, reference / sd)
        if limit is None:
            return stats.crossed(cells), truth
        kl = 2 + g.standard_normal((1, s, n))
        return hypervolume_estimate(kl, cells[None], limit=limit), truth

    return simulate


CASES: dict[str, Simulate] = {
    "mean, normal, 30 prompts, seed sd .1": normal(30, 0.1),
    "mean, normal, 150 prompts, seeds alike": normal(150, 0.0),
    "mean, normal, 150 prompts, seed sd .05": normal(150, 0.05),
    "mean, normal, 150 prompts, seed sd .1": normal(150, 0.1),
    "mean, normal, 150 prompts, seed sd .3": normal(150, 0.3),
    "mean, lognormal, 30 prompts, seeds alike": lognormal(30, 1.0, 0.0),
    "mean, lognormal, 30 prompts, seed sd .1 of the prompts'": lognormal(30, 1.0, 0.1),
    "mean, lognormal, 150 prompts, seeds alike": lognormal(150, 1.0, 0.0),
    "mean, lognormal, 150 prompts, seed sd .1": lognormal(150, 1.0, 0.1),
    "mean, lognormal of sigma 1.5, 150 prompts, seeds alike": lognormal(150, 1.5, 0.0),
    "mean, lognormal of sigma 1.5, 150 prompts, seed sd .1": lognormal(150, 1.5, 0.1),
} | {
    f"share {truth:g}, {samples} a prompt, 150 prompts, seed sd {sd:g} (logit)": share(truth, sd, samples)
    for truth in (0.5, 0.91, 0.95, 0.98)
    for sd in (0.5, 1.0)
    for samples in (1, 4)
    if (truth, samples) != (0.5, 1)
}


def covered(simulate: Simulate, s: int, tables: int, stream: int) -> float:
    generator = np.random.default_rng([stream, s])
    found = [simulate(generator, s) for _ in range(tables)]
    return sum(not estimate.excludes(truth) for estimate, truth in found) / tables


def percent(held: float) -> str:
    return f"{held:.1%}" if 0.93 <= held <= 0.97 else f"**{held:.1%}**"


def print_seeds(tables: int) -> None:
    print("| Number | " + " | ".join(f"{s} seeds" for s in SEEDS) + " |\n| --- |" + " ---: |" * len(SEEDS), flush=True)
    for stream, (name, simulate) in enumerate(CASES.items()):
        cells = (percent(covered(simulate, s, tables, stream)) for s in SEEDS)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def print_z(tables: int) -> None:
    print("| Gain, samples | 1 seed | scale taken as known | 3 seeds | scale taken as known |\n| --- |" + " ---: |" * 4)
    for stream, (gain, samples) in enumerate(((-1.5, 1), (-1.5, 4), (0.5, 4), (3.7, 1), (3.7, 4))):
        cells = [
            percent(covered(z_scored(gain, samples, allow), s, tables, 100 + stream))
            for s in (1, 3)
            for allow in (True, False)
        ]
        print(f"| {gain:g} sd, {samples} a prompt | " + " | ".join(cells) + " |", flush=True)


def print_z_differences(tables: int) -> None:
    print("| Number | coverage | scale taken as known |\n| --- |" + " ---: |" * 2)
    for stream, (name, limit) in enumerate((("difference from the reference", None), ("hypervolume", 10.0))):
        cells = [percent(covered(z_difference(allow, limit=limit), 1, tables, 200 + stream)) for allow in (True, False)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
