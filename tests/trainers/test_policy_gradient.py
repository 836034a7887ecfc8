"""Rewards, advantages and losses of PPO and GRPO, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal, stats
from torch import Tensor

from trainers.losses.advantages import gae, group_advantages, whiten, without_spread
from trainers.losses.policy_gradient import (
    adapt_kl_coef,
    clipped_policy_terms,
    clipped_value_terms,
    k3,
    normalise_bnpo,
    normalise_dapo,
    normalise_dr_grpo,
    normalise_grpo,
    token_rewards,
)


def masked(*rows: str) -> Tensor:
    """Drawn: x is a response token, . is prompt or padding."""
    return torch.tensor([[cell == "x" for cell in row] for row in rows])


def near(tensor: Tensor, expected: list[list[float]], tolerance: float = 1e-6) -> None:
    assert tensor.shape == (len(expected), len(expected[0]))
    for row, wanted in zip(tensor.tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, abs=tolerance)


# rewards


def test_reward_sits_on_the_last_real_token() -> None:
    mask = masked(
        ".xxx.",  # ended before the row did
        "..xxx",  # truncated: its last token is in the last column
        ".....",  # a response cut to nothing
        "x....",
    )
    scores = torch.tensor([10.0, 20.0, 30.0, 40.0])
    zero = torch.zeros(4, 5)
    near(
        token_rewards(scores, zero, zero, mask, kl_coef=0.1),
        [[0, 0, 0, 10, 0], [0, 0, 0, 0, 20], [0, 0, 0, 0, 0], [40, 0, 0, 0, 0]],
    )


def test_kl_penalty_worked_by_hand() -> None:
    """-0.5 (log pi - log ref) at each response token, the score added to the last one."""
    mask = masked(".xx.")
    logps = torch.tensor([[-7.0, -1.0, -2.0, -7.0]])
    reference = torch.tensor([[-1.0, -3.0, -1.0, -1.0]])
    # -.5 (-1 + 3) = -1;  -.5 (-2 + 1) + 10 = 10.5; what is not response counts for nothing
    near(token_rewards(torch.tensor([10.0]), logps, reference, mask, kl_coef=0.5), [[0, -1, 10.5, 0]])


def test_padding_on_either_side_moves_no_reward() -> None:
    scores, row = torch.tensor([3.0]), torch.tensor([[0.0, -1.0, -2.0]])
    plain = token_rewards(scores, row, row * 2, masked(".xx"), kl_coef=0.1)
    for left, right in [(0, 4), (4, 0), (2, 3)]:
        wide = torch.nn.functional.pad(row, (left, right), value=-5.0)
        mask = torch.nn.functional.pad(masked(".xx"), (left, right))
        near(token_rewards(scores, wide, wide * 2, mask, kl_coef=0.1)[:, left : left + 3], plain.tolist())


# advantages


def test_gae_worked_by_hand() -> None:
    # gamma .5, lambda .8, so gamma lambda = .4; rewards 0 1 2, values 4 2 6
    # t=2: delta = 2 + 0 - 6 = -4                A = -4      return A + V = 2
    # t=1: delta = 1 + .5*6 - 2 = 2              A = 2 + .4*(-4) = .4      2.4
    # t=0: delta = 0 + .5*2 - 4 = -3             A = -3 + .4*.4 = -2.84    1.16
    mask = masked(".xxx.")
    rewards = torch.tensor([[0.0, 0.0, 1.0, 2.0, 0.0]])
    values = torch.tensor([[9.0, 4.0, 2.0, 6.0, 9.0]])  # a value beside the response counts for nothing
    advantages, returns = gae(rewards, values, mask, gamma=0.5, lam=0.8)
    near(advantages, [[0, -2.84, 0.4, -4, 0]])
    near(returns, [[0, 1.16, 2.4, 2, 0]])


def test_gae_limits_worked_by_hand() -> None:
    mask, rewards, values = masked("xxx"), torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[2.0, 3.0, 1.0]])
    # lambda 1, gamma 1: what is still to come, less the value: 6-2, 5-3, 5-1
    near(gae(rewards, values, mask, gamma=1, lam=1)[0], [[4, 2, 4]])
    # lambda 0: one step, r + V' - V: 1+3-2, 0+1-3, 5+0-1
    near(gae(rewards, values, mask, gamma=1, lam=0)[0], [[2, -2, 4]])
    # gamma 0: r - V
    near(gae(rewards, values, mask, gamma=0, lam=1)[0], [[-1, -3, 4]])


def test_gae_like_a_filter() -> None:
    """Discounting from behind is an IIR filter, as spinningup's discount_cumsum writes it."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=12), rng.normal(size=12)
    delta = rewards + 0.97 * np.append(values[1:], 0.0) - values
    expected = signal.lfilter([1], [1, -0.97 * 0.9], delta[::-1])[::-1]
    ours, _ = gae(*(torch.tensor(x)[None] for x in (rewards, values)), masked("x" * 12), gamma=0.97, lam=0.9)
    assert ours[0].tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_whiten_worked_by_hand() -> None:
    """Over the mask of all rows together: 1, 3, 5, 7 have mean 4 and variance 5 (ddof 0; with ddof 1 it were 20/3)."""
    x = torch.tensor([[1.0, 3.0, 99.0], [99.0, 5.0, 7.0]])
    mask = masked("xx.", ".xx")
    s = math.sqrt(5)
    near(whiten(x, mask), [[-3 / s, -1 / s, 0], [0, 1 / s, 3 / s]])
    near(whiten(x, mask, shift_mean=False), [[4 - 3 / s, 4 - 1 / s, 0], [0, 4 + 1 / s, 4 + 3 / s]])
    # eps is added to the variance: 5 + 4 = 9
    near(whiten(x, mask, eps=4.0), [[-1, -1 / 3, 0], [0, 1 / 3, 1]])


