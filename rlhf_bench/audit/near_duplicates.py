"""Pairs of responses that hardly differ: a mistake there says little about a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

THRESHOLD = 0.9
"""From this similarity of characters two responses are near-duplicates: 2 M / T of the runs of characters that match
(Ratcliff & Obershelp 1988), without regard to case and white space."""


def near_duplicates(
    chosen: Sequence[str], rejected: Sequence[str], *, threshold: float = THRESHOLD
) -> npt.NDArray[np.bool_]:
    """Which pairs are near-duplicates, (N,) of bool.

    Upper bounds of the similarity, of lengths and then of the characters in any order, settle nearly all pairs quickly.
    """
    return np.array([_is_near(a, b, threshold) for a, b in zip(chosen, rejected, strict=True)], dtype=bool)


def _is_near(first: str, second: str, threshold: float) -> bool:
    a, b = (" ".join(text.lower().split()) for text in (first, second))
    if a == b:
        return True
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    return (
        matcher.real_quick_ratio() >= threshold and matcher.quick_ratio() >= threshold and matcher.ratio() >= threshold
    )
