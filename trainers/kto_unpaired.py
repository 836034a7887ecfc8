"""KTO on single responses with a label, Ethayarajh et al. 2024 (arXiv:2402.01306): `dpo.loss=kto_unpaired`.

A response is desirable or not, and no prompt needs one of each: what thumbs up and down give. `dpo.batch_size` counts
responses. Loss and reference point are those of TRL's KTOTrainer, but that the reference point is of the whole step and
not of each micro-batch (`kto_kl`). The reference model is kept beside the policy and reads each step's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rlhf_bench.data import LabelledResponse
from rlhf_bench.errors import DataError
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.tokens import Encoded, collate, count_truncated
from trainers.config.recipe import DpoConfig
from trainers.engine.batches import Order, count_steps, count_tokens, encode_rows, report_cut
from trainers.engine.loop import HeldOut, Loop
from trainers.engine.machine import Machine
from trainers.engine.models import load_trained_policy
from trainers.engine.optim import make_optimizer
from trainers.engine.stage import Stage, StageResult, Trained
from trainers.kto import frozen, logps_under, mismatched
from trainers.losses.preference import kto_kl, unpaired_kto_loss


class _Rows:
    """Labelled responses as tokens."""

    def __init__(self, stage: Stage, trained: Trained, given: Sequence[LabelledResponse]) -> None:
        texts = [one.prompt for one in given], [one.response for one in given]
        self.encoded = encode_rows(stage.recipe, trained.tokenizer, *texts)
        self.desirable = [one.desirable for one in given]

    def __len__(self) -> int:
        return len(self.encoded)


@dataclass(frozen=True)
class UnpairedStep:
    """Everything that the loss of one step is a function of, beside the policy."""

    rows: Sequence[Encoded]
    desirable: Tensor  # (B,) True = desirable
    reference: Tensor  # (B,) log-probabilities under the reference
    kl: Tensor  # () KTO's reference point, of the whole step


@dataclass(frozen=True)
class UnpairedTrainer:
    """The policy that learns from labels, beside its reference."""

    config: DpoConfig
    machine: Machine
    policy: LogprobModel
    frozen: LogprobModel
    pad_id: int

    def step(self, rows: Sequence[Encoded], desirable: Sequence[bool]) -> UnpairedStep:
        """One step on these rows, under the policy as it is now."""
        reference = logps_under((self.frozen,), rows, self.machine, self.pad_id)[0]
        kl = kto_kl(*logps_under((self.policy, self.frozen), mismatched(rows), self.machine, self.pad_id))
        return UnpairedStep(rows, torch.tensor(desirable, device=self.machine.device), reference, kl)

    def losses(self, step: UnpairedStep, index: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Loss and implicit reward (detached) of each of the step's rows `index`, (b,)."""
        at, config = list(index), self.config
        batch = collate([step.rows[i] for i in at], pad_id=self.pad_id).to(self.machine.device)
        with self.machine.autocast():
            logps = self.policy(batch).logps.sum(1)
        ratio = logps - step.reference[at]
        loss = unpaired_kto_loss(
            ratio, step.desirable[at], step.kl, beta=config.beta,
            desirable_weight=config.desirable_weight, undesirable_weight=config.undesirable_weight,
        )  # fmt: skip
        return loss, config.beta * ratio.detach()

    def loss(self, step: UnpairedStep, index: Sequence[int]) -> tuple[Tensor, dict[str, float]]:
        """The loss of one micro-batch, its share of the step's mean, and its numbers for the log."""
        each, rewards = self.losses(step, index)
        loss = each.sum() / len(step.rows)
        means = reward_means(rewards, step.desirable[list(index)], step.desirable)
        return loss, {"loss": loss.item()} | means

    def micro_batches(self, step: UnpairedStep) -> list[Sequence[int]]:
        return self.machine.pool.split(range(len(step.rows)), self.config.micro_batch_size)

    def evaluate(self, rows: _Rows) -> dict[str, float]:
        """Loss, reference point and mean implicit rewards on held-out responses, which make one step."""
        step = self.step(rows.encoded, rows.desirable)

        def score(group: Sequence[int]) -> Tensor:
            with torch.no_grad():
                return torch.stack(self.losses(step, group))

        groups = [range(i, min(i + 64, len(rows))) for i in range(0, len(rows), 64)]
        loss, rewards = self.machine.pool.fill(torch.empty(2, len(rows), device=self.machine.device), score, groups)
        means = reward_means(rewards, step.desirable, step.desirable)
        numbers = {"loss": loss.mean().item(), "kl": step.kl.item()} | means
        return {f"eval_{key}": value for key, value in numbers.items()}


