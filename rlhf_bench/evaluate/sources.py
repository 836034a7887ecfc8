"""What an evaluation is made with: models, response files and models that score, by path and hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.data.responses import Answer

__all__ = ["LanguageModelSource", "ModelSource", "ResponseSet", "RewardModelSource"]


@dataclass(frozen=True)
class ModelSource:
    """A model under a seed."""

    name: str
    seed: int
    path: Path
    hash: str
    training: dict[str, Any] | None
    template: str = "hh"  # the template of its prompts
    prompt: Mapping[str, Any] = field(default_factory=dict)  # what the manifest records of the form of its prompts


@dataclass(frozen=True)
class ResponseSet:
    """A model of which only responses are known, under a seed."""

    name: str
    seed: int
    path: Path
    hash: str
    by_prompt: Mapping[str, Sequence[Answer]]


class RewardModelSource(NamedTuple):
    column: str  # of the scores, which it fills
    path: Path
    hash: str
    template: str | None = None  # that the request gives; None: the model's own
    form: str = "hh"  # in which it reads responses


class LanguageModelSource(NamedTuple):
    """A causal language model that scores every response: its name in `perplexity:NAME`."""

    name: str
    path: Path
    hash: str
    template: str
