"""KTO on preference pairs, Ethayarajh et al. 2024 (arXiv:2402.01306): `dpo.loss=kto`.

The chosen response is a desirable example, the rejected one an undesirable. Its reference point is a KL of prompts with
the responses of other pairs, which change with the step; so the reference model is kept beside the policy, where the
rest of DPO's family needs its log-probabilities alone. Single responses with labels are learned in kto_unpaired.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from rlhf_bench.errors import DataError
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.tokens import Encoded, collate, length_batches
from trainers.engine.batches import (
    Order,
    Pair,
    both_sides,
    count_steps,
    count_tokens,
    encode_pairs,
    pair_lengths,
    report_pairs_cut,
)
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.machine import Machine
from trainers.engine.models import load_reference, load_trained_policy
from trainers.engine.optim import make_optimizer
from trainers.engine.pairs import FORWARD_PAIRS, PairTrainer, take
from trainers.engine.reference import reference_of_steps, under_reference
from trainers.engine.stage import Stage, StageResult
from trainers.losses.preference import PairLogps, kto_kl

__all__ = ["logps_under", "mismatched", "train"]


def train(stage: Stage) -> StageResult:
    config, start, machine = stage.recipe.dpo, stage.start, stage.machine
    trained = load_trained_policy(stage, config, start)
    policy = machine.shard(LogprobModel(trained.model), where=stage.name)
    trainer = PairTrainer(config, machine, policy, trained.tokenizer.pad_token_id)
    pairs, _, counts = encode_pairs(stage, trained.tokenizer, stage.pairs("train", config.max_pairs))
    held_out = encode_pairs(stage, trained.tokenizer, stage.pairs("validation", config.eval_size)).pairs
    check_pairs("training", pairs)
    check_pairs("validation", held_out)
    if len(pairs) % config.batch_size == 1:
        pairs.pop()  # or each epoch would have a step of one pair, which has no other pair's response for the KL
        counts["left_over"] = 1

    order = Order(pair_lengths(pairs), config.batch_size, seed=stage.seed)
    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)

    # the policy still is the reference here: nothing has been trained
    began = time.monotonic()
    reference = reference_of_steps(stage, trainer, start, pairs, order, steps)
    held_out_reference = under_reference(stage, trainer, start, held_out)
    frozen = machine.shard(LogprobModel(load_reference(stage, config, start)), where=stage.name)
    optimizer = make_optimizer(config, [(trained.model.named_parameters(), config.lr)], machine)
    evaluation = HeldOut(partial(evaluate, trainer, frozen, held_out, held_out_reference))
    loop = Loop(stage, steps, trained, optimizer, evaluation)
    loop.seconds = time.monotonic() - began  # the reference is part of the cost
    loop.first_row = report_pairs_cut(stage, counts, len(pairs))
    for number in loop:
        index = order[number]
        rows = [pairs[i] for i in index]
        step = trainer.step(rows, take(reference, index), mismatched_kl(trainer, frozen, rows))
        loop.update(
            partial(trainer.loss, step), trainer.micro_batches(step),
            samples=len(index), tokens=count_tokens(both_sides(rows)),
        )  # fmt: skip
        loop.log({"kl": step.kl.item()})
    return loop.result(counts)


def check_pairs(split: str, pairs: Sequence[Pair]) -> None:
    """Raises DataError for fewer than two."""
    if len(pairs) < 2:
        raise DataError(
            f"dpo.loss=kto: {len(pairs)} {split} pair(s), expected at least 2: its KL pairs each prompt with "
            "another pair's response; give more data (dpo.max_pairs, dpo.eval_size), or choose another loss"
        )


def evaluate(
    trainer: PairTrainer, frozen: LogprobModel, pairs: Sequence[Pair], reference: PairLogps
) -> dict[str, float]:
    """Loss and accuracy on held-out pairs, with their own reference point."""
    return trainer.evaluate(trainer.step(pairs, reference, mismatched_kl(trainer, frozen, pairs)))


def mismatched_kl(trainer: PairTrainer, frozen: LogprobModel, pairs: Sequence[Pair]) -> Tensor:
    """KTO's reference point: each prompt of the step with the response of the row before it, under both models."""
    models = (trainer.policy, frozen)
    return kto_kl(*logps_under(models, mismatched(both_sides(pairs)), trainer.machine, trainer.pad_id))


def mismatched(rows: Sequence[Encoded]) -> list[Encoded]:
    """Each row's prompt with the response of the row before it; the first has the last one's."""
    return [Encoded(row.prompt, rows[i - 1].response) for i, row in enumerate(rows)]


def logps_under(models: Sequence[LogprobModel], rows: Sequence[Encoded], machine: Machine, pad_id: int) -> Tensor:
    """Log-probabilities of the rows' responses under each model, (M, N), without a gradient."""

    def forward(group: Sequence[int]) -> Tensor:
        batch = collate([rows[i] for i in group], pad_id=pad_id).to(machine.device)
        with torch.no_grad(), machine.autocast():
            return torch.stack([model(batch).logps.sum(1) for model in models])

    groups = length_batches([row.length for row in rows], 2 * FORWARD_PAIRS)
    out: Tensor = machine.pool.fill(torch.empty(len(models), len(rows), device=machine.device), forward, groups)
    return out
