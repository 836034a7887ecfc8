"""What an evaluation is made with: models, response files and models that score, by path and hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rlhf_bench.data.responses import Answer
from rlhf_bench.errors import BadValue
from rlhf_bench.types import stable_hash

if TYPE_CHECKING:
    from rlhf_bench.modeling.reward_model import RewardModel

SERVER = "server:"


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
class ServerModel:
    """A model behind a server of the OpenAI API, under a seed. `weights`: the same model here, for its KL."""

    name: str
    seed: int
    model: str  # as the server knows it
    base_url: str
    weights: ModelSource | None
    template: str  # "chat": the server's own, by the chat API; else one that is written here, by the completions API

    @property
    def path(self) -> str:
        return f"{SERVER}{self.model}"

    @property
    def hash(self) -> str:
        own = self.weights.hash if self.weights else ""
        return stable_hash(self.base_url, self.model, own)

    @property
    def prompt(self) -> Mapping[str, Any]:
        return {"api": "chat" if self.template == "chat" else "completions"}


def server_model(path: str) -> tuple[str, str | None] | None:
    """("MODEL", "PATH") of "server:MODEL,weights=PATH"; None for a path of another kind. Raises BadValue."""
    if not path.startswith(SERVER):
        return None
    model, comma, weights = path.removeprefix(SERVER).partition(",weights=")
    if not model or (comma and not weights):
        raise BadValue(f"--model: given {path!r}, expected server:MODEL or server:MODEL,weights=PATH")
    return model, weights or None


def loadable(models: Sequence[ModelSource], served: Sequence[ServerModel]) -> list[ModelSource]:
    """The models with weights that are here: those that are sampled here, and those behind a server."""
    return [*models, *(model.weights for model in served if model.weights is not None)]


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
    opened: RewardModel | None = None  # loaded already, to be checked


class LanguageModelSource(NamedTuple):
    """A causal language model that scores every response: its name in `perplexity:NAME`."""

    name: str
    path: Path
    hash: str
    template: str
