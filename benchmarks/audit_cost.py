"""What an audit costs beside scoring: seconds of one processor and memory, by its parts.

    python benchmarks/audit_cost.py [PAIRS]

The pairs (10,000 by default) are of hh-mini's training split; the reward model is a function, the length of a response,
with noise.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence

import numpy as np

from rlhf_bench.audit.lists import lists_of
from rlhf_bench.audit.mistakes import described, mistakes, slices_of_pairs
from rlhf_bench.audit.pairs import PairScores, accuracies, score_pairs
from rlhf_bench.audit.probes import probe_all
from rlhf_bench.audit.stored import examined, model_part
from rlhf_bench.data import mini


class Length:
    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return np.array([float(len(text)) for text in responses])


def main(n: int) -> None:
    pairs = mini.load("train", seed=0)[:n]
    found = score_pairs(Length(), pairs)
    scores = PairScores(found.chosen + 20 * np.random.default_rng(0).normal(size=len(pairs)), found.rejected)
    start = last = time.process_time()

    def part(name: str) -> None:
        nonlocal last
        print(f"{name}: {time.process_time() - last:.1f} s")
        last = time.process_time()

    effects, idle = probe_all(Length(), pairs, scores)
    part("probes")
    examination, discovered = examined(pairs, scores, effects, idle)
    part("features, words, slices, findings, safety, near-duplicates, groups of mistakes")
    model_part(pairs, scores, lists_of(pairs, scores), examination)
    part("calibration, lists")
    accuracies(pairs, [scores])
    part("accuracy")
    rows = described(mistakes("length", "train", pairs, scores, {**slices_of_pairs(pairs), **discovered}))
    part(f"{len(rows):,} mistakes")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(pairs):,} pairs: {last - start:.1f} s and {peak:.0f} MB at most")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
