"""What DPO's family shares: pairs under the policy, the loss of a step as a function of one `PairStep`, evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.tokens import collate, length_batches
from trainers.config.recipe import DpoConfig
from trainers.engine.batches import Pair, both_sides, pair_lengths
from trainers.engine.machine import Machine
from trainers.losses.preference import PREFERENCE_LOSSES, PairBatch, PairLogps, PreferenceLoss

FORWARD_PAIRS = 32  # of one forward pass without a gradient


@dataclass(frozen=True)
class PairStep:
    """Everything that the loss of one step is a function of, beside the model."""

    pairs: Sequence[Pair]
    reference: PairLogps  # (B,) 0 for a loss without a reference
    sft_tokens: float  # tokens of the SFT term a pair, over the whole step
    kl: Tensor  # () KTO's reference point, of the whole step; 0 for the others


@dataclass(frozen=True)
class PairTrainer:
    """The policy that learns from pairs, and by which loss."""

    config: DpoConfig
    machine: Machine
    policy: LogprobModel
    pad_id: int

    @property
    def method(self) -> PreferenceLoss:
        return PREFERENCE_LOSSES[self.config.loss]

    @property
    def sft_weight(self) -> float:
        return self.method.sft_weight if self.config.sft_weight is None else self.config.sft_weight

    def step(self, pairs: Sequence[Pair], reference: PairLogps, kl: Tensor | None = None) -> PairStep:
        """One step on these pairs, with their log-probabilities under the reference, (B,)."""
        on_prompt = self.method.sft_on_prompt
        tokens = sum(chosen.length - 1 if on_prompt else len(chosen.response) for chosen, _ in pairs)
        kl = torch.zeros((), device=self.machine.device) if kl is None else kl
        return PairStep(pairs, reference, tokens / len(pairs), kl)

    def losses(self, step: PairStep, index: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each of the step's pairs `index`, (b,), and the numbers that are logged, (b,) each."""
        pairs, device = [step.pairs[i] for i in index], self.machine.device
        with self.machine.autocast():
            logps, nll = score_pairs(self.policy, pairs, self.pad_id, prompt_too=self.method.sft_on_prompt)
        lengths = torch.tensor([[len(side.response) for side in pair] for pair in pairs], device=device)
        batch = PairBatch(logps, take(step.reference, index), PairLogps(*lengths.T), step.kl)
        loss, chosen, rejected = self.method.terms(batch, self.config)
        numbers = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).to(chosen.dtype),
            "logps/chosen": logps.chosen.detach(),
            "logps/rejected": logps.rejected.detach(),
        }
        if self.sft_weight:
            term = self.method.sft_term(nll, batch.tokens.chosen, step.sft_tokens)
            loss = loss + self.sft_weight * term
            numbers["nll_loss"] = term.detach()
        return loss, numbers

    def loss(self, step: PairStep, index: Sequence[int]) -> tuple[Tensor, dict[str, float]]:
        """The loss of one micro-batch, its share of the step's, and its numbers for the log."""
        each, numbers = self.losses(step, index)
        loss = each.sum() / len(step.pairs)
        return loss, {"loss": loss.item()} | {key: x.sum().item() / len(step.pairs) for key, x in numbers.items()}

    def micro_batches(self, step: PairStep) -> list[Sequence[int]]:
        return self.machine.pool.split(range(len(step.pairs)), max(1, self.config.micro_batch_size // 2))

    def evaluate(self, step: PairStep) -> dict[str, float]:
        """Loss and accuracy on held-out pairs, which are given as one step."""

        def score(group: Sequence[int]) -> Tensor:
            with torch.no_grad():
                loss, numbers = self.losses(step, group)
            return torch.stack([loss, numbers["rewards/accuracies"]])

        groups = length_batches(pair_lengths(step.pairs), FORWARD_PAIRS)
        out = torch.empty(2, len(step.pairs), device=self.machine.device)
        loss, right = self.machine.pool.fill(out, score, groups)
        return {"eval_loss": loss.mean().item(), "eval_rewards/accuracies": right.mean().item()}


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


def take(logps: PairLogps, index: Sequence[int]) -> PairLogps:
    return PairLogps(logps.chosen[list(index)], logps.rejected[list(index)])
