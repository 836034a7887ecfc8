"""Next-token prediction, shared by base and sft."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_bench.modeling.logprobs import LogprobModel, target_mask
from rlhf_bench.modeling.tokens import Batch, Encoded, collate, count_truncated, length_batches
from trainers.config.recipe import BaseConfig, SftConfig
from trainers.engine.batches import Order, count_steps, count_tokens, encode_rows, report_cut
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.machine import Machine
from trainers.engine.optim import make_optimizer
from trainers.engine.stage import Stage, StageResult, Trained
from trainers.losses.language_model import nll_loss


@dataclass(frozen=True)
class NllStep:
    """Everything that the loss of one step is a function of, beside its micro-batches."""

    machine: Machine
    policy: LogprobModel
    whole_sequence: bool  # the loss is on prompts too
    tokens: int  # that are learned in the whole step


def encode(stage: Stage, tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Prompts and responses as tokens."""
    return encode_rows(stage.recipe, tokenizer, [prompt for prompt, _ in texts], [response for _, response in texts])


def fit(
    stage: Stage,
    config: BaseConfig | SftConfig,
    trained: Trained,
    rows: Sequence[Encoded],
    held_out: Sequence[Encoded],
    *,
    whole_sequence: bool,
) -> StageResult:
    """Train on `rows` for the configured epochs; the loss is on responses, or on whole sequences."""
    model, pad, machine = trained.model, trained.tokenizer.pad_token_id, stage.machine
    policy = machine.shard(LogprobModel(model), where=stage.name)
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)], machine)
    steps = count_steps(len(rows), config.batch_size, config.epochs, config.max_steps)
    order = Order([row.length for row in rows], config.batch_size, seed=stage.seed)
    evaluate = partial(evaluate_nll, machine, LogprobModel(model), held_out, pad, whole_sequence=whole_sequence)
    loop = Loop(stage, steps, trained, optimizer, HeldOut(evaluate))
    counts = count_truncated(rows)
    loop.first_row = report_cut(stage, prompts=counts["prompts_cut"], responses=counts["responses_cut"], rows=len(rows))
    for number in loop:
        batch = [rows[i] for i in order[number]]
        learned = sum((row.length - 1) if whole_sequence else len(row.response) for row in batch)
        step = NllStep(machine, policy, whole_sequence, learned)
        pieces = [collate(part, pad_id=pad) for part in machine.pool.split(batch, config.micro_batch_size)]
        loop.update(partial(nll_step_loss, step), pieces, samples=len(batch), tokens=count_tokens(batch))
    return loop.result(counts)


def nll_step_loss(step: NllStep, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of one micro-batch, its share of the step's mean over tokens, and its numbers for the log."""
    batch = batch.to(step.machine.device)
    with step.machine.autocast():
        out = step.policy(batch, whole_sequence=step.whole_sequence)
    mask = target_mask(batch, whole_sequence=step.whole_sequence)
    loss = nll_loss(out.logps, mask, tokens=step.tokens)
    return loss, {
        "loss": loss.item(),
        "entropy": out.entropy.detach().sum().item() / step.tokens,
        "mean_token_accuracy": out.correct.sum().item() / step.tokens,
    }


def evaluate_nll(
    machine: Machine, policy: LogprobModel, rows: Sequence[Encoded], pad_id: int, *, whole_sequence: bool
) -> dict[str, float]:
    """Mean negative log-likelihood a token (nats), perplexity, and share of tokens that are the likeliest, on held-out
    rows."""

    def score(group: Sequence[int]) -> tuple[float, int, int]:
        batch = collate([rows[i] for i in group], pad_id=pad_id).to(machine.device)
        with torch.no_grad():
            out = policy(batch, whole_sequence=whole_sequence)
        tokens = int(target_mask(batch, whole_sequence=whole_sequence).sum())
        return out.logps.sum().item(), int(out.correct.sum()), tokens

    scored = machine.pool.map(score, length_batches([row.length for row in rows], 64))
    total, right, count = (sum(column) for column in zip(*scored, strict=True))
    loss = -total / max(count, 1)
    return {
        "eval_loss": loss,
        "eval_perplexity": math.exp(min(loss, 700.0)),
        "eval_mean_token_accuracy": right / max(count, 1),
    }
