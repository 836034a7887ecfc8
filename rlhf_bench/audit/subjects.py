"""What can be audited: reward models, the implicit reward of a policy, ensembles, and functions of Python.

A reward model is given as one of

    PATH                        a folder or a hub name
    dpo:POLICY,REFERENCE[,BETA] the implicit reward of a policy trained against a reference
    mean:PATH,PATH[,...]        an ensemble: the mean of the rewards of its members
    a function                  of prompts and responses, two lists of texts, that returns a number for each (in Python)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rlhf_bench.audit.implicit import ImplicitReward
from rlhf_bench.audit.pairs import PairScorer, rewards
from rlhf_bench.errors import BadValue, NotFinite
from rlhf_bench.modeling.checkpoints import (
    checkpoint_hash,
    find_run,
    open_checkpoint,
    prompt_form,
    read_training,
    run_seeds,
    stage_path,
)
from rlhf_bench.modeling.models import to_reward_model
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.stats import FloatArray

RewardFunction: TypeAlias = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
Given: TypeAlias = str | Path | RewardFunction


@dataclass(frozen=True)
class Subject:
    """What is audited. `training` is empty where it was not trained here, `hash` None where its files are not."""

    name: str  # in tables: "seed 0" of a run's, else the name that was given
    path: str
    load: Callable[[], PairScorer]
    hash: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    untrained: Callable[[], PairScorer | None] = lambda: None
    is_toy: bool = False  # of a toy recipe, or an ensemble with a member of one

    @property
    def seed(self) -> int | None:
        """Of its training; None where it is not known."""
        return int(self.training["seed"]) if "seed" in self.training else None


@dataclass(frozen=True)
class Ensemble:
    """The mean of its members' rewards."""

    members: Sequence[PairScorer]

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        found: FloatArray = np.mean([rewards(member, prompts, responses) for member in self.members], axis=0)
        return found


@dataclass(frozen=True)
class FunctionReward:
    """A function of Python as a reward model; what it returns is checked."""

    name: str
    function: RewardFunction

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        found = np.asarray(self.function(prompts, responses), dtype=np.float64)
        if found.shape != (len(responses),):
            raise BadValue(
                f"{self.name} returned numbers of shape {found.shape} for {len(responses)} responses; expected one each"
            )
        if not np.isfinite(found).all():
            at = int(np.flatnonzero(~np.isfinite(found))[0])
            raise NotFinite(f"{self.name} gave {found[at]} for response {at}; expected a finite number")
        return found


def subjects_of_run(run: str, checkpoints: Path) -> list[Subject]:
    """A run's reward model under each of its seeds."""
    folder = find_run(checkpoints, run)
    found = [open_checkpoint(stage_path(folder, "reward", s)) for s in run_seeds(folder)]
    return [_reward_model(f"seed {c.seed}", str(c.path), c.hash, c.training) for c in found]


def subject_of(name: str, given: Given) -> Subject:
    """What is given as a reward model; see the module. Raises BadValue for a form that is none of these."""
    if callable(given):
        return Subject(name, name, lambda: FunctionReward(name, given))
    kind, colon, rest = str(given).partition(":")
    if colon and kind == "dpo":
        return _implicit(name, rest)
    if colon and kind == "mean":
        members = [subject_of(name, path) for path in rest.split(",") if path]
        if len(members) < 2:
            raise BadValue(f"--reward-model: given {given}, expected two or more members, mean:PATH,PATH")
        is_toy = any(member.is_toy for member in members)
        return Subject(name, str(given), lambda: Ensemble([member.load() for member in members]), is_toy=is_toy)
    path = Path(given)
    training = read_training(path) or {}
    digest = None
    if training:
        digest = open_checkpoint(path).hash
    elif path.is_dir() and (path / "config.json").exists():
        digest = checkpoint_hash(path)
    return _reward_model(name, str(given), digest, training)


def _reward_model(name: str, path: str, digest: str | None, training: Mapping[str, Any]) -> Subject:
    data = training.get("config", {}).get("data", {})
    stored = {"max_prompt": data.get("max_prompt_tokens"), "max_response": data.get("max_response_tokens")}
    limits: dict[str, Any] = {
        key: int(value) for key, value in stored.items() if value
    }  # without them its own limits hold

    def untrained() -> RewardModel | None:
        """What it was before its first step: the parent's backbone under a fresh head; None without the parent."""
        for parent in (Path(path).parent / stage for stage in training.get("parents", {})):
            if parent.is_dir():
                model, tokenizer = to_reward_model(parent, seed=int(training["seed"]))
                form = prompt_form(path)
                return RewardModel(model, tokenizer, **limits, template=form, name=f"{parent} under a fresh head")
        return None

    is_toy = bool(training.get("toy"))
    return Subject(name, path, lambda: RewardModel.load(path, **limits), digest, training, untrained, is_toy)


def _implicit(name: str, rest: str) -> Subject:
    parts = [part.strip() for part in rest.split(",")]
    if len(parts) not in (2, 3) or not all(parts):
        raise BadValue(f"--reward-model: given dpo:{rest}, expected dpo:POLICY,REFERENCE or dpo:POLICY,REFERENCE,BETA")
    policy, reference = parts[:2]
    training = read_training(Path(policy)) or {}
    beta = _beta(parts[2]) if len(parts) == 3 else training.get("config", {}).get("dpo", {}).get("beta")
    if beta is None:
        raise BadValue(f"the beta of {policy} is not known from a training.json; give it: dpo:{policy},{reference},0.1")
    digest = open_checkpoint(Path(policy)).hash if training else None
    return Subject(
        name, f"dpo:{rest}", lambda: ImplicitReward.load(policy, reference, beta=float(beta)), digest, training,
        is_toy=bool(training.get("toy")),
    )  # fmt: skip


def _beta(text: str) -> float:
    try:
        beta = float(text)
    except ValueError:
        beta = math.nan
    if not 0 < beta < math.inf:
        raise BadValue(f"beta: given {text!r}, expected a number above 0, such as 0.1")
    return beta
