"""What PPO and GRPO share after a rollout: minibatches, the policy's forward pass, the clipped surrogate, the updates.

A step's loss is a function of one `PolicyStep` and of the rows of a micro-batch; which function is what the two differ
in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import fmean
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from rlhf_bench.modeling.logprobs import TokenLogps, kl_k2
from rlhf_bench.modeling.tokens import Batch
from trainers.config.recipe import RolloutConfig
from trainers.engine.loop import Loop
from trainers.engine.machine import Machine
from trainers.engine.rollout import Rollout, RolloutMaker, select
from trainers.losses.policy_gradient import POLICY_TERMS, ClippedTerms, entropy_bonus, target_entropy_loss

Forward = Callable[[Batch, float], tuple[TokenLogps, Tensor | None]]  # ActorCritic's, perhaps under a wrapper
Numbers = dict[str, float]
ConfigT = TypeVar("ConfigT", bound=RolloutConfig)


class Targets(NamedTuple):
    """What one rollout is learned towards."""

    old_logps: Tensor | None  # (B, T); None: the policy still is the one that drew the rollout
    advantages: Tensor  # (B, T), or (B, 1) for one a response
    old_values: Tensor | None = None  # (B, T), of the critic
    returns: Tensor | None = None  # (B, T), for the critic
    kl_coef: float = 0.0  # in force for this rollout
    entropy: float = float("nan")  # mean of the rollout, nats a token; NaN where no entropy_target is set


@dataclass(frozen=True)
class PolicyStep(Generic[ConfigT]):
    """Everything that the loss of one optimiser step is a function of."""

    config: ConfigT
    machine: Machine
    model: Forward
    rollout: Rollout
    targets: Targets
    pieces: Sequence[Tensor]  # the step's rows of the rollout, by micro-batch
    sequences: int
    tokens: int  # of all responses of the step
    max_length: int  # tokens that a response may have


class Surrogate(NamedTuple):
    """The forward pass of one micro-batch and the policy's loss at each token."""

    out: TokenLogps  # (b, t)
    values: Tensor | None  # (b, t)
    mask: Tensor  # (b, t)
    reference_logps: Tensor  # (b, t)
    terms: ClippedTerms  # (b, t)
    numbers: Numbers  # this micro-batch's share, for the log


def update_policy(
    maker: RolloutMaker,
    model: Forward,
    loop: Loop,
    rollout: Rollout,
    targets: Targets,
    loss: Callable[[PolicyStep[ConfigT], Tensor], tuple[Tensor, Numbers]],
    config: ConfigT,
    *,
    target_kl: float | None = None,
) -> int:
    """All optimiser steps on one rollout; how many were taken, and their numbers into the log.

    With `target_kl` no more are taken once a minibatch's approximate KL is above it.
    """
    updates: list[Numbers] = []
    for rows in minibatches(config, len(rollout.rows), seed=maker.stage.seed, step=loop.step):
        step = policy_step(maker, model, config, rollout, targets, rows)
        numbers = loop.gradients(partial(loss, step), step.pieces)
        updates.append(numbers)
        if target_kl is not None and numbers["policy/approxkl_avg"] > target_kl:
            loop.optimizer.clear()  # the policy has gone as far as this rollout may take it
            break
        numbers["grad_norm"] = loop.take_step()
    loop.log(log_of_updates(updates))
    return sum("grad_norm" in numbers for numbers in updates)


def policy_step(
    maker: RolloutMaker, model: Forward, config: ConfigT, rollout: Rollout, targets: Targets, rows: Tensor
) -> PolicyStep[ConfigT]:
    """The optimiser step on these rows of a rollout."""
    return PolicyStep(
        config, maker.stage.machine, model, rollout, targets,
        pieces=maker.micro_batches(rollout.batch, rows), sequences=len(rows),
        tokens=max(1, int(rollout.batch.response_mask[rows].sum())), max_length=maker.sampling.max_new_tokens,
    )  # fmt: skip


def minibatches(config: RolloutConfig, rows: int, *, seed: int, step: int) -> Iterator[Tensor]:
    """Row numbers of each update of a rollout: every epoch a shuffle that depends on seed, step and epoch alone."""
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step * 101 + epoch)
        yield from torch.randperm(rows, generator=generator).chunk(config.minibatches)


def surrogate(step: PolicyStep[ConfigT], index: Tensor) -> Surrogate:
    """The forward pass over rows `index` of the rollout, and `config.ratio`'s policy loss at each token."""
    config, targets = step.config, step.targets
    batch = select(step.rollout.batch, index)
    mask, width = batch.response_mask, batch.ids.shape[1]
    with step.machine.autocast():
        out, values = step.model(batch, config.temperature)
    old = out.logps.detach() if targets.old_logps is None else targets.old_logps[index, :width]
    terms = POLICY_TERMS[config.ratio](
        out.logps, old, targets.advantages[index, :width], mask, low=config.cliprange, high=config.upper_cliprange
    )
    numbers = {
        "policy/approxkl_avg": kl_k2((out.logps.detach() - old) * mask).sum().item() / step.tokens,
        "val/ratio": (terms.ratio * mask).sum().item() / step.tokens,
    }
    return Surrogate(out, values, mask, step.rollout.reference_logps[index, :width], terms, numbers)


def entropy_loss(step: PolicyStep[ConfigT], entropy: Tensor) -> Tensor | None:
    """The term of the mean entropy, a scalar; None without one."""
    config = step.config
    if not config.entropy_coef:
        return None
    if config.entropy_target is None:
        return entropy_bonus(entropy, coef=config.entropy_coef)
    return target_entropy_loss(
        entropy, coef=config.entropy_coef, target=config.entropy_target, now=step.targets.entropy
    )


def log_of_updates(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One row of the log for the minibatches of a rollout: their means, and of the gradient's norms the largest.

    `val/ratio_first` and `policy/approxkl_first` are the first minibatch's: there the policy still is the one that drew
    the rollout.
    """
    columns = {key: [numbers[key] for numbers in updates if key in numbers] for key in dict.fromkeys(chain(*updates))}
    row = {key: fmean(column) for key, column in columns.items()}
    row |= {"grad_norm": max(columns["grad_norm"])} if "grad_norm" in columns else {}
    first = {"val/ratio_first": "val/ratio", "policy/approxkl_first": "policy/approxkl_avg"}
    return row | {name: columns[key][0] for name, key in first.items() if key in columns}
