"""Next-token prediction, shared by base and sft."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.modeling.logprobs import LogprobModel, target_mask
from rlhf_bench.modeling.tokens import Batch, Encoded, collate, count_truncated, length_batches
from trainers.batches import Order, count_steps, count_tokens
from trainers.loop import Loop
from trainers.lora import Adapter
from trainers.losses import nll_loss
from trainers.optim import Optimizer, learning_rate_factor, make_optimizer
from trainers.packing import PackedLogprobs, check_packing, collate_packs, pack
from trainers.recipe import BaseConfig, SftConfig
from trainers.stage import Stage, StageResult

__all__ = ["evaluate_nll", "fit", "nll_step"]


def fit(
    stage: Stage,
    config: BaseConfig | SftConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    held_out: Sequence[Encoded],
    *,
    whole_sequence: bool,
    adapter: Adapter | None = None,
) -> StageResult:
    """Train on `rows` for the configured epochs; the loss is on responses, or on whole sequences."""
    if config.packing:
        check_packing(model, stage.name)
    policy = stage.divide(PackedLogprobs(model) if config.packing else LogprobModel(model))
    held_out_policy, pad = LogprobModel(model), tokenizer.pad_token_id
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)], stage.pool)
    steps = count_steps(len(rows), config.batch_size, config.epochs, config.max_steps)
    order = Order([row.length for row in rows], config.batch_size, seed=stage.seed)
    loop = stage.loop(
        config, steps=steps, modules={"policy": model}, tokenizer=tokenizer, adapter=adapter, optimizer=optimizer,
        evaluate=lambda: evaluate_nll(stage, held_out_policy, held_out, pad, whole_sequence=whole_sequence),
    )  # fmt: skip
    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, steps, config))
        batch = [rows[i] for i in order[step]]
        nll_step(stage, policy, optimizer, config, batch, pad, loop, whole_sequence=whole_sequence)
    return StageResult.of(model, tokenizer, loop, count_truncated(rows), adapter=adapter)


def nll_step(
    stage: Stage,
    policy: LogprobModel,
    optimizer: Optimizer,
    config: BaseConfig | SftConfig,
    rows: Sequence[Encoded],
    pad_id: int,
    loop: Loop,
    *,
    whole_sequence: bool,
) -> None:
    """One optimiser step on `rows`; the loss is a mean over the tokens of all of them, whatever the micro-batches.

    With `config.packing` the policy is one that reads packs.
    """
    data = stage.recipe.data
    learned = sum((row.length - 1) if whole_sequence else len(row.response) for row in rows)

    def forward(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        batch = batch.to(stage.device)
        with stage.autocast():
            out = policy(batch, whole_sequence=whole_sequence)
        mask = target_mask(batch, whole_sequence=whole_sequence)
        loss = nll_loss(out.logps, mask, tokens=learned)
        return loss, {
            "loss": loss.item(),
            "entropy": out.entropy.detach().sum().item() / learned,
            "mean_token_accuracy": out.correct.sum().item() / learned,
        }

    pieces: list[Batch]
    if config.packing:
        packs = pack(rows, data.max_prompt_tokens + data.max_response_tokens)
        pieces = [collate_packs(part, pad_id=pad_id) for part in stage.pool.split(packs, config.micro_batch_size)]
    else:
        pieces = [collate(part, pad_id=pad_id) for part in stage.pool.split(rows, config.micro_batch_size)]
    loop.log(stage.pool.accumulate(forward, pieces, optimizer.parameters), samples=len(rows), tokens=count_tokens(rows))
    norm = optimizer.step(where=f"{stage.name}, step {loop.step + 1}")
    loop.log({"grad_norm": norm, "learning_rate": optimizer.lr})


def evaluate_nll(
    stage: Stage, policy: LogprobModel, rows: Sequence[Encoded], pad_id: int, *, whole_sequence: bool
) -> dict[str, float]:
    """Mean negative log-likelihood a token (nats), perplexity, and share of tokens that are the likeliest, on held-out
    rows."""

    def score(group: Sequence[int]) -> tuple[float, int, int]:
        batch = collate([rows[i] for i in group], pad_id=pad_id).to(stage.device)
        with torch.no_grad():
            out = policy(batch, whole_sequence=whole_sequence)
        tokens = int(target_mask(batch, whole_sequence=whole_sequence).sum())
        return out.logps.sum().item(), int(out.correct.sum()), tokens

    scored = stage.pool.map(score, length_batches([row.length for row in rows], 64))
    total, right, count = (sum(column) for column in zip(*scored, strict=True))
    loss = -total / max(count, 1)
    return {
        "eval_loss": loss,
        "eval_perplexity": math.exp(min(loss, 700.0)),
        "eval_mean_token_accuracy": right / max(count, 1),
    }
