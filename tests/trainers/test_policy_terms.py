"""The forms of the policy ratio, KL inside a response's reward and the target-entropy loss, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainers.losses.policy_gradient import (
    POLICY_TERMS,
    entropy_bonus,
    gspo_policy_terms,
    normalise_grpo,
    reinforce_policy_terms,
    sequence_policy_terms,
    sequence_rewards,
    target_entropy_loss,
    token_rewards,
)

from .test_policy_gradient import masked, near

MASK = masked(".xx.", ".xxx")
OLD = torch.zeros(2, 4)
NEW = torch.tensor([[9.0, 0.3, 0.1, 9.0], [9.0, -0.3, 0.0, -0.3]])


def gradient(name: str, logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    leaf = logps.clone().requires_grad_()
    terms = POLICY_TERMS[name](leaf, old, advantages, mask, low=0.2, high=0.2)
    (grad,) = torch.autograd.grad(normalise_grpo(terms.loss, mask, sequences=len(mask)), leaf)
    return grad


def test_gspo_worked_by_hand() -> None:
    # s = e^{(.3+.1)/2} = e^.2 = 1.221403 and e^{(-.3+0-.3)/3} = e^-.2 = 0.818731; the advantages are 2 and -1
    # -min(2 * 1.221403, 2 * 1.1) = -2.2, clipped;  -min(-.818731, -.9) = .9, clipped
    terms = gspo_policy_terms(NEW, OLD, torch.tensor([[2.0], [-1.0]]), MASK, low=0.1, high=0.1)
    near(terms.loss, [[0, -2.2, -2.2, 0], [0, 0.9, 0.9, 0.9]])
    assert terms.clipped.tolist() == MASK.tolist()
    near(terms.ratio, [[1.221403] * 4, [0.818731] * 4])
    # the other way round nothing is clipped
    terms = gspo_policy_terms(NEW, OLD, torch.tensor([[-2.0], [1.0]]), MASK, low=0.1, high=0.1)
    near(terms.loss, [[0, 2.442806, 2.442806, 0], [0, -0.818731, -0.818731, -0.818731]])
    assert not terms.clipped.any()


def test_product_ratio_worked_by_hand() -> None:
    # e^.4 = 1.491825 and e^-.6 = 0.548812
    terms = sequence_policy_terms(NEW, OLD, torch.tensor([[-2.0], [1.0]]), MASK, low=0.1, high=0.1)
    near(terms.loss, [[0, 2.983649, 2.983649, 0], [0, -0.548812, -0.548812, -0.548812]])
    terms = sequence_policy_terms(NEW, OLD, torch.tensor([[2.0], [-1.0]]), MASK, low=0.1, high=0.2)
    near(terms.loss, [[0, -2.4, -2.4, 0], [0, 0.9, 0.9, 0.9]])  # 2 * 1.2, 1 * .9


def test_gradients_worked_by_hand() -> None:
    """d/d logp of -A s: GSPO's is -A s / |y|, the product's -A w, for each token, over the 2 responses."""
    advantages = torch.tensor([[-2.0], [1.0]])
    s, w = (math.exp(0.2), math.exp(-0.2)), (math.exp(0.4), math.exp(-0.6))
    near(
        gradient("sequence", NEW, OLD, advantages, MASK),
        [[0, s[0] / 2, s[0] / 2, 0], [0, *[-s[1] / 6] * 3]],
    )
    near(gradient("product", NEW, OLD, advantages, MASK), [[0, w[0], w[0], 0], [0, *[-w[1] / 2] * 3]])


def test_reinforce_worked_by_hand() -> None:
    terms = reinforce_policy_terms(NEW, OLD, torch.tensor([[2.0], [-1.0]]), MASK, low=0.1, high=0.1)
    near(terms.loss, [[0, -0.6, -0.2, 0], [0, -0.3, 0, -0.3]])
    assert not terms.clipped.any()


def test_forms_agree_where_they_should() -> None:
    """At the policy that drew the samples REINFORCE and the token ratio have one gradient, the product |y| times it,
    GSPO as the token ratio; with one token a response all are the same anywhere within the clipping."""
    advantages = torch.tensor([[0.7], [-1.3]])
    token = gradient("token", NEW, NEW, advantages, MASK)
    assert token.abs().max() > 0.1
    near(gradient("none", NEW, NEW, advantages, MASK), token.tolist())
    near(gradient("sequence", NEW, NEW, advantages, MASK), token.tolist())
    near(gradient("product", NEW, NEW, advantages, MASK), (token * MASK.sum(1, keepdim=True)).tolist())
    one = masked("..x.", ".x..")
    token = gradient("token", 0.1 * NEW, OLD, advantages, one)
    for name in ("sequence", "product"):
        near(gradient(name, 0.1 * NEW, OLD, advantages, one), token.tolist())


@pytest.mark.parametrize("name", sorted(POLICY_TERMS))
def test_padding_and_an_empty_response_count_for_nothing(name: str) -> None:
    advantages = torch.tensor([[0.7], [-1.3], [5.0]])
    logps, old = torch.cat([NEW, NEW[:1]]), torch.cat([OLD, OLD[:1]])
    mask = torch.cat([MASK, masked("....")])
    plain = gradient(name, logps, old, advantages, mask)
    assert plain[2].tolist() == [0] * 4
    wide = [torch.nn.functional.pad(x, (3, 5), value=v) for x, v in ((logps, 4.0), (old, -4.0), (mask, False))]
    near(gradient(name, wide[0], wide[1], advantages, wide[2])[:, 3:7], plain.tolist())


def test_kl_inside_the_reward_of_a_response_worked_by_hand() -> None:
    logps = torch.tensor([[9.0, -1.0, -2.0, 9.0], [9.0, -1.0, -1.0, -1.0]])
    reference = torch.tensor([[0.0, -3.0, -1.0, 0.0], [0.0, -1.0, -2.0, -3.0]])
    # KL: (2 - 1) = 1 and (0 + 1 + 2) = 3; at .5: 10 - .5, 20 - 1.5
    scores = torch.tensor([10.0, 20.0])
    assert sequence_rewards(scores, logps, reference, MASK, kl_coef=0.5).tolist() == [9.5, 18.5]
    # the same as summing the reward per token
    per_token = token_rewards(scores, logps, reference, MASK, kl_coef=0.5)
    assert per_token.sum(1).tolist() == [9.5, 18.5]


def test_entropy_worked_by_hand() -> None:
    assert entropy_bonus(torch.tensor(2.0), coef=0.1).item() == pytest.approx(-0.2)
    # .1 (2 - .5) 2: minimising it lowers an entropy that is too high; 0 on target
    assert target_entropy_loss(torch.tensor(2.0), coef=0.1, target=0.5, now=2.0).item() == pytest.approx(0.3)
    assert target_entropy_loss(torch.tensor(2.0), coef=0.1, target=3.0, now=2.0).item() == pytest.approx(-0.2)
    assert target_entropy_loss(torch.tensor(2.0), coef=0.1, target=2.0, now=2.0).item() == 0


def test_target_entropy_loss_has_the_gradient_of_the_squared_distance() -> None:
    logits = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    entropy = -(logits.log_softmax(0).exp() * logits.log_softmax(0)).sum()
    (ours,) = torch.autograd.grad(
        target_entropy_loss(entropy, coef=0.3, target=1.1, now=entropy.item()), logits, retain_graph=True
    )
    (expected,) = torch.autograd.grad(0.3 / 2 * (entropy - 1.1) ** 2, logits)
    torch.testing.assert_close(ours, expected)
    assert expected.abs().max() > 1e-3
