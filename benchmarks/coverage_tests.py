"""Tests over several seeds: how often they find a difference that is not there, and one that is.

Five models that are alike, or two that differ by .25, answer 150 prompts under S seeds. A response has sd .8; each
model has an effect of the seed, and one of the prompt that all its seeds share (the interaction). The test is that of
`rlhf_bench.stats.crossed`, with Student's t for the prompts in place of its bootstrap, so that 10,000 tables are
computed at once. Beside it are Satterthwaite's degrees of freedom, and a t test over the seeds' means, which takes the
prompts as they are. With normal effects the mean squares are drawn from their Wishart distributions; with skewed ones
(lognormal, skewness 6.2) the responses are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import special

from rlhf_bench.stats import FloatArray
from rlhf_bench.stats.crossed import MeanSquares, distances, spread_of
from rlhf_bench.stats.resample import Pivots

MODELS, PROMPTS, RESPONSE_SD, GAIN = 5, 150, 0.8, 0.25
SEEDS, SEED_SDS, INTERACTIONS = (2, 3, 5), (0.0, 0.05, 0.1, 0.3), (0.0, 0.2, 0.5)
LEVELS = (0.05, 0.005, 0.001)  # the second is that of Holm's first step over 10 pairs
PAIRS = list(itertools.combinations(range(MODELS), 2))
CONTRASTS = np.array([[(m == b) - (m == a) for m in range(MODELS)] for a, b in PAIRS], dtype=np.float64)  # (pairs, M)

Table = tuple[FloatArray, MeanSquares]  # means and mean squares of the pairs' differences, (tables, pairs) each
Test = Callable[[Table, int, float], FloatArray]  # (table, seeds, level) -> True where p < level


def quadratic(w: FloatArray) -> FloatArray:
    """(tables, M, M) sums of squares and products of the models -> (tables, pairs) sums of squares of differences."""
    return np.einsum("pi,tij,pj->tp", CONTRASTS, w, CONTRASTS, optimize=True)


def wishart(g: Generator, df: int, tables: int) -> FloatArray:
    """(tables, M, M) by Bartlett's decomposition, of independent models of variance 1."""
    lower = np.tril(g.standard_normal((tables, MODELS, MODELS)), -1)
    for i in range(MODELS):
        lower[:, i, i] = np.sqrt(g.chisquare(df - i, tables))
    return lower @ lower.transpose(0, 2, 1)


def normal_tables(g: Generator, s: int, seed_sd: float, interaction: float, tables: int) -> Table:
    p = PROMPTS
    of_seed = np.sqrt(seed_sd**2 + RESPONSE_SD**2 / p) * g.standard_normal((tables, MODELS, s))
    of_prompts = interaction / np.sqrt(p) * g.standard_normal((tables, MODELS))
    seeds = np.einsum("pm,tms->tps", CONTRASTS, of_seed)
    residual = (s - 1) * (p - 1)
    squares = MeanSquares(
        p * seeds.var(axis=2, ddof=1),
        quadratic(wishart(g, p - 1, tables)) * (s * interaction**2 + RESPONSE_SD**2) / (p - 1),
        quadratic(wishart(g, residual, tables)) * RESPONSE_SD**2 / residual,
    )
    return seeds.mean(axis=2) + of_prompts @ CONTRASTS.T, squares


def skewed_tables(g: Generator, s: int, seed_sd: float, interaction: float, tables: int, at_once: int = 250) -> Table:
    found = [_skewed(g, s, seed_sd, interaction, at_once) for _ in range(0, tables, at_once)]
    squares = zip(*(squares for _, squares in found), strict=True)
    return np.concatenate([mean for mean, _ in found]), MeanSquares(*(np.concatenate(one) for one in squares))


