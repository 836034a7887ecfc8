"""Direct preference optimisation, Rafailov et al. 2023 (arXiv:2305.18290), and its family: `dpo.loss` names the member.

The reference's log-probabilities are computed once, before the first step, by the same forward as the policy's, and
kept on disk. Losses without a reference (cpo, orpo, slic) never compute them. What KTO needs besides is in kto.py.
"""

from __future__ import annotations

import time
from functools import partial

from rlhf_bench.modeling.logprobs import LogprobModel
from trainers import kto
from trainers.engine.batches import (
    Order,
    both_sides,
    count_steps,
    count_tokens,
    encode_pairs,
    pair_lengths,
    report_pairs_cut,
)
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.models import load_trained_policy
from trainers.engine.optim import make_optimizer
from trainers.engine.pairs import PairTrainer, take
from trainers.engine.reference import reference_of_steps, under_reference
from trainers.engine.stage import Stage, StageResult


def train(stage: Stage) -> StageResult:
    config, start, machine = stage.recipe.dpo, stage.start, stage.machine
    trained = load_trained_policy(stage, config, start)
    policy = machine.shard(LogprobModel(trained.model), where=stage.name)
    trainer = PairTrainer(config, machine, policy, trained.tokenizer.pad_token_id)
    pairs, _, counts = encode_pairs(stage, trained.tokenizer, stage.pairs("train", config.max_pairs))
    held_out = encode_pairs(stage, trained.tokenizer, stage.pairs("validation", config.eval_size)).pairs
    if config.loss == "kto":
        counts |= kto.check_pairs(pairs, held_out, config.batch_size)

    order = Order(pair_lengths(pairs), config.batch_size, seed=stage.seed)
    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)

    # the policy still is the reference here: nothing has been trained
    began = time.monotonic()
    reference = reference_of_steps(stage, trainer, start, pairs, order, steps)
    held_out_reference = under_reference(stage, trainer, start, held_out)
    step_on = partial(kto.step, trainer, kto.frozen(stage)) if config.loss == "kto" else trainer.step
    optimizer = make_optimizer(config, [(trained.model.named_parameters(), config.lr)], machine)
    evaluation = HeldOut(lambda: trainer.evaluate(step_on(held_out, held_out_reference)))
    loop = Loop(stage, steps, trained, optimizer, evaluation)
    loop.seconds = time.monotonic() - began  # the reference is part of the cost
    loop.first_row = report_pairs_cut(stage, counts, len(pairs))
    for number in loop:
        index = order[number]
        step = step_on([pairs[i] for i in index], take(reference, index))
        loop.update(
            partial(trainer.loss, step), trainer.micro_batches(step),
            samples=len(index), tokens=count_tokens(both_sides(step.pairs)),
        )  # fmt: skip
        loop.log({"kl": step.kl.item()} if config.loss == "kto" else {})
    return loop.result(counts)
