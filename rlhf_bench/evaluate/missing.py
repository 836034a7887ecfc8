"""Why a number is missing from a table: each reason is said once, below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.suite import Suite
from rlhf_bench.metrics.registry import READ_PREFIXES, reader_columns
from rlhf_bench.metrics.summary import NO_MODEL

__all__ = ["missing_of_readers", "missing_of_texts", "missing_pool", "unread"]

_OF_MODELS = ("kl_exact", "kl_k1", "kl_k3", "kl_forward", "perplexity", "perplexity_reference")


def missing_of_texts(names: Sequence[str], anchors: Sequence[str]) -> dict[tuple[str, str], str]:
    """Why a response file lacks what a model has; only what is lacking in the end is shown."""
    reasons: dict[tuple[str, str], str] = {}
    for name in names:
        reasons |= dict.fromkeys(
            [(name, metric) for metric in _OF_MODELS], "a response file: this needs the model itself"
        )
        reasons[name, "ended"] = "the response file does not say how its responses ended"
    if "chosen" in anchors and "rejected" not in anchors:
        reasons["chosen", "ended"] = "a file's reference texts: nothing says how they ended"
    if names:
        reasons |= {(anchor, metric): NO_MODEL for anchor in anchors for metric in _OF_MODELS}
        counted = "nobody counted the tokens: that needs the tokenizer of a reference model"
        reasons |= {(name, "n_tokens"): counted for name in (*names, *anchors)}
    if "chosen" not in anchors:
        reasons |= {("all", metric): "no reference texts to compare with" for metric in ("rouge1", "rouge2", "rougeL")}
        reasons["all", "perplexity"] = "no reference texts to score"
    return reasons


def missing_pool(
    suite: Suite, reference: str, sampled: Sequence[tuple[str, int]], scorers: Mapping[int, Sequence[Any]]
) -> dict[tuple[str, str], str]:
    """Why there is no best-of-n of the reference though it was asked for; nothing where there is.

    `sampled`: (name, seed) of the models that are here to be sampled; `scorers`: each seed's reward models.

    Raises BadValue for a pool of one.
    """
    if suite.best_of_n == 1:
        raise BadValue("best_of_n: given 1, expected at least 2 responses a prompt, such as 64, or 0 for none")
    why = None
    if any((reference, seed) not in sampled for seed in scorers):
        why = "the reference is not here under every seed to be sampled"
    elif not all(scorers.values()):
        why = "no reward model under every seed to choose by"
    return {(reference, "best_of_n"): why} if suite.best_of_n and why else {}


def missing_of_readers(rows: pd.DataFrame, readers: Sequence[str]) -> dict[tuple[str, str], str]:
    """Why a model has no perplexity under a language model that was asked for it."""
    return {
        (str(model), f"{prefix}{reader}"): f"each response is longer than {reader} can read"
        for reader in readers
        for model, found in rows.groupby("model")[reader_columns(reader)[0]]
        if found.isna().all()
        for prefix in READ_PREFIXES
    }


def unread(rows: pd.DataFrame, readers: Sequence[str]) -> dict[str, str]:
    """Metric -> how many responses it leaves out, each longer than its language model can read."""
    counts = {reader: int(rows[reader_columns(reader)[0]].isna().sum()) for reader in readers}
    return {
        f"{prefix}{reader}": f"without {n:,} of {len(rows):,} responses, which are longer than {reader} can read"
        for reader, n in counts.items()
        if n
        for prefix in READ_PREFIXES
    }
