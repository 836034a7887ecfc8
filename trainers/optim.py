"""Optimiser and schedule, the same for every stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from rlhf_bench.errors import NotFinite
from trainers.recipe import OptimizerConfig

__all__ = ["clip_and_step", "learning_rate_factor", "make_optimizer", "set_learning_rate"]


def make_optimizer(
    config: OptimizerConfig, parts: Sequence[tuple[Iterable[tuple[str, nn.Parameter]], float]]
) -> torch.optim.AdamW:
    """Fused AdamW over parts, each `named parameters, learning rate`; no weight decay on biases and norms (1-d)."""
    groups: list[dict[str, Any]] = []
    for named, lr in parts:
        parameters = [p for _, p in named if p.requires_grad]
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": lr, "initial_lr": lr, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(config.adam_beta1, config.adam_beta2), eps=1e-8, fused=True)


def learning_rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the full learning rate at `step` (from 0): linear warm-up, then constant, linear or cosine to 0."""
    warmup = round(config.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if config.schedule == "linear":
        return 1.0 - done
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Scale every group's own learning rate; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def clip_and_step(optimizer: torch.optim.Optimizer, max_norm: float, *, where: str) -> float:
    """Clip the global gradient norm, take the step, clear gradients; returns the norm before clipping.

    Raises:
        NotFinite: the norm is NaN or infinite; no weight has been touched.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(parameters, max_norm))
    if not math.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        raise NotFinite(f"{where}: the gradient is {norm}; expected a finite number: lower the learning rate")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
