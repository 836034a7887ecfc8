"""Direct preference optimisation, Rafailov et al. 2023 (arXiv:2305.18290), and its family: `dpo.loss` says which.

The reference's log-probabilities are computed once, before the first step, by the same forward as the policy's, and
kept on disk. Losses without a reference (cpo, orpo, slic) never compute them. KTO alone keeps the reference model as
well: its KL asks for prompts with other pairs' responses, which change with the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_bench.errors import DataError
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokens import Encoded, collate, length_batches
from trainers.batches import Order, Pair, both_sides, count_steps, count_tokens, pair_lengths
from trainers.optim import learning_rate_factor, make_optimizer
from trainers.preference_losses import PREFERENCE_LOSSES, PairBatch, PairLogps, kto_kl
from trainers.reference_cache import remembered
from trainers.stage import Stage, StageResult

__all__ = ["train"]

FORWARD_PAIRS = 32  # of one forward pass without a gradient


class StepTotals(NamedTuple):
    """What a loss takes from all pairs of a step, so that micro-batches do not change it."""

    sft_tokens: float  # tokens of the SFT term a pair
    kl: Tensor  # () KTO's reference point, else 0


def train(stage: Stage) -> StageResult:
    config = stage.recipe.dpo
    method = PREFERENCE_LOSSES[config.loss]
    sft_weight = method.sft_weight if config.sft_weight is None else config.sft_weight
    sft, device = stage.parent("sft"), stage.device
    model, tokenizer = load_policy(sft, device=device, load_in_4bit=config.load_in_4bit)
    adapter = stage.make_trainable(model, config, sft)
    policy, pad = stage.divide(LogprobModel(model)), tokenizer.pad_token_id
    pairs, _, counts = stage.encode_pairs(tokenizer, stage.pairs("train", config.max_pairs))
    held_out = stage.encode_pairs(tokenizer, stage.pairs("validation", config.eval_size)).pairs
    for split, some in (("training", pairs), ("validation", held_out)) if config.loss == "kto" else ():
        if len(some) < 2:
            raise DataError(
                f"dpo.loss=kto: {len(some)} {split} pair(s), expected at least 2: its KL pairs each prompt with "
                "another pair's response; give more data (dpo.max_pairs, dpo.eval_size), or choose another loss"
            )
    if config.loss == "kto" and len(pairs) % config.batch_size == 1:
        pairs.pop()  # or each epoch would have a step of one pair, which has no other pair's response for the KL
        counts["left_over"] = 1

    # the policy still is the reference here: nothing has been trained
    def under_reference(some: Sequence[Pair]) -> PairLogps:
        if not method.needs_reference:
            return PairLogps(*torch.zeros(2, len(some), device=device))
        return remembered(stage, sft, some, lambda: reference_logps(stage, policy, some, pad))

    reference, held_out_reference = under_reference(pairs), under_reference(held_out)
    frozen = None
    if config.loss == "kto":
        frozen = LogprobModel(load_policy(sft, device=device, load_in_4bit=config.load_in_4bit)[0])
        stage.compile(frozen.model, config)
        stage.divide(frozen)
    optimizer = make_optimizer(config, [(model.named_parameters(), config.lr)], stage.pool)

    steps = count_steps(len(pairs), config.batch_size, config.epochs, config.max_steps)
    order = Order(pair_lengths(pairs), config.batch_size, seed=stage.seed)

    def totals_of(some: Sequence[Pair]) -> StepTotals:
        tokens = sum(chosen.length - 1 if method.sft_on_prompt else len(chosen.response) for chosen, _ in some)
        kl = torch.zeros((), device=device) if frozen is None else mismatched_kl(stage, policy, frozen, some, pad)
        return StepTotals(tokens / len(some), kl)

    def losses(some: Sequence[Pair], against: PairLogps, totals: StepTotals) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each pair, (B,), and the numbers that are logged, (B,) each."""
        with stage.autocast():
            logps, nll = score_pairs(policy, some, pad, prompt_too=method.sft_on_prompt)
        lengths = torch.tensor([[len(side.response) for side in pair] for pair in some], device=device)
        tokens = PairLogps(*lengths.T)
        loss, chosen, rejected = method.terms(PairBatch(logps, against, tokens, totals.kl), config)
        numbers = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
            "logps/chosen": logps.chosen.detach(),
            "logps/rejected": logps.rejected.detach(),
        }
        if sft_weight:
            term = method.sft_term(nll, tokens.chosen, totals.sft_tokens)
            loss = loss + sft_weight * term
            numbers["nll_loss"] = term.detach()
        return loss, numbers

    def evaluate() -> dict[str, float]:
        totals = totals_of(held_out)

        def score(group: Sequence[int]) -> Tensor:
            with torch.no_grad():
                loss, numbers = losses([held_out[i] for i in group], take(held_out_reference, group), totals)
            return torch.stack([loss, numbers["rewards/accuracies"]])

        groups = length_batches(pair_lengths(held_out), FORWARD_PAIRS)
        loss, right = stage.pool.fill(torch.empty(2, len(held_out), device=device), score, groups)
        return {"eval_loss": loss.mean().item(), "eval_rewards/accuracies": right.mean().item()}

    loop = stage.loop(
        config,
        steps=steps,
        modules={"policy": model},
        tokenizer=tokenizer,
        adapter=adapter,
        optimizer=optimizer,
        evaluate=evaluate,
    )

    def forward(part: Sequence[int]) -> tuple[Tensor, dict[str, float]]:
        each, numbers = losses([pairs[i] for i in part], take(reference, part), totals)
        loss = each.sum() / len(index)
        return loss, {"loss": loss.item()} | {key: x.sum().item() / len(index) for key, x in numbers.items()}

    for step in loop:
        optimizer.set_learning_rate(learning_rate_factor(step, steps, config))
        index = order[step]
        totals = totals_of([pairs[i] for i in index])
        pieces = stage.pool.split(index, max(1, config.micro_batch_size // 2))
        loop.log(
            stage.pool.accumulate(forward, pieces, optimizer.parameters),
            samples=len(index),
            tokens=count_tokens(both_sides([pairs[i] for i in index])),
        )
        if frozen is not None:
            loop.log({"kl": totals.kl.item()})
        norm = optimizer.step(where=f"dpo, step {step + 1}")
        loop.log({"grad_norm": norm, "learning_rate": optimizer.lr})
    return StageResult.of(model, tokenizer, loop, counts, adapter=adapter)


def score_pairs(
    policy: LogprobModel, pairs: Sequence[Pair], pad_id: int, *, prompt_too: bool = False
) -> tuple[PairLogps, Tensor]:
    """Both sides in one forward pass: log-probabilities, sums over response tokens, and the negative log-likelihood of
    the chosen side, (B,), over its response or, with `prompt_too`, over all its tokens but the first."""
    batch = collate(both_sides(pairs), pad_id=pad_id).to(policy.model.device)
    logps = policy(batch, whole_sequence=prompt_too).logps
    sums = (logps * batch.response_mask).sum(1)
    return PairLogps(sums[: len(pairs)], sums[len(pairs) :]), -logps[: len(pairs)].sum(1)


def pair_logps(policy: LogprobModel, pairs: Sequence[Pair], pad_id: int) -> PairLogps:
    """Sums over response tokens; prompts count for nothing."""
    return score_pairs(policy, pairs, pad_id)[0]


def reference_logps(stage: Stage, policy: LogprobModel, pairs: Sequence[Pair], pad_id: int) -> PairLogps:
    """Log-probabilities of all pairs, in their order, in the precision that training uses. (N,) each."""

    def forward(group: Sequence[int]) -> Tensor:
        with torch.no_grad(), stage.autocast():
            return torch.stack(pair_logps(policy, [pairs[i] for i in group], pad_id))

    groups = length_batches(pair_lengths(pairs), FORWARD_PAIRS)
    return PairLogps(*stage.pool.fill(torch.empty(2, len(pairs), device=stage.device), forward, groups))


def mismatched_kl(
    stage: Stage, policy: LogprobModel, frozen: LogprobModel, pairs: Sequence[Pair], pad_id: int
) -> Tensor:
    """KTO's reference point: each prompt of the step with the response of the row before it, under both models."""
    rows = both_sides(pairs)
    mismatched = [Encoded(row.prompt, rows[i - 1].response) for i, row in enumerate(rows)]

    def forward(group: Sequence[int]) -> Tensor:
        batch = collate([mismatched[i] for i in group], pad_id=pad_id).to(stage.device)
        with torch.no_grad(), stage.autocast():
            return torch.stack([model(batch).logps.sum(1) for model in (policy, frozen)])

    groups = length_batches([row.length for row in mismatched], 2 * FORWARD_PAIRS)
    return kto_kl(*stage.pool.fill(torch.empty(2, len(rows), device=stage.device), forward, groups))


def take(logps: PairLogps, index: Sequence[int]) -> PairLogps:
    return PairLogps(logps.chosen[list(index)], logps.rejected[list(index)])
