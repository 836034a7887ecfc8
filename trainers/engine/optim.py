"""Optimiser and schedule, the same for every stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from rlhf_bench.errors import NotFinite
from rlhf_bench.runtime.pool import Pool
from rlhf_bench.runtime.sharding import gather, sharded_as
from trainers.config.optimizer import OptimizerConfig
from trainers.engine.machine import Machine
from trainers.engine.muon import Muon

MUON_SHARES = 4

Named = Iterable[tuple[str, nn.Parameter]]


class Optimizer:
    """Fused AdamW, or Muon for the layers' matrices with AdamW for everything else, stepped as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer], max_norm: float, pool: Pool | None = None) -> None:
        self.parts, self.max_norm, self.pool = list(parts), max_norm, pool or Pool(None, 1)
        for group in self.groups():
            group["initial_lr"] = group["lr"]

    def groups(self) -> Iterator[dict[str, Any]]:
        for part in self.parts:
            yield from part.param_groups

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.groups() for p in group["params"]]

    @property
    def lr(self) -> float:
        """The first group's learning rate, for the log."""
        return float(next(self.groups())["lr"])

    def set_learning_rate(self, factor: float) -> None:
        """Scale every group's own learning rate."""
        for group in self.groups():
            group["lr"] = group["initial_lr"] * factor

    def clear(self) -> None:
        """Drop the gradients without a step."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, *, where: str) -> float:
        """Clip the global gradient norm, take the step, clear gradients; returns the norm before clipping.

        Raises:
            NotFinite: the norm is NaN or infinite; no weight has been touched.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        total = nn.utils.get_total_norm(gradients)
        norm = float(gather(total))
        if not math.isfinite(norm):
            self.clear()
            raise NotFinite(f"{where}: the gradient is {norm}; expected a finite number: lower the learning rate")
        if norm > self.max_norm:  # else every gradient would be multiplied by 1
            nn.utils.clip_grads_with_norm_(self.parameters, self.max_norm, total)
        list(self.pool.stream(lambda part: part.step(), self.parts))  # no two share a parameter
        self.clear()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Whole tensors: where models are sharded all processes have to call this."""
        return {str(i): gather(part.state_dict()) for i, part in enumerate(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, part in enumerate(self.parts):
            part.load_state_dict(state[str(i)])
            for parameter, own in part.state.items():
                own.update({key: sharded_as(parameter, value) for key, value in own.items() if key != "step"})


def make_optimizer(
    config: OptimizerConfig, parts: Sequence[tuple[Named, float]], machine: Machine | None = None
) -> Optimizer:
    """The optimiser of a stage over parts, each `named parameters, AdamW's learning rate`, stepped by workers.

    No weight decay on biases and norms (1-d). With `optimizer: muon` the matrices inside the layers go to Muon
    (K. Jordan et al. 2024; arXiv:2502.16982), which learns more from as many tokens; embeddings and heads never do.
    """
    groups: list[dict[str, Any]] = []
    matrices: list[nn.Parameter] = []
    for named, lr in parts:
        rest = []
        for name, p in named:
            if not p.requires_grad:
                continue
            in_a_layer = any(part.isdigit() for part in name.split("."))  # it has a number: transformer.h.0.attn
            if config.optimizer == "muon" and p.ndim == 2 and in_a_layer:
                matrices.append(p)
            else:
                rest.append(p)
        for decays in (True, False):
            chosen = [p for p in rest if (p.ndim > 1) == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": lr, "weight_decay": decay})
    optimizers: list[torch.optim.Optimizer] = []
    if groups:  # all that an adapter trains may be matrices of the layers
        betas = (config.adam_beta1, config.adam_beta2)
        optimizers.append(torch.optim.AdamW(groups, betas=betas, eps=1e-8, fused=True))
    dtype = torch.float32 if machine is None else machine.dtype
    # Muon's iterations cost a small model about as much as its gradient: several optimisers, so that workers share them
    for share in _shares(matrices):
        optimizers.append(Muon(share, lr=config.muon_lr, weight_decay=config.weight_decay, dtype=dtype))
    return Optimizer(optimizers, config.max_grad_norm, None if machine is None else machine.pool)


def _shares(matrices: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """At most MUON_SHARES lists of about equal work, whatever the number of workers: a saved state fits everywhere."""
    shares: list[list[nn.Parameter]] = [[] for _ in range(MUON_SHARES)]
    work = [0] * MUON_SHARES
    for matrix in sorted(matrices, key=lambda m: -m.numel() * min(m.shape)):
        lightest = work.index(min(work))
        shares[lightest].append(matrix)
        work[lightest] += matrix.numel() * min(matrix.shape)
    return [share for share in shares if share]


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the full learning rate at `step` (from 0): linear warm-up, then constant, linear or cosine to 0."""
    warmup = round(config.warmup_share(steps) * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if config.schedule == "linear":
        return 1.0 - done
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0