def test_whiten_of_one_number_or_none_is_0() -> None:
    near(whiten(torch.tensor([[7.0, 9.0]]), masked("x.")), [[0, 0]])
    near(whiten(torch.tensor([[7.0, 9.0]]), masked("..")), [[0, 0]])
    near(whiten(torch.tensor([[7.0, 7.0]]), masked("xx")), [[0, 0]])


def test_whiten_is_of_the_whole_rollout() -> None:
    """Whitened in two halves, the numbers would be others: it must happen before anything is divided."""
    x, mask = torch.tensor([[1.0, 3.0], [5.0, 9.0]]), masked("xx", "xx")
    halves = torch.cat([whiten(x[:1], mask[:1]), whiten(x[1:], mask[1:])])
    assert (whiten(x, mask) - halves).abs().min() > 0.1


def test_whiten_unchanged_by_padding() -> None:
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    mask = masked("xxx...", "xxxxxx", "x.....", "......")
    for left, right in [(0, 50), (50, 0), (7, 9)]:
        wide = whiten(
            torch.nn.functional.pad(x, (left, right), value=3.0), torch.nn.functional.pad(mask, (left, right))
        )
        near(wide[:, left : left + 6], whiten(x, mask).tolist())


def test_adaptive_kl_coefficient_worked_by_hand() -> None:
    options = {"target": 6.0, "horizon": 1000, "samples": 100}
    # 6.6 / 6 - 1 = .1: times 1 + .1 * 100/1000
    assert adapt_kl_coef(0.2, 6.6, **options) == pytest.approx(0.2 * 1.01)  # type: ignore[arg-type]
    # 5.4 / 6 - 1 = -.1
    assert adapt_kl_coef(0.2, 5.4, **options) == pytest.approx(0.2 * 0.99)  # type: ignore[arg-type]
    # the error is clipped to +-.2
    assert adapt_kl_coef(0.2, 600.0, **options) == pytest.approx(0.2 * 1.02)  # type: ignore[arg-type]
    assert adapt_kl_coef(0.2, 0.0, **options) == pytest.approx(0.2 * 0.98)  # type: ignore[arg-type]
    assert adapt_kl_coef(0.2, 6.0, **options) == 0.2  # type: ignore[arg-type]


