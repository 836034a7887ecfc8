"""PPO's tensors against a slow reference in float64, to 1e-10, wherever the padding is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.losses import advantages as ours_advantages
from trainers.losses import policy_gradient as ours

from . import ppo_reference as slow
from .ppo_reference import Row

LENGTHS = [5, 1, 9, 3, 12, 2, 7]
GAMMA, LAM, KL_COEF, CLIP, CLIP_VALUE = 0.97, 0.9, 0.15, 0.2, 0.3
EXACT = {"atol": 1e-10, "rtol": 0.0}


class Case(NamedTuple):
    scores: Row
    old: list[Row]
    new: list[Row]
    reference: list[Row]
    values: list[Row]
    new_values: list[Row]


def make_case(seed: int) -> Case:
    """Numbers so far apart that both sides of both clippings happen."""
    rng = np.random.default_rng(seed)

    def rows(mean: float, scale: float) -> list[Row]:
        return [rng.normal(mean, scale, n).tolist() for n in LENGTHS]

    old, values = rows(-2.0, 1.0), rows(0.0, 1.0)
    new = [[x + rng.normal(0, 0.3) for x in row] for row in old]
    new_values = [[x + rng.normal(0, 0.6) for x in row] for row in values]
    return Case(rng.normal(1.0, 2.0, len(LENGTHS)).tolist(), old, new, rows(-2.0, 1.0), values, new_values)


class Layout:
    """Rows as a padded (B, T) batch and back; beside the responses stand numbers that must not count."""

    def __init__(self, left: int, right: int) -> None:
        width = left + max(LENGTHS) + right
        self.start = [left + (i % 2) * (max(LENGTHS) - n) for i, n in enumerate(LENGTHS)]
        self.mask = torch.zeros(len(LENGTHS), width, dtype=torch.bool)
        for i, n in enumerate(LENGTHS):
            self.mask[i, self.start[i] : self.start[i] + n] = True

    def pad(self, rows: list[Row], filler: float = 7.0) -> Tensor:
        out = torch.full(self.mask.shape, filler, dtype=torch.float64)
        out[self.mask] = torch.tensor([x for row in rows for x in row], dtype=torch.float64)
        return out

    def same(self, tensor: Tensor, rows: list[Row]) -> None:
        assert tensor.dtype == torch.float64
        torch.testing.assert_close(tensor, self.pad(rows, filler=0.0), **EXACT)


LAYOUTS = [Layout(0, 0), Layout(4, 0), Layout(3, 9)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("whiten_rewards", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_whole_update_like_the_slow_reference(layout: Layout, whiten_rewards: bool, seed: int) -> None:
    case, mask = make_case(seed), layout.mask
    rewards = slow.rewards(case.scores, case.old, case.reference, KL_COEF)
    old, reference, values = (layout.pad(rows) for rows in (case.old, case.reference, case.values))
    scores = torch.tensor(case.scores, dtype=torch.float64)
    tensor = ours.token_rewards(scores, old, reference, mask, kl_coef=KL_COEF)
    layout.same(tensor, rewards)
    if whiten_rewards:
        rewards = slow.whiten(rewards, shift_mean=False)
        tensor = ours_advantages.whiten(tensor, mask, shift_mean=False)
        layout.same(tensor, rewards)

    advantages = slow.advantages(rewards, case.values, GAMMA, LAM)
    returns = [[a + v for a, v in zip(*rows, strict=True)] for rows in zip(advantages, case.values, strict=True)]
    advantage_tensor, return_tensor = ours_advantages.gae(tensor, values, mask, gamma=GAMMA, lam=LAM)
    layout.same(advantage_tensor, advantages)
    layout.same(return_tensor, returns)
    advantages = slow.whiten(advantages, shift_mean=True)
    advantage_tensor = ours_advantages.whiten(advantage_tensor, mask)
    layout.same(advantage_tensor, advantages)

    new, new_values = layout.pad(case.new).requires_grad_(), layout.pad(case.new_values).requires_grad_()
    tokens = int(mask.sum())
    terms = ours.clipped_policy_terms(new, old, advantage_tensor, mask, low=CLIP, high=CLIP)
    value_terms = ours.clipped_value_terms(new_values, values, return_tensor, mask, clip=CLIP_VALUE)
    for found, leaf, expected in (
        (terms, new, slow.policy_loss(case.new, case.old, advantages, CLIP)),
        (value_terms, new_values, slow.value_loss(case.new_values, case.values, returns, CLIP_VALUE)),
    ):
        loss = ours.normalise_dapo(found.loss, mask, tokens=tokens)
        torch.testing.assert_close(loss.item(), expected.value, **EXACT)
        (gradient,) = torch.autograd.grad(loss, leaf)
        layout.same(gradient, expected.gradient)
        assert int(found.clipped.sum()) == expected.clipped
        assert 3 < expected.clipped < tokens - 3  # both sides happened
    shift = (new.detach() - old) * mask
    torch.testing.assert_close(0.5 * (shift**2).sum().item() / tokens, slow.approximate_kl(case.new, case.old), **EXACT)


def test_the_slow_reference_worked_by_hand() -> None:
    """The reference can be wrong as well: the numbers of test_policy_gradient.py."""
    assert slow.advantages([[0, 1, 2]], [[4, 2, 6]], 0.5, 0.8)[0] == pytest.approx([-2.84, 0.4, -4])
    assert slow.rewards([10], [[-1, -2]], [[-3, -1]], 0.5) == [[-1, 10.5]]
    assert slow.value_loss([[3.0]], [[1.0]], [[4.0]], 0.5).value == pytest.approx(3.125)
    assert slow.policy_loss([[np.log(2)]], [[0.0]], [[3.0]], 0.3).value == pytest.approx(-3.9)
