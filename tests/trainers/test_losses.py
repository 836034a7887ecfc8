"""Losses of the supervised and preference stages, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainers.losses import PairLogps, dpo_loss, nll_loss, reward_loss


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
    # 2 - 1 - 3 = -2: a margin asks for more, log(1 + e^2) = 2.126928; 1 - (-1) - 1 = 1: 0.313262
    loss = reward_loss(torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0]), torch.tensor([3.0, 1.0]))
    assert loss.tolist() == pytest.approx([2.126928, 0.313262], abs=1e-6)


def test_reward_loss_far_away_is_finite() -> None:
    assert reward_loss(torch.tensor([-200.0]), torch.tensor([200.0])).tolist() == [400.0]


def test_dpo_loss_worked_by_hand() -> None:
    policy = PairLogps(torch.tensor([-1.0, -5.0]), torch.tensor([-3.0, -2.0]))
    reference = PairLogps(torch.tensor([-2.0, -4.0]), torch.tensor([-3.0, -4.0]))
    terms = dpo_loss(policy, reference, beta=0.5)
    assert terms.chosen.tolist() == [0.5, -0.5]  # .5 (-1 + 2), .5 (-5 + 4)
    assert terms.rejected.tolist() == [0.0, 1.0]  # .5 (-3 + 3), .5 (-2 + 4)
    # margins .5 and -1.5: log(1 + e^-0.5) = 0.474077, log(1 + e^1.5) = 1.701413
    assert terms.loss.tolist() == pytest.approx([0.474077, 1.701413], abs=1e-6)


def test_dpo_gradient_worked_by_hand() -> None:
    """arXiv:2305.18290, section 4: -beta sigmoid(-margin) on the chosen, the opposite on the rejected."""
    chosen, rejected = (torch.tensor([x], requires_grad=True) for x in (-1.0, -3.0))
    terms = dpo_loss(PairLogps(chosen, rejected), PairLogps(torch.tensor([-2.0]), torch.tensor([-3.0])), beta=0.5)
    terms.loss.sum().backward()
    weight = 0.5 / (1 + math.exp(0.5))  # margin .5
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-weight)
    assert rejected.grad.item() == pytest.approx(weight)
    assert not terms.chosen.requires_grad  # for the log alone


def test_dpo_loss_of_the_reference_is_ln_2() -> None:
    same = PairLogps(torch.tensor([-3.0, -70.0]), torch.tensor([-8.0, -2.0]))
    assert dpo_loss(same, same, beta=0.1).loss.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-7)


def test_dpo_loss_like_trl() -> None:
    """TRL computes -logsigmoid(beta (logratios - ref_logratios)): another order of the same four terms.

    Written here from the formula of trl.DPOTrainer.dpo_loss, loss_type "sigmoid", label_smoothing 0.
    """
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(50, generator=generator, dtype=torch.float64) * 30

    pi_w, pi_l, ref_w, ref_l = draw(), draw(), draw(), draw()
    logits = (pi_w - pi_l) - (ref_w - ref_l)
    expected = -torch.log(1 / (1 + torch.exp(-0.1 * logits)))
    ours = dpo_loss(PairLogps(pi_w, pi_l), PairLogps(ref_w, ref_l), beta=0.1).loss
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)
