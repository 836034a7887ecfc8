"""The reward stage: margins from the data, and the length baseline beside its accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf_bench.errors import BadValue, CheckpointError, DataError, ModelError
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.modeling.models import load_policy, to_reward_model
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.types import PreferencePair
from trainers.config.ancestry import parents_of
from trainers.config.checks import check_combinations
from trainers.config.loading import load_recipe
from trainers.config.recipe import DataConfig
from trainers.pipeline import train
from trainers.reward import all_margins, check_reads

from .conftest import PAIRS, FirstStep


def test_margins_stay_with_their_pairs_where_one_is_dropped(first_step: FirstStep) -> None:
    same = PreferencePair(PAIRS[0].prompt, " Blue.", " Blue.", margin=9.0)  # equal, so it is dropped with its margin
    kept = [replace(pair, margin=float(i)) for i, pair in enumerate(PAIRS)]
    first, _ = first_step("reward", pairs=kept, margin="data")
    second, _ = first_step("reward", pairs=[kept[0], same, *kept[1:]], margin="data", batch_size=len(kept))
    assert second.loss == pytest.approx(first.loss, abs=1e-6)
    without, _ = first_step("reward", pairs=kept)
    assert first.loss > without.loss + 0.1  # margins demand more


def test_a_pair_without_margin_is_one_line_that_counts_them() -> None:
    assert all_margins([0.5, 2.0]).tolist() == [0.5, 2.0]
    with pytest.raises(DataError, match=r"^reward.margin=data: 1 of 3 training pairs have no margin, expected"):
        all_margins([0.5, None, 0.0])


def test_the_longer_response_is_a_baseline_beside_the_accuracy(first_step: FirstStep) -> None:
    _, result = first_step("reward", pairs=PAIRS)
    # by characters, which decide here: " Blue." < " I am happy to help.", ...; the last pair's rejected has four "!"
    longer = [len(pair.chosen) > len(pair.rejected) for pair in PAIRS]
    assert sorted(longer) == [False, False, False, True, True]
    assert result.metrics["eval_accuracy_longer"] == 0.4


def test_the_accuracy_of_an_untrained_head_is_recorded_too(first_step: FirstStep, policy_folder: Path) -> None:
    """Scores of the same backbone under the head that the stage's seed draws, by evaluation's own scorer."""
    _, result = first_step("reward", pairs=PAIRS)
    fresh = RewardModel(*to_reward_model(policy_folder, seed=0), max_prompt=60, max_response=60)
    prompts = [pair.prompt for pair in PAIRS]
    chosen, rejected = (fresh.score(prompts, side) for side in ([p.chosen for p in PAIRS], [p.rejected for p in PAIRS]))
    expected = (chosen > rejected).float().mean().item()
    assert 0 < expected < 1
    assert result.metrics["eval_accuracy_untrained"] == pytest.approx(expected)
    other = RewardModel(*to_reward_model(policy_folder, seed=3), max_prompt=60, max_response=60)
    assert not torch.equal(other.score(prompts, [p.chosen for p in PAIRS]), chosen)


def test_a_backbone_from_elsewhere(first_step: FirstStep, reference_folder: Path, policy_folder: Path) -> None:
    _, result = first_step("reward", backbone=str(reference_folder))
    theirs = load_policy(reference_folder)[0].transformer.h[0].attn.c_attn.weight
    assert torch.equal(result.trained.model.transformer.h[0].attn.c_attn.weight, theirs)
    assert result.record == {"backbone": {"path": str(reference_folder), "hash": model_hash(reference_folder)}}
    assert first_step("reward")[1].record == {}
    assert parents_of("reward", load_recipe("mini", [f"reward.backbone={policy_folder}"])) == ()
    assert parents_of("reward", load_recipe("mini", ["reward.backbone=base"])) == ("base",)


def test_a_backbone_that_cannot_be(policy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"^reward\.backbone: given dpo, which is not a stage before the reward model"):
        check_combinations(load_recipe("mini", ["reward.backbone=dpo"]))
    with pytest.raises(CheckpointError, match=r"^\./none does not exist; expected a model folder$"):
        train(["reward"], overrides=["reward.backbone=./none"], root=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match=r"^reward\.backbone=small reads 128 tokens"):
        check_reads(load_policy(policy_folder)[0], DataConfig(), "small")
