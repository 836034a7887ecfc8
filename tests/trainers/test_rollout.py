"""What PPO and GRPO learn from holds every token that was drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.types import PreferencePair
from trainers.config.recipe import Recipe
from trainers.engine.rollout import RolloutMaker, with_unique_ids

from .conftest import stage_in

PAIRS = [PreferencePair(f"\n\nHuman: {i}?\n\nAssistant:", " yes", " no") for i in range(16)]


MakeMaker = Callable[..., RolloutMaker]


@pytest.fixture
def make_maker(policy_folder: Path, reward_folder: Path, tmp_path: Path) -> MakeMaker:
    def make(
        pairs: list[PreferencePair], *, batch_size: int, longest: int = 24, stop: Sequence[str] = ()
    ) -> RolloutMaker:
        for name, source in (("sft", policy_folder), ("reward", reward_folder)):
            shutil.copytree(source, tmp_path / name)
        recipe = Recipe.model_validate(
            {
                "precision": "fp32",
                "stop": list(stop),
                "data": {"source": "tests", "max_prompt_tokens": 40, "max_response_tokens": longest},
                "ppo": {"batch_size": batch_size, "steps": 1},
            }
        )
        stage = stage_in(tmp_path, "ppo", recipe, pairs)
        (policy, tokenizer), (reference, _) = load_policy(tmp_path / "sft"), load_policy(tmp_path / "sft")
        return RolloutMaker(stage, recipe.ppo, LogprobModel(policy), LogprobModel(reference), tokenizer)

    return make


def test_to_end_by_a_stop_string_is_an_action_like_any_other(make_maker: MakeMaker) -> None:
    """Left out, the choice to stop has no gradient, and a response that stops at once has no token for its reward."""
    maker = make_maker(PAIRS, batch_size=16, longest=12, stop=["e"])
    tokenizer = maker.tokenizer
    rollout = maker.make(0, samples=1)
    assert (rollout.lengths > 0).all()
    stopped = [row for row, ended in zip(rollout.rows, rollout.ended.tolist(), strict=True)
               if ended and row.response[-1] != tokenizer.eos_token_id]  # fmt: skip
    assert len(stopped) >= 4
    for row in stopped:
        assert "e" in tokenizer.decode(row.response[-1:])
        assert "e" not in tokenizer.decode(row.response[:-1])
    last = rollout.batch.response_mask.float().cumsum(1).argmax(1)
    assert (rollout.reference_logps.gather(1, last[:, None]) < 0).all()


def test_copies_of_a_prompt_in_one_rollout_get_different_responses(make_maker: MakeMaker) -> None:
    """3 prompts in a rollout of 12: each comes four times, and 24 drawn tokens of four copies are not the same."""
    rollout = make_maker(PAIRS[:3], batch_size=12).make(0, samples=1)
    answers: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for row in rollout.rows:
        answers.setdefault(tuple(row.prompt), set()).add(tuple(row.response))
    assert len(rollout.rows) == 12
    assert [len(drawn) for drawn in answers.values()] == [4, 4, 4]


def test_a_copy_changes_no_other_draw(make_maker: MakeMaker) -> None:
    """What is drawn first of each prompt is what it was without copies: the same bits."""
    maker = make_maker(PAIRS[:3], batch_size=3)
    prompts = with_unique_ids(maker.prompts)
    assert prompts == maker.prompts  # without copies nothing is renamed
    alone = maker.sample(prompts, samples=2, seed=5)
    with_copies = maker.sample(with_unique_ids([*maker.prompts, *maker.prompts]), samples=2, seed=5)
    assert [[c.drawn for c in group] for group in with_copies[:3]] == [[c.drawn for c in group] for group in alone]
