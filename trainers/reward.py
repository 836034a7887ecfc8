"""The reward model: Bradley-Terry on preference pairs (arXiv:2009.01325), chosen and rejected in one pass.

Options: the scores of a pair are to differ by the data's margin (`reward.margin: data`), and to be centred about 0
(`reward.center_coef`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_bench.errors import DataError, ModelError
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.modeling.heads import max_positions
from rlhf_bench.modeling.models import to_reward_model
from rlhf_bench.modeling.reward_model import ScoreModel
from rlhf_bench.modeling.tokens import collate, length_batches
from rlhf_bench.types import STAGES
from trainers.config.recipe import DataConfig
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
from trainers.engine.models import make_trainable
from trainers.engine.optim import make_optimizer
from trainers.engine.stage import Stage, StageResult, Trained
from trainers.losses.reward import center_penalty, reward_loss


@dataclass(frozen=True)
class RewardStep:
    """Everything that the loss of one step is a function of."""

    machine: Machine
    scorer: ScoreModel
    pad_id: int
    pairs: Sequence[Pair]
    margins: Tensor  # (B,) by which the scores are to differ; 0 without
    center_coef: float


def train(stage: Stage) -> StageResult:
    config, machine = stage.recipe.reward, stage.machine
    backbone = stage.parent(config.backbone) if config.backbone in STAGES else config.backbone
    model, tokenizer = to_reward_model(
        backbone, seed=stage.seed, device=machine.device, load_in_4bit=config.load_in_4bit
    )
    trained = Trained(model, tokenizer, make_trainable(stage, model, config, backbone))
    check_reads(model, stage.recipe.data, config.backbone)
    scorer = machine.shard(ScoreModel(model), where=stage.name)
    pairs, data_margins, counts = encode_pairs(stage, tokenizer, stage.pairs("train"))
    held_out = encode_pairs(stage, tokenizer, stage.pairs("validation", config.eval_size)).pairs
    margins = torch.zeros(len(pairs)) if config.margin == "none" else all_margins(data_margins)
    margins, pad = margins.to(machine.device), tokenizer.pad_token_id
    head = [(name, p) for name, p in model.named_parameters() if name.startswith("score.")]
    body = [(name, p) for name, p in model.named_parameters() if not name.startswith("score.")]
    optimizer = make_optimizer(config, [(body, config.lr), (head, config.head_lr)], machine)

    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)
    order = Order(pair_lengths(pairs), config.batch_size, seed=stage.seed)
    untrained = {"eval_accuracy_untrained": evaluate(machine, scorer, held_out, pad)["eval_accuracy"]}
    evaluation = HeldOut(lambda: evaluate(machine, scorer, held_out, pad) | untrained, "eval_accuracy", higher=True)
    loop = Loop(stage, steps, trained, optimizer, evaluation)
    loop.first_row = report_pairs_cut(stage, counts, len(pairs))
    for number in loop:
        index = order[number]
        step = RewardStep(machine, scorer, pad, [pairs[i] for i in index], margins[index], config.center_coef)
        pieces = machine.pool.split(range(len(index)), max(1, config.micro_batch_size // 2))
        loop.update(
            partial(reward_step_loss, step), pieces,
            samples=len(index), tokens=count_tokens(both_sides(step.pairs)),
        )  # fmt: skip
    record = {} if config.backbone in STAGES else {"backbone": {"path": backbone, "hash": model_hash(backbone)}}
    return loop.result(counts, record)


def reward_step_loss(step: RewardStep, index: Sequence[int]) -> tuple[Tensor, dict[str, float]]:
    """The loss of the step's pairs `index`, their share of the step's mean, and their numbers for the log."""
    count = len(step.pairs)
    with step.machine.autocast():
        chosen, rejected = score_pairs(step.scorer, [step.pairs[i] for i in index], step.pad_id)
    loss = reward_loss(chosen, rejected, step.margins[list(index)]).sum() / count
    if step.center_coef:
        loss = loss + step.center_coef * center_penalty(chosen, rejected).sum() / count
    return loss, {
        "loss": loss.item(),
        "accuracy": (chosen > rejected).sum().item() / count,
        "margin": (chosen - rejected).detach().sum().item() / count,
    }


def check_reads(model: PreTrainedModel, data: DataConfig, name: str) -> None:
    """Check that a backbone from elsewhere can read the longest pair. Raises ModelError."""
    room, longest = max_positions(model), data.max_prompt_tokens + data.max_response_tokens
    if room < longest:
        raise ModelError(
            f"reward.backbone={name} reads {room} tokens, expected at least {longest} (data.max_prompt_tokens + "
            "data.max_response_tokens); lower them, or take another backbone"
        )


def all_margins(margins: Sequence[float | None]) -> Tensor:
    """The margins as a tensor, (N,). Raises DataError where a pair has none."""
    known = [margin for margin in margins if margin is not None]
    if len(known) < len(margins):
        raise DataError(
            f"reward.margin=data: {len(margins) - len(known)} of {len(margins)} training pairs have no margin, "
            "expected a number in each; give the data a column margin, or leave reward.margin out"
        )
    return torch.tensor(known)


def score_pairs(scorer: ScoreModel, pairs: Sequence[Pair], pad_id: int) -> tuple[Tensor, Tensor]:
    scores = scorer(collate(both_sides(pairs), pad_id=pad_id).to(scorer.model.device))
    return scores[: len(pairs)], scores[len(pairs) :]


def evaluate(machine: Machine, scorer: ScoreModel, pairs: list[Pair], pad_id: int) -> dict[str, float]:
    """Accuracy and loss on held-out pairs, and the accuracy of preferring the longer response; equal counts one half.

    The loss is without margin and penalty, so that runs with and without them can be compared.
    """

    def score(group: Sequence[int]) -> tuple[float, float]:
        with torch.no_grad():
            chosen, rejected = score_pairs(scorer, [pairs[i] for i in group], pad_id)
        right = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
        return right.sum().item(), reward_loss(chosen, rejected).sum().item()

    scored = machine.pool.map(score, length_batches(pair_lengths(pairs), 64))
    right, loss = (sum(column) for column in zip(*scored, strict=True))
    lengths = [(len(chosen.response), len(rejected.response)) for chosen, rejected in pairs]
    longer = sum(1.0 if w > r else 0.5 if w == r else 0.0 for w, r in lengths)
    return {
        "eval_loss": loss / len(pairs),
        "eval_accuracy": right / len(pairs),
        "eval_accuracy_longer": longer / len(pairs),
    }
