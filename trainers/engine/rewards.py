"""Where a rollout's rewards come from: reward models, a known gold reward, Python functions, a sum or an ensemble.

    rlhf-bench train grpo --set reward.function=my_rewards:brevity
    rlhf-bench train grpo --set "reward.function=[model, checkpoints/b/reward]" --set reward.ensemble=min
    rlhf-bench train ppo --set "reward.function=[model, my_rewards:brevity]" --set "reward.weights=[1, 0.1]"

A function is called once a rollout with all prompts and all responses, `function(prompts, responses)`, two lists of as
many strings, and returns a float for each (a list, an array or a tensor). Its module may lie in the current folder.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_bench.errors import BadValue, ModelError
from rlhf_bench.files import sha256_file
from trainers.config.rewards import GOLD, MODEL, is_folder, parse_sources

Score = Callable[[Sequence[str], Sequence[str], Sequence[bool]], Tensor]  # prompts, responses, ended -> (N,)
RewardFunction = Callable[[list[str], list[str]], Any]


def load_function(name: str) -> tuple[Score, str | None]:
    """A Python reward function by `package.module:name`, checked at each call, and the SHA-256 of its module's source.

    Raises:
        BadValue: the module cannot be imported, or holds no such function.
    """
    module_name, _, path = name.partition(":")
    try:
        with _current_folder_first():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module does on import
        raise BadValue(
            f"reward.function={name}: importing {module_name} gives {_one_line(error)}; expected a module that is "
            "installed or in the current folder"
        ) from error
    function: Any = module
    for part in path.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise BadValue(
            f"reward.function={name}: {module_name} has no function {path}; expected one of prompts and responses"
        )
    file = Path(getattr(module, "__file__", None) or "")
    is_source = file.suffix == ".py" and file.is_file()
    return checked(function, name), sha256_file(file)[:16] if is_source else None


def check_reward_functions(given: str | Sequence[str]) -> None:
    """That each folder and Python function in reward.function is there. Raises BadValue where one is not."""
    for name in parse_sources(given):
        if is_folder(name):
            if not (Path(name) / "config.json").is_file():
                raise BadValue(f"reward.function: {name} is no model folder; expected one that holds a reward model")
        elif name not in (MODEL, GOLD):
            load_function(name)


def checked(function: RewardFunction, name: str) -> Score:
    """The function as a score of every response, (N,) float32 on the CPU, with its faults named.

    Raises:
        ModelError: at a call: it raised, returned another number of values, or one that is no finite number; the
            message names the row.
    """

    def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
        try:
            returned = function(list(prompts), list(responses))
            values = list(returned)
        except (Exception, SystemExit) as error:  # whatever the user's function raises; sys.exit is no way to answer
            raise ModelError(_who_raised(function, name, prompts, responses, error)) from error
        if isinstance(returned, Mapping | Set):
            raise ModelError(
                f"reward.function={name} returned a {type(returned).__name__}; expected a list of one number for each "
                "response, in their order"
            )
        if len(values) != len(responses):
            raise ModelError(
                f"reward.function={name} returned {len(values)} values for {len(responses)} responses; expected one "
                "for each"
            )
        for i, value in enumerate(values):
            number = _number(value)
            if number is None or not math.isfinite(number):
                raise ModelError(
                    f"reward.function={name} gave {_shorten(value)} for {_row(i, prompts, responses)}; expected a "
                    "finite number"
                )
        return torch.tensor([float(value) for value in values])

    return score


def gold_source(source: str) -> Score:
    """The gold reward of data for which it is known, (N,) float32 on the CPU."""
    from rlhf_bench.scorers.gold import gold_reward_for  # pandas and scipy come with it

    def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
        gold = gold_reward_for(source, prompts, responses, ended)
        if gold is None:
            raise BadValue(f"reward.function={GOLD}: {source} has no known gold reward")
        return torch.tensor(gold.total, dtype=torch.float32)

    return score


def weighted_sum(sources: Sequence[Score], weights: Sequence[float]) -> Score:
    """Sum of weight times reward, (N,); a single source of weight 1 as it is."""
    if list(weights) == [1.0]:
        return sources[0]

    def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
        parts = [weight * source(prompts, responses, ended) for source, weight in zip(sources, weights, strict=True)]
        return torch.stack(parts).sum(0)

    return score


def ensemble(
    sources: Sequence[Score], how: str, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]
) -> Score:
    """The mean or, against over-optimisation, the worst (`min`) of several rewards (Coste et al. 2023,
    arXiv:2310.02743), (N,).

    A reward's scale and offset are arbitrary, so each is first centred and scaled by its mean and standard deviation
    (ddof 1) over the given responses.

    Raises:
        ModelError: a source gives all of these responses the same.
    """
    scales = []
    for i, source in enumerate(sources):
        scores = source(prompts, responses, ended).double()
        if not scores.std() > 0:
            raise ModelError(
                f"reward.ensemble: reward {i + 1} of {len(sources)} is the same for all {len(scores)} responses of the "
                "validation split; expected one that differs between responses"
            )
        scales.append((float(scores.mean()), float(scores.std())))

    def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
        parts = torch.stack(
            [
                (source(prompts, responses, ended) - mean) / std
                for source, (mean, std) in zip(sources, scales, strict=True)
            ]
        )
        return parts.amin(0) if how == "min" else parts.mean(0)

    return score


def _who_raised(
    function: RewardFunction, name: str, prompts: Sequence[str], responses: Sequence[str], error: BaseException
) -> str:
    """The message, which names the first row that raises when each is tried alone."""
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        try:
            function([prompt], [response])
        except (Exception, SystemExit) as alone:
            return (
                f"reward.function={name} raised {_one_line(alone)} for {_row(i, prompts, responses)}; expected a "
                "finite number"
            )
    return (
        f"reward.function={name} raised {_one_line(error)} for {len(responses)} responses together, for none of them "
        "alone; expected a finite number for each"
    )


def _number(value: Any) -> float | None:
    """The number as float32, in which rewards are kept: 1e300 is infinite there."""
    try:
        return float(torch.tensor(float(value), dtype=torch.float32))
    except (TypeError, ValueError, OverflowError):
        return None


def _row(i: int, prompts: Sequence[str], responses: Sequence[str]) -> str:
    return f"row {i} of {len(responses)} (prompt {_shorten(prompts[i])}, response {_shorten(responses[i])})"


def _shorten(value: Any, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[: width // 2 - 2]}...{text[-width // 2 + 1 :]}"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """A console script does not search the current folder, where a user's own module usually is."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before
