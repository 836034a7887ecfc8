"""Do the audit's intervals hold the truth, and does its false discovery rate hold?

    python benchmarks/audit_coverage.py [--worlds 600]

A world has 1,000 pairs with eight features; the worth of a response is x0 - x1 / 2, labels are drawn from it (Bradley
and Terry), and the reward is the worth, a fault in features 2 and 3, and noise. The truth is what 400,000 pairs give.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from scipy import special

from rlhf_bench.audit.promise import promised
from rlhf_bench.audit.regression import Payments, payments
from rlhf_bench.audit.regression_fit import groups_of
from rlhf_bench.audit.slices import Slice, feature_slices, measure_slice
from rlhf_bench.stats import FloatArray, benjamini_hochberg

FEATURES = [f"x{k}" for k in range(8)]
FAULT = 0.5
PAIRS, TRUTH = 1000, 400_000


def world(seed: int, n: int, *, fault: float) -> tuple[FloatArray, FloatArray]:
    """Differences (n, 8) and margins (n,), chosen minus rejected."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(FEATURES)))
    worth = x[:, 0] - 0.5 * x[:, 1]
    sign = np.where(rng.random(n) < special.expit(worth), 1.0, -1.0)
    reward = worth + fault * (x[:, 2] - x[:, 3]) + 0.5 * rng.normal(size=n)
    return x * sign[:, None], sign * reward


def measured(x: FloatArray, margins: FloatArray) -> tuple[Payments, list[Slice]]:
    prompts = [str(i) for i in range(len(x))]
    paid = payments(x, margins, FEATURES, prompts)
    scaled = x / np.array([row.sd for row in paid.coefficients])
    promise = promised(margins, scaled)
    preferred = x * np.where(margins >= 0, 1.0, -1.0)[:, None]
    masks = feature_slices(preferred, FEATURES, "preferred")
    groups = groups_of(prompts)
    found = [measure_slice(name, mask, margins, promise, groups) for name, mask in masks.items()]
    return paid, [each for each in found if each is not None]


def lines(worlds: int) -> Iterator[str]:
    yield "| intervals of | without a fault | with a fault |"
    yield "| --- | ---: | ---: |"
    shares, false = {}, []
    for fault in (0.0, FAULT):
        truth, true_slices = measured(*world(-1 % 2**32, TRUTH, fault=fault))
        gaps = {each.name: each.gap for each in true_slices}
        covered: dict[str, list[bool]] = defaultdict(list)
        for seed in range(worlds):
            paid, slices = measured(*world(seed, PAIRS, fault=fault))
            for row, true in zip(paid.coefficients, truth.coefficients, strict=True):
                for name in ("model", "labels", "difference"):
                    low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
                    covered[name].append(low <= getattr(true, name) <= high)
            covered["slice"] += [s.gap_low <= gaps[s.name] <= s.gap_high for s in slices]
            if fault:
                found = [q < 0.05 for q in benjamini_hochberg([row.p for row in paid.coefficients])]
                false.append(sum(found[:2] + found[4:]) / max(sum(found), 1))
        shares[fault] = {name: np.mean(values) for name, values in covered.items()}
    titles = {
        "model": "what the model pays", "labels": "what the labels pay", "difference": "their difference",
        "slice": "a slice's gap",
    }  # fmt: skip
    for name, title in titles.items():
        yield f"| {title} | {shares[0.0][name]:.1%} | {shares[FAULT][name]:.1%} |"
    yield ""
    yield f"False discoveries among features at q < .05, two of eight being real: {np.mean(false):.1%}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worlds", type=int, default=600)
    for line in lines(parser.parse_args().worlds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
