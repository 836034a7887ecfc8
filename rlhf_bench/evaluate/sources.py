"""What an evaluation is made with: models, reward models and language models, by path and hash. Nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Reader", "Scorer", "Source"]


@dataclass(frozen=True)
class Source:
    """A model under a seed."""

    name: str
    seed: int
    path: Path
    hash: str
    training: dict[str, Any] | None
    template: str = "hh"  # the form that its prompts are given in


class Scorer(NamedTuple):
    """A reward model and the column of the scores that it fills."""

    column: str
    path: Path
    hash: str


class Reader(NamedTuple):
    """A causal language model that every response is read by: its name in `perplexity:NAME`."""

    name: str
    path: Path
    hash: str
    template: str  # the form that its prompts are given in
