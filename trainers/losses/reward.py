"""Losses of the reward model, as pure functions of tensors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def reward_loss(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Bradley-Terry loss of a reward model, arXiv:2009.01325 eq. in 3.4; margin from arXiv:2307.09288 eq. 2.

        loss = -log sigmoid(r_w - r_l - margin)

    chosen, rejected: (B,) scores. Returns one loss per pair, (B,).
    """
    return -F.logsigmoid(chosen - rejected - margin)


def center_penalty(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Regularises a pair's mean score, which the Bradley-Terry loss leaves free, to 0 (arXiv:2312.09244, section 4).

        penalty = (r_w + r_l)^2

    chosen, rejected: (B,) scores. Returns one a pair, (B,).
    """
    return (chosen + rejected) ** 2