def test_group_advantages_worked_by_hand() -> None:
    # 1, 2, 3, 6: mean 3, sum of squares 4 + 1 + 0 + 9 = 14, std with ddof 1 = sqrt(14/3) = 2.160247
    s = math.sqrt(14 / 3) + 1e-4
    near(group_advantages(torch.tensor([[1.0, 2.0, 3.0, 6.0]])), [[-2 / s, -1 / s, 0, 3 / s]])
    # eps is added to the std: 0 and 1e-4 have std 1e-4/sqrt 2, A = +-.5e-4 / (.70711e-4 + 1e-4) = +-.292893
    near(group_advantages(torch.tensor([[0.0, 1e-4]])), [[-0.292893, 0.292893]], 1e-5)


@pytest.mark.parametrize("value", [0.0, 2.0, 0.1, 1.7, -2.3])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 13])
def test_group_without_spread_gets_0(value: float, size: int) -> None:
    """Exactly: the float32 mean of 13 times 1.7 is not 1.7."""
    rewards = torch.full((2, size), value)
    assert group_advantages(rewards).tolist() == [[0.0] * size] * 2
    assert without_spread(rewards).tolist() == [True, True]


def test_spread_is_of_the_group() -> None:
    rewards = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    assert without_spread(rewards).tolist() == [True, False, True]


def test_groups_are_independent() -> None:
    rewards = torch.tensor([[1.0, 2.0, 3.0], [10.0, 50.0, 40.0]])
    near(group_advantages(rewards), [group_advantages(row[None])[0].tolist() for row in rewards])


def test_group_advantages_like_scipy() -> None:
    rewards = np.random.default_rng(0).normal(size=(5, 8)) * 3
    expected = stats.zscore(rewards, axis=1, ddof=1)  # without eps
    assert group_advantages(torch.tensor(rewards), eps=0).numpy() == pytest.approx(expected, abs=1e-12)


# losses


def test_clipped_policy_terms_worked_by_hand() -> None:
    """ratio, advantage -> loss = -min(ratio A, clip(ratio, .8, 1.3) A)"""
    ratio = torch.tensor([[1.0, 2.0, 0.5, 2.0, 0.5, 9.0]])
    advantages = torch.tensor([[3.0, 3.0, 3.0, -3.0, -3.0, 3.0]])
    mask = masked("xxxxx.")
    terms = clipped_policy_terms(ratio.log(), torch.zeros(1, 6), advantages, mask, low=0.2, high=0.3)
    # 1: as it is, -3;  2 with A > 0: clipped to 1.3, -3.9;  .5 with A > 0: min takes the unclipped 1.5, -1.5
    # 2 with A < 0: min takes the unclipped -6, 6;  .5 with A < 0: clipped to .8, 2.4;  beside the response: 0
    near(terms.loss, [[-3, -3.9, -1.5, 6, 2.4, 0]])
    assert terms.clipped.tolist() == [[False, True, False, False, True, False]]
    near(terms.ratio, [[1, 2, 0.5, 2, 0.5, 1]])
    assert not terms.ratio.requires_grad


def test_clipped_tokens_have_no_gradient() -> None:
    logps = torch.tensor([[2.0, 0.5, 2.0, 0.5]]).log().requires_grad_()
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    clipped_policy_terms(logps, torch.zeros(1, 4), advantages, masked("xxxx"), low=0.2, high=0.2).loss.sum().backward()
    assert logps.grad is not None
    near(logps.grad, [[0, -0.5, 2, 0]])  # -A ratio where it is not clipped


