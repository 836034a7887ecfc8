"""One step and one evaluation of next-token prediction, shared by base and sft."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_bench.logprobs import LogprobModel, target_mask
from rlhf_bench.text import Encoded, collate, length_batches
from trainers.batches import count_tokens
from trainers.loop import Loop
from trainers.losses import nll_loss
from trainers.optim import Optimizer
from trainers.recipe import OptimizerConfig
from trainers.stage import Stage

__all__ = ["evaluate_nll", "nll_step"]


def nll_step(
    stage: Stage,
    policy: LogprobModel,
    optimizer: Optimizer,
    config: OptimizerConfig,
    rows: Sequence[Encoded],
    pad_id: int,
    loop: Loop,
    *,
    whole_sequence: bool,
) -> None:
    """One optimiser step on `rows`; the loss is a mean over the tokens of all of them, whatever the micro-batches."""
    learned = sum((row.length - 1) if whole_sequence else len(row.response) for row in rows)

    def forward(part: Sequence[Encoded]) -> tuple[Tensor, dict[str, float]]:
        batch = collate(part, pad_id=pad_id).to(stage.device)
        with stage.autocast():
            out = policy(batch, whole_sequence=whole_sequence)
        mask = target_mask(batch, whole_sequence=whole_sequence)
        loss = nll_loss(out.logps, mask, tokens=learned)
        return loss, {"loss": loss.item(), "entropy": out.entropy.detach().sum().item() / learned}

    pieces = stage.pool.split(rows, config.micro_batch_size)
    loop.log(stage.pool.accumulate(forward, pieces, optimizer.parameters), samples=len(rows), tokens=count_tokens(rows))
    norm = optimizer.step(where=f"{stage.name}, step {loop.step + 1}")
    loop.log({"grad_norm": norm, "learning_rate": optimizer.lr})


@torch.no_grad()
def evaluate_nll(
    policy: LogprobModel, rows: Sequence[Encoded], pad_id: int, *, whole_sequence: bool
) -> dict[str, float]:
    """Mean negative log-likelihood a token (nats) and perplexity on held-out rows."""
    total, count = 0.0, 0
    for group in length_batches([row.length for row in rows], 64):
        batch = collate([rows[i] for i in group], pad_id=pad_id).to(policy.model.device)
        total -= policy(batch, whole_sequence=whole_sequence).logps.sum().item()
        count += int(target_mask(batch, whole_sequence=whole_sequence).sum())
    loss = total / max(count, 1)
    return {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 700.0))}
