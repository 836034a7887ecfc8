"""The reward model: Bradley-Terry on preference pairs (arXiv:2009.01325), chosen and rejected in one pass.

On request the scores of a pair are to differ by the data's margin (`reward.margin: data`), and to lie about 0
(`reward.center_coef`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from rlhf_bench.errors import DataError, ModelError
from rlhf_bench.modeling.checkpoints import STAGES, model_hash
from rlhf_bench.modeling.models import max_positions, to_reward_model
from rlhf_bench.modeling.reward_model import ScoreModel
from rlhf_bench.modeling.tokens import collate, length_batches
from trainers.batches import Order, Pair, both_sides, count_steps, count_tokens, pair_lengths
from trainers.losses import center_penalty, reward_loss
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.recipe import DataConfig
from trainers.stage import Stage, StageResult

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config = stage.recipe.reward
    backbone = stage.parent(config.backbone) if config.backbone in STAGES else config.backbone
    model, tokenizer = to_reward_model(backbone, seed=stage.seed, device=stage.device, load_in_4bit=config.load_in_4bit)
    adapter = stage.make_trainable(model, config, backbone)
    check_reads(model, stage.recipe.data, config.backbone)
    scorer = stage.divide(ScoreModel(model))
    pairs, data_margins, counts = stage.encode_pairs(tokenizer, stage.pairs("train"))
    held_out = stage.encode_pairs(tokenizer, stage.pairs("validation", config.eval_size)).pairs
    margins = torch.zeros(len(pairs)) if config.margin == "none" else all_margins(data_margins)
    margins = margins.to(stage.device)
    head = [(name, p) for name, p in model.named_parameters() if name.startswith("score.")]
    body = [(name, p) for name, p in model.named_parameters() if not name.startswith("score.")]
    optimizer = make_optimizer(config, [(body, config.lr), (head, config.head_lr)], stage.pool)

    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)
    order = Order(pair_lengths(pairs), config.batch_size, seed=stage.seed)
    pad = tokenizer.pad_token_id
    untrained = {"eval_accuracy_untrained": evaluate(stage, scorer, held_out, pad)["eval_accuracy"]}
    loop = stage.loop(
        config, steps=steps, modules={"reward": model}, tokenizer=tokenizer, adapter=adapter, optimizer=optimizer,
        evaluate=lambda: evaluate(stage, scorer, held_out, pad) | untrained, best_key="eval_accuracy", higher=True,
    )  # fmt: skip

    def forward(part: Sequence[int]) -> tuple[torch.Tensor, dict[str, float]]:
        with stage.autocast():
            chosen, rejected = _score_pairs(scorer, [pairs[i] for i in part], pad)
        loss = reward_loss(chosen, rejected, margins[list(part)]).sum() / len(index)
        if config.center_coef:
            loss = loss + config.center_coef * center_penalty(chosen, rejected).sum() / len(index)
        return loss, {
            "loss": loss.item(),
            "accuracy": (chosen > rejected).sum().item() / len(index),
            "margin": (chosen - rejected).detach().sum().item() / len(index),
        }

    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, steps, config))
        index = order[step]
        pieces = stage.pool.split(index, max(1, config.micro_batch_size // 2))
        loop.log(
            stage.pool.accumulate(forward, pieces, optimizer.parameters),
            samples=len(index),
            tokens=count_tokens(both_sides([pairs[i] for i in index])),
        )
        norm = optimizer.step(where=f"reward, step {step + 1}")
        loop.log({"grad_norm": norm, "learning_rate": optimizer.lr})
    record = {} if config.backbone in STAGES else {"backbone": {"path": backbone, "hash": model_hash(backbone)}}
    return StageResult.of(model, tokenizer, loop, counts, record, adapter)


def check_reads(model: PreTrainedModel, data: DataConfig, name: str) -> None:
    """That a backbone from elsewhere can read the longest pair. Raises ModelError."""
    room, longest = max_positions(model), data.max_prompt_tokens + data.max_response_tokens
    if room < longest:
        raise ModelError(
            f"reward.backbone={name} reads {room} tokens, expected at least {longest} (data.max_prompt_tokens + "
            "data.max_response_tokens); lower them, or take another backbone"
        )


def all_margins(margins: Sequence[float | None]) -> torch.Tensor:
    """The margins as a tensor, (N,). Raises DataError where a pair has none."""
    known = [margin for margin in margins if margin is not None]
    if len(known) < len(margins):
        raise DataError(
            f"reward.margin=data: {len(margins) - len(known)} of {len(margins)} training pairs have no margin, "
            "expected a number in each; give the data a column margin, or leave reward.margin out"
        )
    return torch.tensor(known)


def _score_pairs(scorer: ScoreModel, pairs: Sequence[Pair], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    scores = scorer(collate(both_sides(pairs), pad_id=pad_id).to(scorer.model.device))
    return scores[: len(pairs)], scores[len(pairs) :]


def evaluate(stage: Stage, scorer: ScoreModel, pairs: list[Pair], pad_id: int) -> dict[str, float]:
    """Accuracy and loss on held-out pairs, and the accuracy of preferring the longer response; equal counts one half.

    The loss is without margin and penalty, so that runs with and without them can be compared.
    """

    def score(group: Sequence[int]) -> tuple[float, float]:
        with torch.no_grad():
            chosen, rejected = _score_pairs(scorer, [pairs[i] for i in group], pad_id)
        right = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
        return right.sum().item(), reward_loss(chosen, rejected).sum().item()

    scored = stage.pool.map(score, length_batches(pair_lengths(pairs), 64))
    right, loss = (sum(column) for column in zip(*scored, strict=True))
    lengths = [(len(chosen.response), len(rejected.response)) for chosen, rejected in pairs]
    longer = sum(1.0 if w > r else 0.5 if w == r else 0.0 for w, r in lengths)
    return {
        "eval_loss": loss / len(pairs),
        "eval_accuracy": right / len(pairs),
        "eval_accuracy_longer": longer / len(pairs),
    }
