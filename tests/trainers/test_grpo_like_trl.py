"""Losses and gradients of GRPO's family against TRL's own code on the same tensors (extra `peers`).

TRL's `_compute_loss` is called on a stand-in for its trainer that holds the settings and gives the log-probabilities.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.config.recipe import GrpoConfig
from trainers.grpo import normalise
from trainers.losses.policy_gradient import POLICY_TERMS, k3

from .test_policy_gradient import masked

MASK = masked("xxxx", "xx..", "xxx.", "x...")
LOW, HIGH, LONGEST = 0.2, 0.28, 6


def tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """New, old and reference log-probabilities (B, T), some ratios beyond the clipping; advantages (B,)."""
    generator = torch.Generator().manual_seed(0)
    old = -3 * torch.rand(4, 4, generator=generator)
    new, reference = (old + 0.4 * torch.randn(4, 4, generator=generator) for _ in range(2))
    return new, old, reference, torch.tensor([1.2, -0.7, 0.4, -0.9])


def stand_in(logps: Tensor, **settings: Any) -> Any:
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
        accelerator=accelerator, model=SimpleNamespace(training=True), _metrics=defaultdict(lambda: defaultdict(list)),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        epsilon_low=LOW, epsilon_high=HIGH, current_gradient_accumulation_steps=1, max_completion_length=LONGEST,
        _entropy_bonus_enabled=False, **settings,
    )  # fmt: skip


def theirs(trainer: Any, new: Tensor, **settings: Any) -> tuple[float, Tensor]:
    leaf = new.clone().requires_grad_()
    _, old, reference, advantages = tensors()
    empty = torch.zeros(4, 0, dtype=torch.long)
    inputs = {
        "prompt_ids": empty, "prompt_mask": empty, "completion_ids": torch.zeros(4, 4, dtype=torch.long),
        "completion_mask": MASK.long(), "advantages": advantages, "old_per_token_logps": old,
        "old_logps": (old * MASK).sum(1), "ref_per_token_logps": reference, "num_items_in_batch": MASK.sum(),
    }  # fmt: skip
    # private to TRL: its public `compute_loss` computes log-probabilities of its own
    loss = trainer._compute_loss(stand_in(leaf, **settings), None, inputs)
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def ours(new: Tensor, *, ratio: str, loss_type: str, beta: float) -> tuple[float, Tensor]:
    leaf = new.clone().requires_grad_()
    _, old, reference, advantages = tensors()
    per_token = POLICY_TERMS[ratio](leaf, old, advantages[:, None], MASK, low=LOW, high=HIGH).loss
    per_token = per_token + beta * k3(leaf, reference, MASK)
    config = GrpoConfig.model_validate({"loss_type": loss_type})
    step: Any = SimpleNamespace(config=config, sequences=4, tokens=int(MASK.sum()), max_length=LONGEST, pieces=[MASK])
    loss = normalise(step, per_token, MASK)
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def same(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> None:
    assert abs(expected[0]) > 1e-3
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert (found[1] - expected[1]).norm() < 1e-5 * expected[1].norm()


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize(
    ("ratio", "level", "loss_type"),
    [
        ("token", "token", "grpo"),
        ("token", "token", "dr_grpo"),
        ("token", "token", "dapo"),
        ("token", "token", "bnpo"),
        ("sequence", "sequence", "grpo"),  # GSPO
    ],
)
def test_grpo_loss(ratio: str, level: str, loss_type: str, beta: float) -> None:
    trl = pytest.importorskip("trl.trainer.grpo_trainer", exc_type=ImportError)
    expected = theirs(trl.GRPOTrainer, tensors()[0], beta=beta, importance_sampling_level=level, loss_type=loss_type)
    same(ours(tensors()[0], ratio=ratio, loss_type=loss_type, beta=beta), expected)


def test_rloo_loss() -> None:
    """TRL's RLOO clips the product of the ratios, and holds its KL in the reward."""
    trl = pytest.importorskip("trl.trainer.rloo_trainer", exc_type=ImportError)
    same(ours(tensors()[0], ratio="product", loss_type="grpo", beta=0.0), theirs(trl.RLOOTrainer, tensors()[0]))
