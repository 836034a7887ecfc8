"""Losses of the language models and of the reward model, worked by hand."""

from __future__ import annotations

import pytest
import torch

from trainers.losses.language_model import nll_loss
from trainers.losses.reward import center_penalty, reward_loss


def test_nll_loss_worked_by_hand() -> None:
    logps = torch.tensor([[-9.0, -1.0, -2.0], [-9.0, -3.0, -9.0]])
    mask = torch.tensor([[False, True, True], [False, True, False]])
    assert nll_loss(logps, mask, tokens=3).item() == 2.0  # (1 + 2 + 3) / 3
    # a mean over all tokens, not a mean of the rows' means: (1.5 + 3) / 2 would be 2.25
    # as one of two micro-batches of a step of 6 tokens:
    assert nll_loss(logps, mask, tokens=6).item() == 1.0


def test_reward_loss_worked_by_hand() -> None:
    # log(1 + e^-1) = 0.313262, log(1 + e^2) = 2.126928, log 2 = 0.693147
    loss = reward_loss(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, 0.5]))
    assert loss.tolist() == pytest.approx([0.313262, 2.126928, 0.693147], abs=1e-6)


def test_reward_loss_margin_worked_by_hand() -> None:
    # 2 - 1 - 3 = -2: a margin demands more, log(1 + e^2) = 2.126928; 1 - (-1) - 1 = 1: 0.313262
    loss = reward_loss(torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0]), torch.tensor([3.0, 1.0]))
    assert loss.tolist() == pytest.approx([2.126928, 0.313262], abs=1e-6)


def test_reward_loss_far_away_is_finite() -> None:
    assert reward_loss(torch.tensor([-200.0]), torch.tensor([200.0])).tolist() == [400.0]


def test_center_penalty_worked_by_hand() -> None:
    # (2 + 1)^2 = 9; scores about 0 cost nothing, however far apart: (3 - 3)^2
    penalty = center_penalty(torch.tensor([2.0, 3.0, -1.0]), torch.tensor([1.0, -3.0, -1.0]))
    assert penalty.tolist() == [9.0, 0.0, 4.0]
