"""Coverage of the intervals with a method of their own: differences of paired shares, self-BLEU; and claims of a table.

With one sample a prompt the coverage is a sum over the trinomial distribution. Self-BLEU's texts are sentences of 12
words drawn from 10; their expected self-BLEU is the mean of the tables themselves.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import multinomial

from rlhf_bench import stats
from rlhf_bench.evaluate.summary import metric_difference
from rlhf_bench.scorers.self_bleu import self_bleu
from rlhf_bench.stats import FloatArray
from rlhf_bench.types import Estimate

PROMPTS = (4, 12, 42, 64)
TEXTS = (40, 150)
SHARES = {"0.3 gained, 0.1 lost": (0.3, 0.1), "0.05 gained, 0.05 lost": (0.05, 0.05), "0.8 gained": (0.8, 0.0)}
MODELS = [(0.5, 0.5, 1), (0.97, 0.97, 1), (0.99, 0.95, 1), (0.999, 0.99, 1), (0.97, 0.97, 4), (0.99, 0.95, 4)]
ALIKE_SHARES = {"ended": 0.97, "refused": 0.1}
WORDS = ("the", "a", "cat", "dog", "sees", "hears", "big", "small", "now", "here")


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def exact(shares: tuple[float, float], n: int) -> tuple[float, float, float]:
    """Coverage of Tango's and of the t interval with one sample a prompt; how often the latter leaves [-1, 1]."""
    gained, lost = shares
    tango = plain = outside = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = float(multinomial.pmf([b, c, n - b - c], n, [gained, lost, 1 - gained - lost]))
            if chance < 1e-9:
                continue
            values = np.repeat([1.0, -1.0, 0.0], [b, c, n - b - c])
            old = stats.mean_estimate(values)
            tango += chance * holds(stats.crossed_share_difference(values[None, :, None]), gained - lost)
            plain += chance * holds(old, gained - lost)
            outside += chance * (old.low < -1 or old.high > 1)
    return tango, plain, outside


def sampled(shares: tuple[float, float], n: int, tables: int) -> float:
    """Coverage with 4 samples a prompt, a third of the prompts never changing."""
    gained, lost = (1.5 * share if sum(shares) < 0.6 else share for share in shares)
    same = 1 - gained - lost
    still = 1 / 3 if sum(shares) < 0.6 else 0.0
    generator = np.random.default_rng([n, round(100 * gained)])
    held = 0
    for _ in range(tables):
        drawn = generator.choice([1.0, -1.0, 0.0], (1, n, 4), p=[gained, lost, same])
        drawn *= generator.random((1, n, 1)) >= still
        held += holds(stats.crossed_share_difference(drawn), shares[0] - shares[1])
    return held / tables


def of_models(a: float, b: float, n: int, samples: int, tables: int) -> tuple[float, float]:
    """Coverage of the difference of two models' shares, drawn independently, by `share_difference` and as a mean's."""
    generator = np.random.default_rng([n, samples, round(1e4 * a), round(1e4 * b)])
    held = [0, 0]
    for _ in range(tables):
        x, y = ((generator.random((1, n, samples)) < share).astype(float) for share in (a, b))
        found = stats.share_difference(x, y), stats.difference(x[0], y[0])
        held = [count + holds(f.estimate, a - b) for count, f in zip(held, found, strict=True)]
    return held[0] / tables, held[1] / tables


def sentences(n: int, tables: int) -> tuple[float, float]:
    """Coverage of self-BLEU's interval, and its mean standard error over the sd of self-BLEU itself."""
    generator = np.random.default_rng(n)
    values: list[FloatArray] = [
        self_bleu([" ".join(generator.choice(WORDS, 12)) for _ in range(n)]) for _ in range(tables)
    ]
    truth = float(np.mean([own.mean() for own in values]))
    claimed = float(np.mean([own.std(ddof=1) / math.sqrt(n) for own in values]))
    found = [stats.mean_estimate(own) for own in values]
    return sum(holds(e, truth) for e in found) / tables, claimed / float(np.std([e.value for e in found], ddof=1))


def claims(n: int, tables: int) -> tuple[float, float]:
    """How often one of 7 metrics of a model twice differs by Holm over the table, and by no correction at all."""
    generator = np.random.default_rng([n, 7])
    by_table = by_metric = 0
    for _ in range(tables):
        p_values = []
        for metric in ("reward", "gold", "kl_exact", "n_tokens", "rougeL", "ended", "refused"):
            if metric in ALIKE_SHARES:
                pair = (generator.random((2, n)) < ALIKE_SHARES[metric]).astype(float)
            elif metric == "rougeL":
                pair = generator.beta(2, 4, (2, n))
            else:
                pair = generator.gamma(2, 1, n) + generator.standard_normal((2, n))
            a, b = pair[:, None, :, None]  # (S, P, K): one seed, one sample
            p_values.append(metric_difference(metric, a, b).p_paired)
        by_table += min(stats.holm(p_values)) < 0.05
        by_metric += min(p_values) < 0.05
    return by_table / tables, by_metric / tables


def print_paired(tables: int) -> None:
    print(f"{tables} tables a cell where it is simulated (standard error {math.sqrt(0.95 * 0.05 / tables):.1%}):\n")
    print("| Difference of paired shares | " + " | ".join(f"n = {n}" for n in PROMPTS) + " |")
    print("| --- |" + " ---: |" * len(PROMPTS))
    for name, shares in SHARES.items():
        rows = [exact(shares, n) for n in PROMPTS]
        print(f"| {name}, 1 sample (exact) | " + " | ".join(f"{row[0]:.1%}" for row in rows) + " |")
        print("| the mean's interval, for comparison | " + " | ".join(f"{row[1]:.1%}" for row in rows) + " |")
        print("| how often that one leaves [-1, 1] | " + " | ".join(f"{row[2]:.1%}" for row in rows) + " |")
        print(f"| {name}, 4 samples | " + " | ".join(f"{sampled(shares, n, tables):.1%}" for n in PROMPTS) + " |")


def print_of_models(tables: int) -> None:
    print("| Two models' shares | n = 20 | the mean's | n = 150 | the mean's |\n| --- |" + " ---: |" * 4)
    for a, b, samples in MODELS:
        found = [number for n in (20, 150) for number in of_models(a, b, n, samples, tables)]
        print(f"| {a:g} and {b:g}, {samples} a prompt | " + " | ".join(f"{x:.1%}" for x in found) + " |", flush=True)


def print_self_bleu(tables: int) -> None:
    print("| Self-BLEU of sentences | coverage | standard error, claimed / true |\n| --- | ---: | ---: |")
    for n in TEXTS:
        covered, width = sentences(n, tables)
        print(f"| {n} texts | {covered:.1%} | {width:.2f} |", flush=True)


def print_claims(tables: int) -> None:
    print("| Prompts | by Holm over the table | without a correction |\n| ---: | ---: | ---: |")
    for n in (20, 150):
        print(f"| {n} | " + " | ".join(f"{share:.1%}" for share in claims(n, tables)) + " |", flush=True)
