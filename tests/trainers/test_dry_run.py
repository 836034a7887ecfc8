"""`train --dry-run`: work and memory by hand, and what the command prints."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from trainers.config.recipe import Recipe
from trainers.plan import dry_run as plan
from trainers.plan.cost import Lengths, Rates, Shape, Work, peak_memory, stage_work

from .conftest import TOY, call

LENGTHS = Lengths(prompt=10.0, response=5.0)
SHAPE = Shape(parameters=1000, layers=2, width=8, vocabulary=50)


def work(stage: str, **section: object) -> Work:
    recipe = Recipe.model_validate({"data": {"max_prompt_tokens": 20, "max_response_tokens": 8}, stage: section})
    return stage_work(recipe, stage, 100, LENGTHS)


def test_work_of_each_stage_worked_by_hand() -> None:
    # 100 pairs in batches of 10, two epochs: 20 steps, 200 rows of 15 tokens
    assert work("sft", batch_size=10, epochs=2) == Work(20, 200, 3000.0, 0.0, 0.0)
    assert work("reward", batch_size=10, epochs=1) == Work(10, 100, 3000.0, 0.0, 0.0)  # both sides
    # 3 steps of 10 pairs with prompt and response on both sides; the reference reads each once
    assert work("dpo", batch_size=10, max_steps=3) == Work(3, 30, 900.0, 900.0, 0.0)
    # 2 steps x 4 prompts x 3 responses of 10 + 8 tokens; reference, reward model and policy read them
    grpo = work("grpo", steps=2, batch_size=4, num_generations=3)
    assert grpo == Work(2, 24, 24 * 18.0, 3 * 24 * 18.0, 24 * 8.0)
    # 2 x 4 responses of 6 + 8 tokens, two epochs of policy and critic; the critic reads them too
    ppo = work("ppo", steps=2, batch_size=4, epochs=2, max_prompt_tokens=6)
    assert ppo == Work(2, 8, 8 * 14.0 * 4, 4 * 8 * 14.0, 8 * 8.0)
    plain = work("ppo", steps=2, batch_size=4, advantage="reward", max_prompt_tokens=6)
    assert plain == Work(2, 8, 8 * 14.0, 3 * 8 * 14.0, 8 * 8.0)


def test_a_pretrained_base_is_a_copy() -> None:
    assert stage_work(Recipe(model="gpt2"), "base", 100, LENGTHS).tokens == 0


def test_hours() -> None:
    rates = Rates(trained=1.0, read=2.0, drawn=4.0)
    assert rates.hours(Work(1, 1, 3600.0, 3600.0, 3600.0)) == 1.75


def test_memory_worked_by_hand() -> None:
    """A micro-batch of 2 rows x 28 tokens: 56 x (2 layers x 8 x 68 + 12 x 50) = 94,528 bytes. Weights, gradients and
    moments of 1,000 parameters 16,000; GRPO has two frozen models beside it, PPO a critic too."""
    data = {"max_prompt_tokens": 20, "max_response_tokens": 8}
    small = {"micro_batch_size": 2}
    recipe = Recipe.model_validate({"data": data, "sft": small, "grpo": small, "ppo": small})
    assert peak_memory(recipe, "sft", SHAPE, "fp32") == 16_000 + 94_528
    assert peak_memory(recipe, "grpo", SHAPE, "fp32") == 24_000 + 94_528
    assert peak_memory(recipe, "ppo", SHAPE, "fp32") == 40_000 + 94_528
    assert peak_memory(recipe, "sft", SHAPE, "bf16") == 16_000 + 56 * (2 * 8 * 34 + 600)


def test_the_command_prints_every_stage_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("rlhf_bench.cli.train"), "PROBE_SECONDS", 0.0)
    done = call("train", "all", "--recipe", TOY, "--dry-run", "--checkpoints", tmp_path)
    assert done.exit_code == 0, done.output
    assert not list(tmp_path.iterdir())
    first = [line.split()[0] for line in done.output.splitlines() if line.strip()]
    assert [word for word in first if word in ("base", "sft", "reward", "ppo", "grpo", "dpo", "all")] == [
        "base", "sft", "reward", "ppo", "grpo", "dpo", "all",
    ]  # fmt: skip
    assert "200 pairs" in done.output
    assert "downloads: none" in done.output


def test_what_is_not_here_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(plan, "measure", lambda *given, **more: Rates(1e3, 1e3, 1e3))
    text = " ".join(plan.dry_run(["grpo"], recipe="reddit-grpo", overrides=[], seconds=0.0).split())
    assert f"download: model gpt2, to {tmp_path}/models--gpt2" in text
    assert f"download: dataset trl-lib/tldr-preference, to {tmp_path}/datasets--trl-lib--tldr-preference" in text
    assert "--set data.source=PATH" in text
    assert "124.4 million parameters" in text
