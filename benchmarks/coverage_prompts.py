"""Coverage of the intervals of one seed: how often each kind of number is held, by number of prompts and kind of tail.

Intervals are those of the evaluation, from 2,000 resamples; the lognormal has sigma 1 (skewness 6.2). Shares of one
sample a prompt are not simulated: their coverage is a sum over the binomial distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.stats import binom

from rlhf_bench import stats
from rlhf_bench.stats.cautions import has_long_tails
from rlhf_bench.types import Estimate

SIZES = (30, 150, 1_000)
Simulate = Callable[[Generator, int], tuple[Estimate, float]]  # (generator, prompts) -> estimate, truth


def light_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.standard_normal(n)), 0.0


def heavy_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.lognormal(size=n)), math.exp(0.5)


def heavier_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.lognormal(sigma=1.5, size=n)), math.exp(1.125)


def sampled_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.standard_normal((n, 1)) + g.standard_normal((n, 4))), 0.0


def share(p: float) -> Simulate:
    """4 samples a prompt; each prompt has a share of its own."""

    def simulate(g: Generator, n: int) -> tuple[Estimate, float]:
        of_prompt = g.beta(3 * p, 3 * (1 - p), (n, 1))
        return stats.share_estimate((g.random((n, 4)) < of_prompt).astype(float)), p

    return simulate


def single_share(p: float, n: int) -> float:
    """The exact coverage with one sample a prompt."""
    estimates = [stats.share_estimate(np.repeat([1.0, 0.0], [k, n - k])) for k in range(n + 1)]
    held = np.array([e.low <= p <= e.high for e in estimates])
    return float(binom.pmf(np.arange(n + 1), n, p)[held].sum())


def win_rate(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.choice([0.0, 0.5, 1.0], size=n, p=[0.3, 0.2, 0.5])), 0.6


def correlation(g: Generator, n: int) -> tuple[Estimate, float]:
    """Two numbers of 4 samples a prompt; of both variances, 2, the prompt is 1 and is shared: 0.5."""
    prompt = g.standard_normal((n, 1))
    x, y = prompt + g.standard_normal((2, n, 4))
    return stats.correlation_estimate(x, y), 0.5


def kl(g: Generator, n: int) -> tuple[Estimate, float]:
    """Per-response sums over 20 tokens that are gamma(0.5): never negative, skewed."""
    scale = g.gamma(4, 0.25, (n, 1))
    return stats.mean_estimate(scale * g.gamma(10, 0.2, (n, 4))), 2.0


def difference(g: Generator, n: int) -> tuple[Estimate, float]:
    prompt = g.standard_normal((n, 1))
    a, b = prompt + g.standard_normal((2, n, 4))
    return stats.difference(a + 0.3, b).estimate, 0.3


def heavy_difference(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.difference(2 * g.lognormal(size=n), g.lognormal(size=n)).estimate, math.exp(0.5)


CASES: dict[str, Simulate] = {
    "mean, normal": light_mean,
    "mean, normal, 4 samples a prompt": sampled_mean,
    "mean, lognormal": heavy_mean,
    "share 0.5, 4 samples": share(0.5),
    "share 0.95, 4 samples": share(0.95),
    "win rate 0.6 with ties": win_rate,
    "correlation 0.5, 4 samples": correlation,
    "KL, skewed, 4 samples": kl,
    "difference, normal, 4 samples": difference,
    "difference, lognormal": heavy_difference,
    "share 0.99, 4 samples": share(0.99),
    "share 0.999, 4 samples": share(0.999),
    "mean, lognormal of sigma 1.5": heavier_mean,
}


class Covered(NamedTuple):
    below: float  # share of tables with an interval that ends below the truth
    above: float
    marked: float  # share with numbers that have long tails, by the rule of the mark

    @property
    def held(self) -> float:
        return 1 - self.below - self.above


def coverage(simulate: Simulate, n: int, tables: int, *, stream: int) -> Covered:
    """Each cell draws from a stream of its own."""
    generator = np.random.default_rng([stream, n])
    found = [simulate(generator, n) for _ in range(tables)]
    below, above = (sum(e.high < truth for e, truth in found), sum(e.low > truth for e, truth in found))
    return Covered(below / tables, above / tables, sum(has_long_tails(e) for e, _ in found) / tables)


def percent(held: float) -> str:
    return f"{held:.1%}" if 0.93 <= held <= 0.97 else f"**{held:.1%}**"


def print_coverage(tables: int) -> None:
    """`tables` of 30 and of 150 prompts, a quarter of them of 1,000."""
    error = [math.sqrt(0.95 * 0.05 / count) for count in (tables, tables // 4)]
    print(
        f"{tables:,} tables a cell (standard error {error[0]:.1%}); of 1,000 prompts {tables // 4:,} ({error[1]:.1%}). "
        "The last column is how many of the tables of 150 prompts carry ‡ for long tails.\n"
    )
    print("| Number | " + " | ".join(f"n = {n:,}" for n in SIZES) + " | ends below the truth (n = 150) | ‡ |")
    print("| --- |" + " ---: |" * (len(SIZES) + 2), flush=True)
    for stream, (name, simulate) in enumerate(CASES.items()):
        cells = [coverage(simulate, n, tables if n < 1_000 else tables // 4, stream=stream) for n in SIZES]
        at_150 = cells[SIZES.index(150)]
        marked = 0.0 if "share" in name else at_150.marked
        numbers = [*(percent(cell.held) for cell in cells), f"{at_150.below:.1%}", f"{marked:.0%}"]
        print(f"| {name} | " + " | ".join(numbers) + " |", flush=True)
    for p in (0.5, 0.95, 0.99, 0.999):
        cells = " | ".join(percent(single_share(p, n)) for n in SIZES)
        print(f"| share {p:g}, 1 sample (exact) | {cells} | | |", flush=True)
