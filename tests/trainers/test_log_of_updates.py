"""What a step's log says of several updates, and how many steps there are."""

from __future__ import annotations

import pytest

from rlhf_bench.types import Prompt
from trainers.engine.alarms import find_alarms
from trainers.engine.batches import Order, count_steps
from trainers.engine.policy_update import log_of_updates
from trainers.engine.rollout import with_unique_ids


def test_one_row_for_several_updates() -> None:
    row = log_of_updates(
        [
            {"loss": 1.0, "policy/approxkl_avg": 0.0, "val/ratio": 1.0, "grad_norm": 5.0},
            {"loss": 2.0, "policy/approxkl_avg": 0.1, "val/ratio": 1.2, "grad_norm": 900.0},
            {"loss": 6.0, "policy/approxkl_avg": 0.8, "val/ratio": 1.7},  # too far: no step was taken
        ]
    )
    assert row == pytest.approx(
        {
            "loss": 3.0,
            "policy/approxkl_avg": 0.3,
            "val/ratio": 1.3,
            "grad_norm": 900.0,  # a spike is to be seen, whichever update had it
            "val/ratio_first": 1.0,
            "policy/approxkl_first": 0.0,
        }
    )
    assert [alarm.name for alarm in find_alarms([{"step": 1, **row}])] == ["approximate_kl"]
    assert log_of_updates([{"loss": 1.0, "policy/approxkl_avg": 3.0}]) == {
        "loss": 1.0, "policy/approxkl_avg": 3.0, "policy/approxkl_first": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps"),
    [(600, 512, 3, 6), (9, 8, 10, 20), (64, 64, 2, 2), (20_000, 64, 1, 313), (20_000, 12, 1.25, 2084), (5, 8, 0.1, 1)],
)
def test_an_epoch_ends_with_its_short_batch(rows: int, batch: int, epochs: float, steps: int) -> None:
    """600 rows in batches of 512 are 2 steps an epoch; 1.25 epochs of 1,667 steps are 2,083.75."""
    assert count_steps(rows, batch, epochs, None) == steps
    assert count_steps(rows, batch, epochs, 7) == 7  # as in transformers, max_steps is the number of steps
    order = Order([1] * rows, batch, seed=0)
    if epochs == int(epochs):
        seen = sorted(i for step in range(steps) for i in order[step])
        assert seen == sorted(list(range(rows)) * int(epochs))


def test_copies_of_a_prompt_are_drawn_independently() -> None:
    """A response's stream is keyed by the prompt's id: copies of it in one rollout have ids of their own."""
    a, b = Prompt("a", "A"), Prompt("b", "B")
    assert with_unique_ids([a, b, a, a]) == [a, b, Prompt("a+1", "A"), Prompt("a+2", "A")]
