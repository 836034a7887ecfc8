"""The order of a step's rows changes no gradient, wherever the edges of its micro-batches then fall.

Exempt are `dpo.loss=kto` and `grpo.loss_type=bnpo`: a KL that gives each prompt the response of the row before it, and
a mean over the micro-batch's own tokens, depend on which rows are neighbours, as their docstrings say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from rlhf_bench.modeling.tokens import Batch
from rlhf_bench.runtime.pool import Pool
from trainers.engine.batches import Order
from trainers.engine.rollout import Rollout, RolloutMaker
from trainers.engine.stage import Stage

from . import test_invariance
from .test_invariance import STAGES, MakeStage, Section, Step, close, exactly

folder, make_stage, one_step = test_invariance.folder, test_invariance.make_stage, test_invariance.one_step
in_float64, stirred = test_invariance.in_float64, test_invariance.stirred

# Under several minibatches another order puts other rows into the first of them, which is another gradient.
ORDERED = [(name, section) for name, section in STAGES if section.get("loss") != "kto" and "minibatches" not in section]
DATA = [(name, section) for name, section in ORDERED if name not in ("ppo", "grpo")]
DATA += [("dpo", {"loss": "ipo"}), ("dpo", {"loss": "orpo"}), ("dpo", {"lora": {"r": 3}, "sft_weight": 0.5})]
ROLLOUTS = [(name, section) for name, section in ORDERED if name in ("ppo", "grpo")]
ROLLOUTS += [("ppo", {"kl_in": "loss", "whiten_rewards": True}), ("grpo", {"ratio": "sequence"})]

Edges = set[frozenset[object]]  # the rows that share a micro-batch


def shuffled(count: int) -> list[int]:
    return random.Random(1).sample(range(count), count)


@pytest.mark.parametrize(("name", "section"), DATA)
@exactly
def test_the_order_of_a_batch_changes_no_gradient(
    make_stage: MakeStage,
    one_step: Callable[[Stage], Step],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    section: Section,
) -> None:
    rows = 3  # of 10, or pairs
    section = {"micro_batch_size": rows if name == "sft" else 2 * rows, **section}
    plain = one_step(make_stage(name, **section))
    rows_of, batches = Order.__getitem__, []

    def reordered(self: Order, step: int) -> list[int]:
        batch = rows_of(self, step)
        batches.extend([batch, [batch[i] for i in shuffled(len(batch))]])
        return batches[-1]

    def edges(batch: Sequence[int]) -> Edges:
        return {frozenset(part) for part in Pool(None, 1).split(batch, rows)}

    monkeypatch.setattr(Order, "__getitem__", reordered)
    close(one_step(make_stage(name, **section)), plain)
    assert edges(batches[0]) != edges(batches[1])


@pytest.mark.parametrize(("name", "section"), ROLLOUTS)
@exactly
def test_the_order_of_a_rollout_changes_no_gradient(
    make_stage: MakeStage,
    one_step: Callable[[Stage], Step],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    section: Section,
) -> None:
    """The groups of a rollout in another order, and the responses in each. Its micro-batches are not sorted by length
    then: sorted, they would be the old ones again."""
    section = {"micro_batch_size": 3, "batch_size": 9 if name == "ppo" else 4, **section}
    make, sort, found = RolloutMaker.make, RolloutMaker.micro_batches, []

    def reordered(self: RolloutMaker, step: int, *, samples: int) -> Rollout:
        rollout = make(self, step, samples=samples)
        groups = shuffled(len(rollout.rows) // samples)
        index = [samples * group + i for group in groups for i in shuffled(samples)]
        return rollout._replace(
            rows=[rollout.rows[i] for i in index], batch=Batch(*(tensor[index] for tensor in rollout.batch)),
            scores=rollout.scores[index], ended=rollout.ended[index], reference_logps=rollout.reference_logps[index],
        )  # fmt: skip

    def unsorted(self: RolloutMaker, batch: Batch, index: Tensor | None = None) -> list[Tensor]:
        rows = range(len(batch.ids)) if index is None else index.tolist()
        return [torch.tensor(part) for part in self.stage.machine.pool.split(rows, self.config.micro_batch_size)]

    def watched(split: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        def spy(self: RolloutMaker, batch: Batch, index: Tensor | None = None) -> list[Tensor]:
            parts = split(self, batch, index)
            if index is not None:  # an update's
                found.append({frozenset(tuple(batch.ids[i].tolist()) for i in part) for part in parts})
            return parts

        return spy

    monkeypatch.setattr(RolloutMaker, "micro_batches", watched(sort))
    plain = one_step(make_stage(name, **section))
    monkeypatch.setattr(RolloutMaker, "micro_batches", watched(unsorted))
    monkeypatch.setattr(RolloutMaker, "make", reordered)
    close(one_step(make_stage(name, **section)), plain)
    before, after = found[0], found[-1]
    assert frozenset.union(*before) == frozenset.union(*after)
    assert before != after
