"""What the DPO family shares: micro-batches, what is logged, and the reference's log-probabilities on disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf_bench.errors import DataError
from rlhf_bench.files import read_jsonl
from trainers import kto
from trainers.engine import reference
from trainers.engine.batches import Pair
from trainers.engine.loop import Loop
from trainers.losses.preference import PREFERENCE_LOSSES, PairLogps

from .conftest import PAIRS, FirstStep, Graded

SMOOTHING = {"cdpo": 0.1, "robust": 0.1}
OPTIONS = [{"loss": name, "label_smoothing": SMOOTHING.get(name, 0.0)} for name in PREFERENCE_LOSSES]
MORE = [{"loss": "ipo", "sft_weight": 0.5}, {"loss": "kto", "desirable_weight": 2.0, "beta": 0.5}]


def names(case: dict[str, Any]) -> str:
    return "-".join(str(value) for value in case.values() if value)


# gradients


@pytest.mark.usefixtures("under_the_reference")
@pytest.mark.parametrize("section", [*OPTIONS, *MORE], ids=names)
def test_micro_batches_give_the_gradient_of_the_whole(first_step: FirstStep, section: dict[str, Any]) -> None:
    """In float64, to 1e-5 of each tensor's norm: SFT terms and KTO's KL are of the whole step."""
    whole, _ = first_step("dpo", micro_batch_size=64, double=True, **section)
    for size in (1, 4):  # 5 micro-batches of a pair; 3 of one or two
        parts, _ = first_step("dpo", micro_batch_size=size, double=True, **section)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
        largest = max(float(g.norm()) for g in whole.gradients.values())
        assert largest > 1e-3
        for name, gradient in whole.gradients.items():
            norm = max(float(gradient.norm()), 1e-6 * largest)  # a bias that cancels (that of the keys) is rounding
            assert float((parts.gradients[name] - gradient).norm()) < 1e-5 * norm, name


def same(a: Graded, b: Graded) -> bool:
    return a.loss == b.loss and all(torch.equal(a.gradients[name], b.gradients[name]) for name in a.gradients)


def test_losses_have_gradients_of_their_own(first_step: FirstStep, under_the_reference: Any) -> None:
    """No two names lead to the same function."""
    steps = [first_step("dpo", **section)[0] for section in OPTIONS]
    assert len({round(step.loss, 5) for step in steps}) == len(steps)


# the log


@pytest.mark.usefixtures("under_the_reference")
@pytest.mark.parametrize(("section", "extra"), [
    ({}, set()),
    ({"sft_weight": 0.5}, {"nll_loss"}),
    ({"loss": "orpo"}, {"nll_loss"}),
    ({"loss": "kto"}, {"kl"}),
])  # fmt: skip
def test_the_log_has_trls_names(
    first_step: FirstStep, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], extra: set[str]
) -> None:
    files: list[Path] = []
    write = Loop.end_row
    monkeypatch.setattr(Loop, "end_row", lambda self: (write(self), files.append(self.files.log))[0])
    first_step("dpo", **section)
    shared = {
        "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
        "logps/rejected", "grad_norm", "learning_rate", "num_tokens", "step", "seconds", "eval_loss",
        "eval_rewards/accuracies",
    }  # fmt: skip
    assert set(read_jsonl(files[0])[0]) == shared | extra


# the reference's log-probabilities


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs' log-probabilities were computed, call by call."""
    counts: list[int] = []
    compute = reference.pair_logps

    def spy(policy: Any, pairs: Sequence[Pair], pad: int) -> PairLogps:
        counts.append(len(pairs))
        return compute(policy, pairs, pad)

    monkeypatch.setattr(reference, "pair_logps", spy)
    return counts


def test_a_second_run_reads_what_the_first_has_computed(
    first_step: FirstStep, computed: list[int], tmp_path: Path
) -> None:
    """Another loss too; training and validation pairs are the same here, so even the first run computes them once."""
    first, _ = first_step("dpo", cache=tmp_path)
    assert computed == [5]
    again, _ = first_step("dpo", cache=tmp_path)
    first_step("dpo", cache=tmp_path, loss="ipo")
    assert computed == [5]
    assert same(first, again)
    assert same(first, first_step("dpo")[0])  # without a cache


