"""Coverage by simulation: how often a 95 % interval holds the truth, for each kind of number, n and kind of tail.

    python benchmarks/coverage.py [TABLES]

Prints the table of docs/coverage.md from TABLES simulated tables a cell (default 1,000), each cell from a stream of
its own. Shares of one sample a prompt are not simulated: their coverage is a sum over the binomial distribution.
Intervals are those of the evaluation, from 2,000 resamples; the lognormal has sigma 1 (skewness 6.2).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy.stats import binom

from rlhf_bench import stats
from rlhf_bench.stats.cautions import has_long_tails
from rlhf_bench.stats.resample import resampling
from rlhf_bench.types import Estimate

SIZES = (30, 150, 1_000)
Simulate = Callable[[Generator, int], tuple[Estimate, float]]  # (generator, prompts) -> estimate, truth


def light_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.standard_normal(n)), 0.0


def heavy_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.lognormal(size=n)), math.exp(0.5)


def sampled_mean(g: Generator, n: int) -> tuple[Estimate, float]:
    return stats.mean_estimate(g.standard_normal((n, 1)) + g.standard_normal((n, 4))), 0.0


def share(p: float) -> Simulate:
    """4 samples a prompt, whose own share varies from prompt to prompt."""

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


def three_seeds(seed_sd: float) -> Simulate:
    def simulate(g: Generator, n: int) -> tuple[Estimate, float]:
        cells = seed_sd * g.standard_normal((3, 1)) + g.standard_normal((1, n)) + 0.5 * g.standard_normal((3, n))
        return stats.crossed(cells), 0.0

    return simulate


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
    "mean, 3 seeds that hardly differ (sd 0.01)": three_seeds(0.01),
    "mean, 3 seeds that differ (sd 0.3)": three_seeds(0.3),
    "share 0.99, 4 samples": share(0.99),
    "share 0.999, 4 samples": share(0.999),
}


EXACT = {f"share {p:g}, 1 sample (exact)": p for p in (0.5, 0.95, 0.99, 0.999)}


def coverage(simulate: Simulate, n: int, tables: int, *, stream: int) -> float:
    generator = np.random.default_rng([stream, n])
    held = 0
    for _ in range(tables):
        estimate, truth = simulate(generator, n)
        held += estimate.low <= truth <= estimate.high
    return held / tables


def marked(simulate: Simulate, n: int, tables: int, *, stream: int) -> float:
    """How often the tables of `coverage` carry the mark of long tails, which does not depend on the resamples."""
    generator = np.random.default_rng([stream, n])
    with resampling(100):
        return sum(has_long_tails(simulate(generator, n)[0]) for _ in range(tables)) / tables


def print_row(name: str, covered: list[float]) -> None:
    cells = [f"{c:.1%}" if 0.93 <= c <= 0.97 else f"**{c:.1%}**" for c in covered]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def print_marks(tables: int) -> None:
    print("\nShare of the same tables that carry ‡ for long tails, where it is not 0:\n")
    print("| Number | " + " | ".join(f"n = {n:,}" for n in SIZES) + " |")
    print("| --- |" + " ---: |" * len(SIZES), flush=True)
    for stream, (name, simulate) in enumerate(CASES.items()):
        shares = [marked(simulate, n, tables, stream=stream) for n in SIZES] if "share" not in name else [0.0]
        if any(shares):
            print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |", flush=True)


def main(tables: int = 1_000) -> None:
    began = time.perf_counter()
    error = math.sqrt(0.95 * 0.05 / tables)
    print("# Coverage of the 95 % intervals\n")
    print(
        f"Share of {tables:,} simulated tables whose interval holds the truth (standard error {error:.1%}), by prompts."
    )
    print("A value in bold lies outside 93 to 97 %.\n")
    print("| Number | " + " | ".join(f"n = {n:,}" for n in SIZES) + " |")
    print("| --- |" + " ---: |" * len(SIZES), flush=True)
    for stream, (name, simulate) in enumerate(CASES.items()):
        print_row(name, [coverage(simulate, n, tables, stream=stream) for n in SIZES])
    for name, p in EXACT.items():
        print_row(name, [single_share(p, n) for n in SIZES])
    print_marks(tables)
    print(f"\nMade in {time.perf_counter() - began:.0f} s on one core by:\n")
    print(f"    python benchmarks/coverage.py {tables}")


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
