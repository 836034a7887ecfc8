"""A reward is the score at the last real token, whatever is beside it in the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_bench.errors import NotFinite
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.tokens import Encoded, collate

WORDS = ["Blue.", "I am happy to help.", "Eight minutes", "no", "Put it in boiling water."]
PROMPTS = [f"\n\nHuman: {WORDS[i % 5]} {i}?\n\nAssistant:" for i in range(33)]
CHOSEN = [f" {WORDS[(i * 2) % 5]}" * (1 + i % 2) for i in range(33)]
REJECTED = [f" {WORDS[(i * 3 + 1) % 5]}!" * (1 + i % 2) for i in range(33)]


@pytest.fixture
def reward(reward_folder: Path) -> RewardModel:
    return RewardModel.load(reward_folder)


def alone(reward: RewardModel, row: Encoded) -> float:
    """The head on plain transformers' hidden state of the last token of one text, without padding."""
    ids = torch.tensor([row.prompt + row.response])
    with torch.no_grad():
        hidden: Tensor = reward.model.model.transformer(ids).last_hidden_state  # type: ignore[operator, union-attr]
        return float(reward.model.model.score(hidden[0, -1]))  # type: ignore[operator]


def test_score_is_read_at_end_of_text(reward: RewardModel) -> None:
    rows = reward.encode(PROMPTS, CHOSEN)
    assert all(row.response[-1] == reward.tokenizer.eos_token_id for row in rows)
    expected = [alone(reward, row) for row in rows]
    assert reward.score(PROMPTS, CHOSEN).tolist() == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.1  # scores that are all alike would show nothing


def test_score_of_a_response_that_never_ended(reward: RewardModel) -> None:
    """Read at its last token; no end-of-text is put there."""
    ended, cut = (reward.encode(PROMPTS[:2], CHOSEN[:2], [e] * 2) for e in (True, False))
    assert [row.response[:-1] for row in ended] == [row.response for row in cut]
    scores = reward.score(PROMPTS[:2], CHOSEN[:2], [False, False])
    assert scores.tolist() == pytest.approx([alone(reward, row) for row in cut], abs=1e-4)


@pytest.mark.parametrize("size", [1, 7, 32])
def test_batch_size_changes_neither_score_nor_accuracy(reward: RewardModel, size: int) -> None:
    chosen, rejected = (reward.score(PROMPTS, side, batch_size=size) for side in (CHOSEN, REJECTED))
    expected = [[alone(reward, row) for row in reward.encode(PROMPTS, side)] for side in (CHOSEN, REJECTED)]
    assert chosen.tolist() == pytest.approx(expected[0], abs=1e-4)
    assert rejected.tolist() == pytest.approx(expected[1], abs=1e-4)
    right = sum(a > b for a, b in zip(*expected, strict=True))
    assert int((chosen > rejected).sum()) == right
    assert 0 < right < 33
    assert not (chosen == rejected).any()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("multiple_of", [1, 16, 100])
def test_more_padding_leaves_the_score_unchanged(reward: RewardModel, side: str, multiple_of: int) -> None:
    """Also where pad is end-of-text, the very token that the score is read at."""
    rows = reward.encode(PROMPTS[:5], CHOSEN[:5])
    for pad in (reward.tokenizer.pad_token_id, reward.tokenizer.eos_token_id):
        with torch.no_grad():
            scores = reward.model(collate(rows, pad_id=pad, side=side, multiple_of=multiple_of))  # type: ignore[arg-type]
        assert scores.tolist() == pytest.approx([alone(reward, row) for row in rows], abs=1e-4)


def test_end_of_text_inside_a_response_is_not_its_end(reward: RewardModel) -> None:
    """A user's text may hold the token's name; the score is still read at the last one."""
    eos = reward.tokenizer.eos_token_id
    row = Encoded([11, 12], [eos, 13, 14, eos])
    with torch.no_grad():
        score = reward.model(collate([row, Encoded([11], [12] * 30)], pad_id=reward.tokenizer.pad_token_id))[0]
    assert float(score) == pytest.approx(alone(reward, row), abs=1e-4)


def test_limits_follow_the_model(reward: RewardModel) -> None:
    (row,) = reward.encode(["x " * 500], [" y" * 500])
    assert (len(row.prompt), len(row.response)) == (64, 64)  # of 128 positions
    assert reward.score(["x " * 500], [" y" * 500]).isfinite().all()


def test_a_reward_that_is_not_a_number(reward: RewardModel) -> None:
    with torch.no_grad():
        reward.model.model.score.weight[:] = torch.nan  # type: ignore[operator, union-attr]
    reward.name = "checkpoints/mini/reward"
    with pytest.raises(NotFinite) as caught:
        reward.score(PROMPTS[:2], CHOSEN[:2])
    assert str(caught.value).startswith("checkpoints/mini/reward gave nan for response 0 of 2")


def test_no_responses(reward: RewardModel) -> None:
    assert reward.score([], []).shape == (0,)


def test_more_responses_than_are_encoded_at_once(reward: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps its place, and the one that never ended too."""
    ended = [i != 20 for i in range(33)]
    expected = reward.score(PROMPTS, CHOSEN, ended).tolist()
    assert expected[20] != pytest.approx(reward.score(PROMPTS, CHOSEN)[20].item(), abs=1e-2)
    monkeypatch.setattr("rlhf_bench.modeling.reward_model.AT_ONCE", 7)
    assert reward.score(PROMPTS, CHOSEN, ended).tolist() == pytest.approx(expected, abs=1e-4)
