"""Tables of verdicts, as the run loop writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.stats import FloatArray

SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}


def row(prompt: object, order: str, what: str, **other: Any) -> dict[str, Any]:
    """One question; `what` is win, tie or loss of the model, or a status."""
    winner = None
    if what in SCORES:
        winner = "tie" if what == "tie" else "first" if (what == "win") == (order == "model_first") else "second"
    return {
        "model": "ppo",
        "baseline": "base",
        "seed": 0,
        "prompt_id": str(prompt),
        "sample": 0,
        "order": order,
        "status": "read" if winner else what,
        "winner": winner,
        "soft": None,
    } | other


def both(prompt: object, when_first: str, when_second: str, **other: Any) -> list[dict[str, Any]]:
    return [row(prompt, "model_first", when_first, **other), row(prompt, "baseline_first", when_second, **other)]


def table(whats: Sequence[tuple[str, str]], **other: Any) -> pd.DataFrame:
    """A prompt each, in order."""
    return pd.DataFrame([r for i, (a, b) in enumerate(whats) for r in both(f"{i:04d}", a, b, **other)])


def pairs_frame(outcomes: FloatArray, *, model: str = "ppo", baseline: str = "base", **columns: Any) -> pd.DataFrame:
    """Folded pairs from (S, P, K) outcomes, NaN for an unreadable one; columns of the same shape beside them."""
    s, p, k = np.indices(outcomes.shape)
    y = outcomes.ravel()
    return pd.DataFrame(
        {
            "model": model,
            "baseline": baseline,
            "seed": s.ravel(),
            "prompt_id": [f"{i:05d}" for i in p.ravel()],
            "sample": k.ravel(),
            "outcome": y,
            "why": np.where(np.isnan(y), "unreadable", np.where(y == 0.5, "disagree", "agree")),
            "least": np.where(np.isnan(y), 0.0, y),
            "most": np.where(np.isnan(y), 1.0, y),
            "soft": np.nan,
            "when_first": y,
            "when_second": np.where(y == 0.5, 0.5, y),
        }
        | {name: np.broadcast_to(values, outcomes.shape).ravel() for name, values in columns.items()}
    )
