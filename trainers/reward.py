"""The reward model: Bradley-Terry on preference pairs (arXiv:2009.01325), chosen and rejected in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_bench.models import to_reward_model
from rlhf_bench.scoring import ScoreModel
from rlhf_bench.text import Encoded, collate, length_batches
from trainers.batches import Order, count_steps, count_tokens, micro_batches
from trainers.losses import reward_loss
from trainers.optim import clip_and_step, learning_rate_factor, make_optimizer, set_learning_rate
from trainers.stage import Stage, StageResult

__all__ = ["train"]

Pair = tuple[Encoded, Encoded]


def train(stage: Stage) -> StageResult:
    config = stage.recipe.reward
    model, tokenizer = to_reward_model(stage.parent(config.backbone), seed=stage.seed, device=stage.device)
    scorer = ScoreModel(model)
    pairs, counts = stage.encode_pairs(tokenizer, stage.pairs("train"))
    held_out, _ = stage.encode_pairs(tokenizer, stage.pairs("validation", config.eval_size))
    head = [(name, p) for name, p in model.named_parameters() if name.startswith("score.")]
    body = [(name, p) for name, p in model.named_parameters() if not name.startswith("score.")]
    optimizer = make_optimizer(config, [(body, config.lr), (head, config.head_lr)])

    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)
    order = Order([w.length + l.length for w, l in pairs], config.batch_size, seed=stage.seed)
    pad = tokenizer.pad_token_id
    loop = stage.loop(
        config, steps=steps, modules={"reward": model}, optimizer=optimizer,
        evaluate=lambda: evaluate(scorer, held_out, pad), best_key="eval_accuracy", higher=True,
    )  # fmt: skip
    for step in loop:
        set_learning_rate(optimizer, learning_rate_factor(step, steps, config))
        rows = [pairs[i] for i in order[step]]
        total, right, margin = 0.0, 0.0, 0.0
        for part in micro_batches(rows, max(1, config.micro_batch_size // 2)):
            with stage.autocast():
                chosen, rejected = _score_pairs(scorer, part, pad)
            loss = reward_loss(chosen, rejected).sum() / len(rows)
            total += loss.item()
            right += (chosen > rejected).sum().item() / len(rows)
            margin += (chosen - rejected).detach().sum().item() / len(rows)
            loop.log({"loss": total})
            loss.backward()
        norm = clip_and_step(optimizer, config.max_grad_norm, where=f"reward, step {step + 1}")
        loop.log(
            {"accuracy": right, "margin": margin, "grad_norm": norm, "learning_rate": optimizer.param_groups[0]["lr"]},
            samples=len(rows),
            tokens=count_tokens(row for pair in rows for row in pair),
        )
    return StageResult.of(model, tokenizer, loop, counts)


def _score_pairs(scorer: ScoreModel, pairs: Sequence[Pair], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [w for w, _ in pairs] + [l for _, l in pairs]
    scores = scorer(collate(rows, pad_id=pad_id).to(scorer.model.device))
    return scores[: len(rows) // 2], scores[len(rows) // 2 :]


@torch.no_grad()
def evaluate(scorer: ScoreModel, pairs: list[Pair], pad_id: int) -> dict[str, float]:
    """Accuracy and loss on held-out pairs; equal scores count one half."""
    right, loss = 0.0, 0.0
    for group in length_batches([w.length + l.length for w, l in pairs], 64):
        chosen, rejected = _score_pairs(scorer, [pairs[i] for i in group], pad_id)
        right += ((chosen > rejected).float() + 0.5 * (chosen == rejected).float()).sum().item()
        loss += reward_loss(chosen, rejected).sum().item()
    return {"eval_loss": loss / len(pairs), "eval_accuracy": right / len(pairs)}
