"""Packed documents give what they give one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.logprobs import LogprobModel, hidden_states
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.tokens import Encoded, collate
from trainers import language_model
from trainers.engine import packing
from trainers.engine.packing import PackedLogprobs, check_packing, collate_packs, pack

from .conftest import FirstStep, llama

A, B, C = Encoded([11, 12], [13, 0]), Encoded([14], [15, 16, 17, 0]), Encoded([18, 19, 20], [21, 0])


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, policy_folder: Path) -> Any:
    return llama() if request.param == "llama" else load_policy(policy_folder, dtype=torch.float64)[0]


def test_packs_worked_by_hand() -> None:
    """Lengths 3, 5, 2, 4 into 8: 5 opens the first pack, 4 does not fit beside it, 3 does, 2 goes to the 4."""
    rows = [Encoded([1], [2] * (n - 1)) for n in (3, 5, 2, 4)]
    assert [[row.length for row in documents] for documents in pack(rows, 8)] == [[5, 3], [4, 2]]
    assert [[row.length for row in documents] for documents in pack(rows, 5)] == [[5], [4], [3, 2]]
    with pytest.raises(ValueError, match="a row of 5 tokens does not fit into a pack of 4"):
        pack(rows, 4)


def test_a_batch_of_packs_worked_by_hand() -> None:
    batch = collate_packs([[A, C], [B]], pad_id=9, multiple_of=4)
    assert batch.ids.tolist() == [
        [11, 12, 13, 0, 18, 19, 20, 21, 0, 9, 9, 9],
        [14, 15, 16, 17, 0, 9, 9, 9, 9, 9, 9, 9],
    ]
    assert batch.position_ids.tolist() == [
        [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2],
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6],
    ]
    assert batch.attention_mask.long().tolist() == [[1] * 9 + [0] * 3, [1] * 5 + [0] * 7]
    assert batch.response_mask.long().tolist() == [[0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1] + [0] * 7]


def logps_of(model: Any, packs: list[list[Encoded]], *, whole: bool) -> Tensor:
    """Of every token but each document's first (the others 0), document by document."""
    with torch.no_grad():
        logps = PackedLogprobs(model)(collate_packs(packs, pad_id=0), whole_sequence=whole).logps
    return torch.cat([row[: sum(d.length for d in documents)] for row, documents in zip(logps, packs, strict=True)])


@pytest.mark.parametrize("whole", [False, True])
def test_log_probabilities_are_those_of_the_documents_alone(model: Any, whole: bool) -> None:
    alone = [
        LogprobModel(model)(collate([row], pad_id=0), whole_sequence=whole).logps[0, : row.length] for row in (A, C, B)
    ]
    torch.testing.assert_close(logps_of(model, [[A, C], [B]], whole=whole), torch.cat(alone), rtol=0, atol=1e-10)


def test_a_token_of_another_document_changes_nothing(model: Any) -> None:
    """C stands between A and B; what is before it and what is after it may be anything."""
    place = slice(A.length, A.length + C.length)
    kept = logps_of(model, [[A, C, B]], whole=True)
    for other in (Encoded([31, 32], [33, 0]), Encoded([12, 11], [0, 13])):
        for packs in ([[other, C, B]], [[A, C, Encoded([*other.prompt], [34, *other.response])]]):
            changed = logps_of(model, packs, whole=True)
            assert torch.equal(changed[place], kept[place])
            assert not torch.equal(changed, kept)


@pytest.mark.parametrize("loss_on", ["response", "sequence"])
def test_a_step_has_the_loss_and_the_gradients_of_the_unpacked_one(
    first_step: FirstStep, monkeypatch: pytest.MonkeyPatch, loss_on: str
) -> None:
    """Two micro-batches of two packs; every end-of-text has a label."""
    plain, _ = first_step("sft", double=True, loss_on=loss_on)
    batches = []

    def spy(*arguments: Any, **options: Any) -> Any:
        batches.append(collate_packs(*arguments, **options))
        return batches[-1]

    monkeypatch.setattr(language_model, "collate_packs", spy)
    packed, result = first_step("sft", double=True, loss_on=loss_on, packing=True, micro_batch_size=1)
    assert packed.loss == pytest.approx(plain.loss, rel=1e-12)
    assert packed.gradients.keys() == plain.gradients.keys()
    for name, gradient in plain.gradients.items():
        assert float((packed.gradients[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()) + 1e-12, name
    assert len(batches) > 1
    assert sum(int((batch.position_ids[batch.attention_mask] == 0).sum()) for batch in batches) == 5  # documents
    ends = sum(
        int((batch.ids[batch.response_mask] == result.trained.tokenizer.eos_token_id).sum()) for batch in batches
    )
    assert ends == 5


def test_a_model_that_does_not_keep_documents_apart_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_packing(model, "sft")
    monkeypatch.setattr(packing, "packed_hidden_states", hidden_states)  # one mask for the row: it looks back freely
    with pytest.raises(
        ModelError, match=r"^sft\.packing: in a (gpt2|llama) model a document sees the others in its row; "
    ):
        check_packing(model, "sft")
