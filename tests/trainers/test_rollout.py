"""What PPO and GRPO learn from holds every token that was drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from rlhf_bench.data import PreferenceData
from rlhf_bench.logprobs import LogprobModel
from rlhf_bench.models import load_policy
from rlhf_bench.progress import Progress
from rlhf_bench.types import fingerprint, make_pair
from trainers.recipe import Recipe
from trainers.rollout import RolloutMaker
from trainers.stage import Stage

PAIRS = [make_pair(f"\n\nHuman: {i}?\n\nAssistant:", " yes", " no") for i in range(16)]


def test_to_end_by_a_stop_string_is_an_action_like_any_other(
    policy_folder: Path, reward_folder: Path, tmp_path: Path
) -> None:
    """Left out, the choice to stop has no gradient, and a response that stops at once has no token for its reward."""
    for name, source in (("sft", policy_folder), ("reward", reward_folder)):
        shutil.copytree(source, tmp_path / name)
    recipe = Recipe.model_validate(
        {
            "precision": "fp32",
            "stop": ["e"],
            "data": {"source": "tests", "max_prompt_tokens": 40, "max_response_tokens": 12},
            "ppo": {"batch_size": 16, "steps": 1},
        }
    )

    def data(split: str) -> PreferenceData:
        return PreferenceData("tests", split, PAIRS, {"read": len(PAIRS)}, [], fingerprint(PAIRS))

    stage = Stage("ppo", recipe, 0, tmp_path, tmp_path / "work", Progress(quiet=True), data, torch.device("cpu"))
    (policy, tokenizer), (reference, _) = load_policy(tmp_path / "sft"), load_policy(tmp_path / "sft")
    maker = RolloutMaker(stage, recipe.ppo, LogprobModel(policy), LogprobModel(reference), tokenizer)
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