def test_one_advantage_a_response() -> None:
    terms = clipped_policy_terms(
        torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([[2.0], [-1.0]]), masked("xx.", ".xx"), low=0.2, high=0.2
    )
    near(terms.loss, [[-2, -2, 0], [0, 1, 1]])


def test_clipped_value_terms_worked_by_hand() -> None:
    """Half the larger of the two squared errors."""
    old = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    values = torch.tensor([[1.1, 3.0, 3.0, 3.0]])
    returns = torch.tensor([[2.0, 4.0, 1.0, 9.0]])
    terms = clipped_value_terms(values, old, returns, masked("xxx."), clip=0.5)
    # 1.1 is within .5 of 1: .5 (.9)^2 = .405 either way
    # 3 is clipped to 1.5: unclipped (3-4)^2 = 1, clipped (1.5-4)^2 = 6.25, the larger counts: 3.125
    # unclipped (3-1)^2 = 4, clipped (1.5-1)^2 = .25: the unclipped is the larger: 2
    near(terms.loss, [[0.405, 3.125, 2, 0]])
    assert terms.clipped.tolist() == [[False, True, False, False]]


def test_k3_worked_by_hand() -> None:
    logps, reference = torch.tensor([[-1.0, -2.0, -1.0, -5.0]]), torch.tensor([[-2.0, -1.0, -1.0, -1.0]])
    # log r = -1: e^-1 - 1 + 1 = 0.367879;  log r = 1: e - 2 = 0.718282;  log r = 0: 0;  beside the response: 0
    near(k3(logps, reference, masked("xxx.")), [[0.367879, 0.718282, 0, 0]])


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0])
def test_k3_by_quadrature(distance: float) -> None:
    """Two unit normals `distance` apart: the mean of k3 is the KL, mu^2 / 2, its standard deviation
    sqrt(e^(mu^2) - 1 - mu^2) (J. Schulman 2020)."""
    x = torch.linspace(-14, 14, 200_001, dtype=torch.float64)
    p, q = -0.5 * x**2, -0.5 * (x - distance) ** 2  # the same constant in both
    weight = p.exp() / p.exp().sum()
    terms = k3(p[None], q[None], torch.ones(1, len(x), dtype=torch.bool))[0]
    mean = (weight * terms).sum().item()
    spread = (weight * (terms - mean) ** 2).sum().sqrt().item()
    assert mean == pytest.approx(distance**2 / 2, rel=1e-6)
    assert spread == pytest.approx(math.sqrt(math.exp(distance**2) - 1 - distance**2), rel=1e-6)
    assert (terms >= 0).all()


def test_gradient_of_k3_is_that_of_the_forward_kl() -> None:
    """In expectation over samples from pi: d/dtheta sum pi k3, pi's own dependence left out, is the gradient of
    KL(ref || pi), by enumeration of a vocabulary of 5."""
    generator = torch.Generator().manual_seed(0)
    theta, other = (torch.randn(5, generator=generator, dtype=torch.float64) for _ in range(2))
    reference = other.log_softmax(0)
    theta.requires_grad_()
    logps = theta.log_softmax(0)
    samples = logps.exp().detach()
    terms = k3(logps[None], reference[None], torch.ones(1, 5, dtype=torch.bool))[0]
    (ours,) = torch.autograd.grad((samples * terms).sum(), theta, retain_graph=True)
    (forward,) = torch.autograd.grad((reference.exp() * (reference - logps)).sum(), theta, retain_graph=True)
    (reverse,) = torch.autograd.grad((logps.exp() * (logps - reference)).sum(), theta)
    torch.testing.assert_close(ours, forward)
    assert (ours - reverse).abs().max() > 1e-3


# denominators

PER_TOKEN = torch.tensor([[6.0, 6.0, 99.0, 99.0], [1.0, 2.0, 3.0, 99.0], [99.0, 99.0, 99.0, 99.0]])
LENGTHS = masked("xx..", "xxx.", "....")


