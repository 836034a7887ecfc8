"""Direct preference optimisation, Rafailov et al. 2023 (arXiv:2305.18290).

The reference's log-probabilities are computed once, before the first step, by the same forward as the policy's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_bench.logprobs import LogprobModel
from rlhf_bench.models import load_policy
from rlhf_bench.text import collate, length_batches
from trainers.batches import Order, Pair, both_sides, count_steps, count_tokens, pair_lengths
from trainers.losses import PairLogps, dpo_loss
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.stage import Stage, StageResult

__all__ = ["train"]


def train(stage: Stage) -> StageResult:
    config = stage.recipe.dpo
    model, tokenizer = load_policy(stage.parent("sft"), device=stage.device)
    policy = LogprobModel(model)
    pad = tokenizer.pad_token_id
    pairs, counts = stage.encode_pairs(tokenizer, stage.pairs("train", config.max_pairs))
    held_out, _ = stage.encode_pairs(tokenizer, stage.pairs("validation", config.eval_size))
    # the policy still is the reference here: nothing has been trained
    reference = reference_logps(stage, policy, pairs, pad)
    held_out_reference = reference_logps(stage, policy, held_out, pad)
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)])

    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)
    order = Order(pair_lengths(pairs), config.batch_size, seed=stage.seed)

    def evaluate() -> dict[str, float]:
        logps = reference_logps(stage, policy, held_out, pad)
        terms = dpo_loss(logps, held_out_reference, beta=config.beta)
        right = (terms.chosen > terms.rejected).float().mean().item()
        return {"eval_loss": terms.loss.mean().item(), "eval_rewards/accuracies": right}

    loop = stage.loop(config, steps=steps, modules={"policy": model}, optimizer=optimizer, evaluate=evaluate)

    def forward(part: Sequence[int]) -> tuple[torch.Tensor, dict[str, float]]:
        with stage.autocast():
            logps = pair_logps(policy, [pairs[i] for i in part], pad)
        terms = dpo_loss(logps, PairLogps(*(side[list(part)] for side in reference)), beta=config.beta)
        loss = terms.loss.sum() / len(index)
        numbers = {
            "rewards/chosen": terms.chosen,
            "rewards/rejected": terms.rejected,
            "rewards/margins": terms.chosen - terms.rejected,
            "rewards/accuracies": (terms.chosen > terms.rejected).float(),
            "logps/chosen": logps.chosen.detach(),
            "logps/rejected": logps.rejected.detach(),
        }
        return loss, {"loss": loss.item()} | {key: x.sum().item() / len(index) for key, x in numbers.items()}

    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, steps, config))
        index = order[step]
        pieces = stage.pool.split(index, max(1, config.micro_batch_size // 2))
        loop.log(
            stage.pool.accumulate(forward, pieces, optimizer.parameters),
            samples=len(index),
            tokens=count_tokens(both_sides([pairs[i] for i in index])),
        )
        norm = optimizer.step(where=f"dpo, step {step + 1}")
        loop.log({"grad_norm": norm, "learning_rate": optimizer.lr})
    return StageResult.of(model, tokenizer, loop, counts)


def pair_logps(policy: LogprobModel, pairs: Sequence[Pair], pad_id: int) -> PairLogps:
    """Chosen and rejected in one forward pass; sums over response tokens, prompts count for nothing."""
    sums = policy(collate(both_sides(pairs), pad_id=pad_id).to(policy.model.device)).logps.sum(1)
    return PairLogps(sums[: len(pairs)], sums[len(pairs) :])


def reference_logps(stage: Stage, policy: LogprobModel, pairs: Sequence[Pair], pad_id: int) -> PairLogps:
    """Log-probabilities of all pairs, in their order, in the precision that training uses. (N,) each."""
    chosen, rejected = torch.empty(len(pairs), device=stage.device), torch.empty(len(pairs), device=stage.device)

    def forward(group: list[int]) -> None:
        with torch.no_grad(), stage.autocast():
            chosen[group], rejected[group] = pair_logps(policy, [pairs[i] for i in group], pad_id)

    stage.pool.map(forward, length_batches(pair_lengths(pairs), 32))
    return PairLogps(chosen, rejected)
