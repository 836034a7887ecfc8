"""Losses of the supervised and preference stages, as pure functions of tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

__all__ = ["DpoTerms", "PairLogps", "dpo_loss", "nll_loss", "reward_loss"]


class PairLogps(NamedTuple):
    """Log-probability of each response, summed over its tokens, end-of-text included."""

    chosen: Tensor  # (B,)
    rejected: Tensor  # (B,)


class DpoTerms(NamedTuple):
    loss: Tensor  # (B,) one a pair
    chosen: Tensor  # (B,) implicit reward of the chosen response, beta * (policy - reference), detached
    rejected: Tensor  # (B,)


def nll_loss(logps: Tensor, mask: Tensor, *, tokens: int | Tensor) -> Tensor:
    """Negative log-likelihood of the tokens where mask is True, divided by `tokens` (arXiv:2203.02155).

    logps, mask: (B, T). `tokens` is the count over the whole optimiser step, not over this micro-batch, so that
    accumulated micro-batches give the gradient of the whole.
    """
    return -(logps * mask).sum() / tokens


def reward_loss(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Bradley-Terry loss of a reward model, arXiv:2009.01325 eq. in 3.4; margin from arXiv:2307.09288 eq. 2.

        loss = -log sigmoid(r_w - r_l - margin)

    chosen, rejected: (B,) scores. Returns one loss a pair, (B,).
    """
    return -F.logsigmoid(chosen - rejected - margin)


def dpo_loss(policy: PairLogps, reference: PairLogps, *, beta: float) -> DpoTerms:
    """DPO, Rafailov et al. 2023 (arXiv:2305.18290), eq. 7.

        loss = -log sigmoid( beta * [(pi_w - ref_w) - (pi_l - ref_l)] )

    All inputs are (B,); w = chosen, l = rejected.
    """
    chosen = beta * (policy.chosen - reference.chosen)
    rejected = beta * (policy.rejected - reference.rejected)
    return DpoTerms(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())
