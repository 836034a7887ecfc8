"""Direct preference optimisation, Rafailov et al. 2023 (arXiv:2305.18290).

The reference's log-probabilities are computed once, before the first step, by the same forward as the policy's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_bench.logprobs import LogprobModel
from rlhf_bench.models import load_policy
from rlhf_bench.text import Encoded, collate, length_batches
from trainers.batches import Order, count_steps, count_tokens, micro_batches
from trainers.losses import DpoTerms, PairLogps, dpo_loss
from trainers.optim import clip_and_step, learning_rate_factor, make_optimizer, set_learning_rate
from trainers.stage import Stage, StageResult

__all__ = ["train"]

Pair = tuple[Encoded, Encoded]


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
    order = Order([w.length + l.length for w, l in pairs], config.batch_size, seed=stage.seed)

    def evaluate() -> dict[str, float]:
        logps = reference_logps(stage, policy, held_out, pad)
        terms = dpo_loss(logps, held_out_reference, beta=config.beta)
        return {"eval_loss": terms.loss.mean().item(), "eval_rewards/accuracies": _accuracy(terms)}

    loop = stage.loop(config, steps=steps, modules={"policy": model}, optimizer=optimizer, evaluate=evaluate)
    for step in loop:
        set_learning_rate(optimizer, learning_rate_factor(step, steps, config))
        index = order[step]
        log = dict.fromkeys(
            ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
             "logps/rejected"), 0.0)  # fmt: skip
        for part in micro_batches(index, max(1, config.micro_batch_size // 2)):
            with stage.autocast():
                logps = pair_logps(policy, [pairs[i] for i in part], pad)
            terms = dpo_loss(logps, PairLogps(*(side[list(part)] for side in reference)), beta=config.beta)
            loss = terms.loss.sum() / len(index)
            share = len(part) / len(index)
            log["loss"] += loss.item()
            log["rewards/chosen"] += terms.chosen.mean().item() * share
            log["rewards/rejected"] += terms.rejected.mean().item() * share
            log["rewards/margins"] += (terms.chosen - terms.rejected).mean().item() * share
            log["rewards/accuracies"] += _accuracy(terms) * share
            log["logps/chosen"] += logps.chosen.detach().mean().item() * share
            log["logps/rejected"] += logps.rejected.detach().mean().item() * share
            loop.log(log)
            loss.backward()
        norm = clip_and_step(optimizer, config.max_grad_norm, where=f"dpo, step {step + 1}")
        loop.log(
            {"grad_norm": norm, "learning_rate": optimizer.param_groups[0]["lr"]},
            samples=len(index),
            tokens=count_tokens(row for i in index for row in pairs[i]),
        )
    return StageResult.of(model, tokenizer, loop, counts)


def pair_logps(policy: LogprobModel, pairs: Sequence[Pair], pad_id: int) -> PairLogps:
    """Chosen and rejected in one forward pass; sums over response tokens, prompts count for nothing."""
    rows = [w for w, _ in pairs] + [l for _, l in pairs]
    sums = policy(collate(rows, pad_id=pad_id).to(policy.model.device)).logps.sum(1)
    return PairLogps(sums[: len(pairs)], sums[len(pairs) :])


@torch.no_grad()
def reference_logps(stage: Stage, policy: LogprobModel, pairs: Sequence[Pair], pad_id: int) -> PairLogps:
    """Log-probabilities of all pairs, in their order, in the precision that training uses."""
    chosen, rejected = torch.empty(len(pairs), device=stage.device), torch.empty(len(pairs), device=stage.device)
    for group in length_batches([w.length + l.length for w, l in pairs], 64):
        with stage.autocast():
            chosen[group], rejected[group] = pair_logps(policy, [pairs[i] for i in group], pad_id)
    return PairLogps(chosen, rejected)


def _accuracy(terms: DpoTerms) -> float:
    return (terms.chosen > terms.rejected).float().mean().item()
