"""KTO on preference pairs, Ethayarajh et al. 2024 (arXiv:2402.01306), in the loop of dpo.py: `dpo.loss=kto`.

The chosen response is a desirable example, the rejected one an undesirable. Its reference point is a KL of prompts with
the responses of other pairs, which change with the step; so the reference model is kept beside the policy, where the
rest of DPO's family needs its log-probabilities alone. Single responses with labels are learned in kto_unpaired.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_bench.errors import DataError
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.tokens import Encoded, collate, length_batches
from trainers.engine.batches import Pair, both_sides
from trainers.engine.machine import Machine
from trainers.engine.models import load_reference
from trainers.engine.pairs import FORWARD_PAIRS, PairStep, PairTrainer
from trainers.engine.stage import Stage
from trainers.losses.preference import PairLogps, kto_kl


def check_pairs(pairs: list[Pair], held_out: Sequence[Pair], batch_size: int) -> dict[str, int]:
    """Leave out the last of the training pairs where it would be a step alone: no other pair's response is there for
    its KL. Returns how many were left over. Raises DataError for fewer than two pairs of either split."""
    for split, found in (("training", pairs), ("validation", held_out)):
        if len(found) < 2:
            raise DataError(
                f"dpo.loss=kto: {len(found)} {split} pair(s), expected at least 2: its KL pairs each prompt with "
                "another pair's response; give more data (dpo.max_pairs, dpo.eval_size), or choose another loss"
            )
    if len(pairs) % batch_size != 1:
        return {}
    pairs.pop()
    return {"left_over": 1}


def frozen(stage: Stage) -> LogprobModel:
    """The reference, which is kept beside the policy."""
    reference = LogprobModel(load_reference(stage, stage.recipe.dpo, stage.start))
    return stage.machine.shard(reference, where=stage.name)


def step(trainer: PairTrainer, frozen: LogprobModel, pairs: Sequence[Pair], reference: PairLogps) -> PairStep:
    """One step on these pairs, with the reference point of the policy as it is now."""
    return trainer.step(pairs, reference, mismatched_kl(trainer, frozen, pairs))


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