def test_another_reference_or_other_data_is_computed(
    first_step: FirstStep, computed: list[int], reference_folder: Path, tmp_path: Path
) -> None:
    first_step("dpo", cache=tmp_path)
    first_step("dpo", cache=tmp_path, sft=reference_folder)
    assert computed == [5, 5]
    first_step("dpo", cache=tmp_path, pairs=PAIRS[:4])
    assert computed == [5, 5, 4]
    first_step("dpo", cache=tmp_path, pairs=PAIRS[::-1])  # their order is that of the numbers
    assert computed == [5, 5, 4, 5]


def test_only_the_pairs_of_the_steps_are_read(first_step: FirstStep, computed: list[int]) -> None:
    """One step of 2 pairs out of 5; the 5 held-out ones are all evaluated."""
    first_step("dpo", batch_size=2, max_steps=1)
    assert computed == [2, 5]


def test_what_was_read_before_an_interruption_is_kept(
    first_step: FirstStep, computed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of 2, 2 and 1 pair, a save after each: the third is interrupted, and the second run computes it alone."""
    monkeypatch.setattr(reference, "FORWARD_PAIRS", 2)
    monkeypatch.setattr(reference, "AT_A_TIME", 1)
    whole, _ = first_step("dpo")
    clock = itertools.count(step=1000)
    monkeypatch.setattr(reference, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    compute = reference.pair_logps

    def interrupted(policy: Any, pairs: Sequence[Pair], pad: int) -> PairLogps:
        if len(pairs) == 1:
            raise KeyboardInterrupt
        return compute(policy, pairs, pad)

    computed.clear()
    with monkeypatch.context() as patch:
        patch.setattr(reference, "pair_logps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            first_step("dpo", cache=tmp_path)
    assert computed == [2, 2]
    again, _ = first_step("dpo", cache=tmp_path)
    assert computed == [2, 2, 1]
    assert same(again, whole)


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:-1] + b"?", lambda data: b""])
def test_a_damaged_file_is_computed_again(
    first_step: FirstStep, computed: list[int], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    first, _ = first_step("dpo", cache=tmp_path)
    (file,) = tmp_path.glob("*.logps")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert same(first_step("dpo", cache=tmp_path)[0], first)
    assert computed == [5, 5]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("loss", [name for name, method in PREFERENCE_LOSSES.items() if not method.needs_reference])
def test_a_loss_without_a_reference_computes_none(
    first_step: FirstStep, computed: list[int], tmp_path: Path, loss: str
) -> None:
    first_step("dpo", cache=tmp_path, loss=loss)
    assert computed == []
    assert list(tmp_path.iterdir()) == []


def test_ktos_kl_is_of_prompts_with_other_pairs_responses(
    first_step: FirstStep, under_the_reference: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row, chosen and rejected, with the response of the row before it: no prompt meets its own."""
    seen: list[tuple[list[int], list[int]]] = []
    of_kl: list[list[tuple[list[int], list[int]]]] = []
    collate, kto_kl = kto.collate, kto.kto_kl

    def spy(rows: Any, **options: Any) -> Any:
        seen.extend((row.prompt, row.response) for row in rows)
        return collate(rows, **options)

    def note(policy: Tensor, reference: Tensor) -> Tensor:
        of_kl.append(seen[-len(policy) :])
        return kto_kl(policy, reference)

    monkeypatch.setattr(kto, "collate", spy)
    monkeypatch.setattr(kto, "kto_kl", note)
    first_step("dpo", loss="kto")
    # of all pairs of the step, then of all that are held out
    assert [len(pairs) for pairs in under_the_reference] == [len(PAIRS), len(PAIRS)]
    rows = [side for i in (0, 1) for side in (pair[i] for pair in under_the_reference[0])]
    assert sorted(of_kl[0]) == sorted((row.prompt, rows[i - 1].response) for i, row in enumerate(rows))


def test_kto_has_no_step_of_one_pair(first_step: FirstStep) -> None:
    """5 pairs in steps of 4 and 1: the one would take its own other response for another prompt's."""
    _, result = first_step("dpo", loss="kto", batch_size=4)
    assert (result.steps, result.counts["left_over"]) == (1, 1)
    _, whole = first_step("dpo", loss="kto", batch_size=5)
    assert "left_over" not in whole.counts


def test_kto_of_one_pair_says_what_it_lacks(first_step: FirstStep) -> None:
    with pytest.raises(DataError, match=r"dpo\.loss=kto: 1 training pair.*expected at least 2"):
        first_step("dpo", loss="kto", pairs=PAIRS[:1], batch_size=4)
    with pytest.raises(DataError, match=r"dpo\.loss=kto: 1 validation pair.*dpo\.eval_size"):
        first_step("dpo", loss="kto", eval_size=1)