def _skewed(g: Generator, s: int, seed_sd: float, interaction: float, tables: int) -> Table:
    def effect(sd: float, *shape: int) -> FloatArray:
        return sd * (g.lognormal(size=(tables, MODELS, *shape)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)

    y = effect(seed_sd, s, 1) + effect(interaction, 1, PROMPTS) + effect(RESPONSE_SD, s, PROMPTS)  # (T, M, S, P)
    of_seed, of_prompt = y.mean(axis=3), y.mean(axis=2)
    mean = of_seed.mean(axis=2)
    seeds = of_seed - mean[..., None]
    prompts = of_prompt - mean[..., None]
    residual = (y - of_seed[..., None] - prompts[:, :, None]).reshape(tables, MODELS, -1)

    def squares(x: FloatArray, df: int) -> FloatArray:
        return quadratic(x @ x.transpose(0, 2, 1)) / df

    p = PROMPTS
    found = squares(seeds, s - 1), squares(prompts, p - 1), squares(residual, (s - 1) * (p - 1))
    return mean @ CONTRASTS.T, MeanSquares(p * found[0], s * found[1], found[2])


def crossed(table: Table, s: int, level: float) -> FloatArray:
    mean, squares = table
    return np.abs(mean) > distances(spread_of(squares, s, PROMPTS), s, Pivots(PROMPTS - 1), level / 2)[0]


def over_seeds(table: Table, s: int, level: float) -> FloatArray:
    mean, squares = table
    return np.abs(mean) > -special.stdtrit(s - 1, level / 2) * np.sqrt(squares.seed / (s * PROMPTS))


def satterthwaite(table: Table, s: int, level: float) -> FloatArray:
    """The test that this one replaced; where a component is negative, the residual is not subtracted."""
    mean, (seed, prompt, residual) = table
    left = np.where(np.minimum(seed, prompt) < residual, 0.0, residual)
    total = seed + prompt - left
    residual_df = (s - 1) * (PROMPTS - 1)
    df = total**2 / (seed**2 / (s - 1) + prompt**2 / (PROMPTS - 1) + left**2 / residual_df)
    return np.abs(mean) > -special.stdtrit(df, level / 2) * np.sqrt(total / (s * PROMPTS))


def false_positives(test: Test, table: Table, s: int) -> list[float]:
    """The rates of single pairs at each level, and of any of the 10 after Holm."""
    found = [test(table, s, level) for level in LEVELS]
    return [*(float(one.mean()) for one in found), float(found[1].any(axis=1).mean())]


def power(test: Test, table: Table, s: int) -> float:
    """The power for one pair of models that differ by GAIN, at p < .05."""
    mean, squares = table
    return float(test((mean + GAIN, squares), s, 0.05).mean())


def print_tests(tables: int) -> None:
    error = [np.sqrt(level * (1 - level) / tables) for level in LEVELS]
    print(
        f"{tables:,} tables a row; standard errors of at most "
        f"{', '.join(f'{e:.4f}' for e in error)} (less, as 10 pairs are averaged), of Holm's .0022.\n"
    )
    head = ("Seeds", "Interaction", "Seed sd", "p < .05", "p < .005", "p < .001", "Holm", "Power")
    skewed = ("Skewed: p < .05", "p < .005", "p < .001", "Holm")
    others = ("t over seeds: Holm", "Power", "Satterthwaite: p < .001", "Holm", "Power")
    print("| " + " | ".join((*head, *skewed, *others)) + " |")
    print("|" + " ---: |" * len((*head, *skewed, *others)), flush=True)
    for s, interaction, seed_sd in itertools.product(SEEDS, INTERACTIONS, SEED_SDS):
        stream = [s, round(100 * interaction), round(100 * seed_sd)]
        table = normal_tables(np.random.default_rng(stream), s, seed_sd, interaction, tables)
        long_tails = skewed_tables(np.random.default_rng([*stream, 1]), s, seed_sd, interaction, tables)
        ours, t, old = ((*false_positives(test, table, s), power(test, table, s)) for test in TESTS)
        rates = (*ours, *false_positives(crossed, long_tails, s), *t[3:], *old[2:])
        digits = (3, 4, 4, 3, 2, 3, 4, 4, 3, 3, 2, 4, 3, 2)
        cells = [f"{rate:.{d}f}" for rate, d in zip(rates, digits, strict=True)]
        print(f"| {s} | {interaction:g} | {seed_sd:g} | " + " | ".join(cells) + " |", flush=True)


TESTS = (crossed, over_seeds, satterthwaite)