def test_normalisers_worked_by_hand() -> None:
    # response means 6, 2 and 0 (a response without tokens), over 3 responses: 8/3
    assert normalise_grpo(PER_TOKEN, LENGTHS, sequences=3).item() == pytest.approx(8 / 3)
    # all tokens, 12 + 6 = 18, over 3 responses of at most 10 tokens
    assert normalise_dr_grpo(PER_TOKEN, LENGTHS, sequences=3, max_length=10).item() == pytest.approx(18 / 30)
    # over 5 tokens
    assert normalise_dapo(PER_TOKEN, LENGTHS, tokens=5).item() == pytest.approx(18 / 5)
    assert normalise_dapo(PER_TOKEN, masked("....", "....", "...."), tokens=0).item() == 0
    # the first of two micro-batches: 12 over its own 2 tokens, and half of that
    assert normalise_bnpo(PER_TOKEN[:1], LENGTHS[:1], micro_batches=2).item() == pytest.approx(12 / 2 / 2)
    assert normalise_bnpo(PER_TOKEN[2:], LENGTHS[2:], micro_batches=2).item() == 0


def test_length_bias_worked_by_hand() -> None:
    """What one token of a response of 1 and of one of 4 tokens weighs."""
    mask = masked("x...", "xxxx")

    def weights(name: str) -> list[list[float]]:
        per_token = torch.zeros(2, 4, requires_grad=True)
        {
            "grpo": lambda: normalise_grpo(per_token, mask, sequences=2),
            "dr_grpo": lambda: normalise_dr_grpo(per_token, mask, sequences=2, max_length=10),
            "dapo": lambda: normalise_dapo(per_token, mask, tokens=5),
        }[name]().backward()
        assert per_token.grad is not None
        return per_token.grad.tolist()

    assert weights("grpo") == [pytest.approx([1 / 2, 0, 0, 0]), pytest.approx([1 / 8] * 4)]  # long ones weigh less
    assert weights("dr_grpo") == [pytest.approx([1 / 20, 0, 0, 0]), pytest.approx([1 / 20] * 4)]
    assert weights("dapo") == [pytest.approx([1 / 5, 0, 0, 0]), pytest.approx([1 / 5] * 4)]


def test_normalisers_of_parts_add_up() -> None:
    """Denominators are the whole step's, so micro-batches sum to the whole."""
    for whole, parts in (
        (normalise_grpo(PER_TOKEN, LENGTHS, sequences=3),
         [normalise_grpo(PER_TOKEN[i : i + 1], LENGTHS[i : i + 1], sequences=3) for i in range(3)]),
        (normalise_dr_grpo(PER_TOKEN, LENGTHS, sequences=3, max_length=7),
         [normalise_dr_grpo(PER_TOKEN[i : i + 1], LENGTHS[i : i + 1], sequences=3, max_length=7) for i in range(3)]),
        (normalise_dapo(PER_TOKEN, LENGTHS, tokens=5),
         [normalise_dapo(PER_TOKEN[i : i + 1], LENGTHS[i : i + 1], tokens=5) for i in range(3)]),
    ):  # fmt: skip
        assert sum(part.item() for part in parts) == pytest.approx(whole.item())


def test_bnpo_depends_on_the_micro_batches() -> None:
    """12 over 2 and 6 over 3 tokens: (6 + 2) / 2 = 4 as two micro-batches, 18 / 5 as one."""
    parts = [normalise_bnpo(PER_TOKEN[i : i + 1], LENGTHS[i : i + 1], micro_batches=2) for i in range(2)]
    assert sum(part.item() for part in parts) == pytest.approx(4.0)
    assert normalise_bnpo(PER_TOKEN[:2], LENGTHS[:2], micro_batches=1).item() == pytest.approx(18 / 5)
