"""Compression ratio: how much a model's responses to different prompts repeat each other's characters.

Shaib et al. 2024, "Standardizing the Measurement of Text Diversity" (arXiv:2403.00553): the size of all texts together
over their size once compressed; higher is less diverse. It grows with the number of bytes, so that every model of an
evaluation has the same number of them: its texts are joined and cut after `Corpus.n_bytes`.

Its interval comes from a jackknife over GROUPS groups of prompts, each left out in turn with the remaining bytes again
the same. A text gets theta + sqrt(N (GROUPS - 1)) (mean of theta without a group - theta without its own), so that the
mean of the values is theta and the squared standard error of that mean the jackknife's variance, which errs on the wide
side: over 60 draws of 40 and of 150 texts it was 1.3 times as wide as the spread of the number itself.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from rlhf_bench.scorers.base import Columns, Corpus, Metric, Missing, Scorer, Values

GROUPS = 20
FEWEST = 1_000  # bytes below which the compressed size is mostly the format's own
LEVEL = 9


def compression_ratio(texts: Sequence[str], n_bytes: int) -> Values:
    """(N,) linearised values of N texts, with the compression ratio of their first `n_bytes` bytes as their mean."""
    groups = np.arange(len(texts)) % min(GROUPS, len(texts))
    n_groups = int(groups.max()) + 1
    kept = n_bytes * (n_groups - 1) // n_groups
    parts = ([t for t, group in zip(texts, groups, strict=True) if group != left_out] for left_out in range(n_groups))
    without = np.array([_ratio(part, kept) for part in parts])
    influence = (without.mean() - without)[groups]
    scale = math.sqrt(len(texts) * (n_groups - 1))
    values: Values = _ratio(texts, n_bytes) + scale * (influence - influence.mean())
    return values


def _ratio(texts: Sequence[str], n_bytes: int) -> float:
    data = "\n".join(texts).encode()[:n_bytes]
    return len(data) / len(zlib.compress(data, LEVEL))


class CompressionScorer(Scorer):
    order = 62
    metrics = (
        Metric(
            "compression_ratio", "Compression", "", False, 2,
            "bytes of one response a prompt over their bytes compressed (zlib), equally many bytes of each model",
            bounds=(0.0, math.inf), compared=True, tables={"summary": 104},
        ),
    )  # fmt: skip

    def corpus(self, corpus: Corpus) -> Columns:
        if len(corpus.texts) < 2 or corpus.n_bytes < FEWEST:
            why = f"fewer than 2 prompts, or some model has fewer than {FEWEST:,} bytes of responses"
            return {"compression_ratio": Missing(why)}
        if sum(len(text.encode()) for text in corpus.texts) < corpus.n_bytes:  # every response is empty
            return {"compression_ratio": Missing("every response is empty")}
        return {"compression_ratio": compression_ratio(corpus.texts, corpus.n_bytes)}


SCORER = CompressionScorer()