def train(stage: Stage) -> StageResult:
    config, machine = stage.recipe.dpo, stage.machine
    trained = load_trained_policy(stage, config, stage.start)
    policy = machine.shard(LogprobModel(trained.model), where=stage.name)
    trainer = UnpairedTrainer(config, machine, policy, frozen(stage), trained.tokenizer.pad_token_id)
    rows = _Rows(stage, trained, read_labelled(stage, "train", config.max_pairs))
    held_out = _Rows(stage, trained, read_labelled(stage, "validation", config.eval_size))
    counts = count_truncated(rows.encoded)
    lengths = [row.length for row in rows.encoded]
    if len(rows) % config.batch_size == 1:
        lengths.pop()  # or each epoch would have a step of one row, which has no other row's response for the KL
        counts["left_over"] = 1
    order = Order(lengths, config.batch_size, seed=stage.seed)
    steps = count_steps(len(lengths), config.batch_size, config.epochs, config.max_steps)

    optimizer = make_optimizer(config, [(trained.model.named_parameters(), config.lr)], machine)
    loop = Loop(stage, steps, trained, optimizer, HeldOut(partial(trainer.evaluate, held_out)))
    loop.first_row = report_cut(stage, prompts=counts["prompts_cut"], responses=counts["responses_cut"], rows=len(rows))
    for number in loop:
        index = order[number]
        step = trainer.step([rows.encoded[i] for i in index], [rows.desirable[i] for i in index])
        loop.update(
            partial(trainer.loss, step), trainer.micro_batches(step),
            samples=len(index), tokens=count_tokens(step.rows),
        )  # fmt: skip
        loop.log({"kl": step.kl.item()})
    good = sum(rows.desirable)
    return loop.result(counts | {"desirable": good, "undesirable": len(rows) - good})


def read_labelled(stage: Stage, split: str, limit: int | None) -> list[LabelledResponse]:
    """The split's labelled responses. Raises DataError for fewer than two, or for those of one label alone."""
    found = stage.labelled(split)[:limit]
    good, config = sum(one.desirable for one in found), stage.recipe.dpo
    stage.log(f"{split}: {good:,} desirable and {len(found) - good:,} undesirable responses")
    if len(found) < 2 or (split == "train" and good in (0, len(found))):
        raise DataError(
            f"dpo.loss=kto_unpaired: {split} has {good} desirable and {len(found) - good} undesirable responses; "
            "expected at least 2 responses, in training of both kinds: give more data (dpo.max_pairs, dpo.eval_size)"
        )
    if split == "train":
        ratio = config.desirable_weight * good / (config.undesirable_weight * (len(found) - good))
        if not 0.5 <= ratio <= 2:
            stage.log(
                f"the desirable weigh {ratio:.2g} times as much as the undesirable; balance them with "
                "dpo.desirable_weight or dpo.undesirable_weight"
            )
    return found


def reward_means(rewards: Tensor, desirable: Tensor, whole: Tensor) -> dict[str, float]:
    """Sums of the rewards of each kind over how many of it are in `whole`; nothing of a kind that has none there."""
    sums = {"chosen": (rewards * desirable).sum().item(), "rejected": (rewards * ~desirable).sum().item()}
    there = {"chosen": int(whole.sum()), "rejected": int((~whole).sum())}
    means = {f"rewards/{kind}": total / there[kind] for kind, total in sums.items() if there[kind]}
    if len(means) == 2:
        means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
    return means
