"""Checkpoints on the way: what is there, that they load as they are, and that keeping them changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_bench.modeling.checkpoints import checkpoint_hash
from trainers.engine.alarms import ALARMS

from .conftest import TOY, call

KEPT = ("--set", "sft.save_steps=2", "--set", "reward.save_steps=1", "--set", "reward.save_total_limit=2")


def train(root: Path, run: str, *words: str) -> Result:
    output = call("train", *words, "--recipe", TOY, "--run", run, "--checkpoints", root, "--set", "save_seconds=0")
    assert output.exit_code == 0, output.stderr
    return output


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    train(folder, "plain", "reward")
    train(folder, "kept", "reward", *KEPT)
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_so_many_steps_and_at_the_last(root: Path) -> None:
    """Three steps: sft every second one and the last, reward each of which the two newest stay."""
    assert names(root / "kept" / "sft-steps") == ["checkpoint-2", "checkpoint-3"]
    assert names(root / "kept" / "reward-steps") == ["checkpoint-2", "checkpoint-3"]
    assert not (root / "kept" / "base-steps").exists()
    training = json.loads((root / "kept" / "sft-steps" / "checkpoint-2" / "training.json").read_text())
    assert (training["stage"], training["step"], training["steps"]) == ("sft", 2, 3)
    assert training["hash"] == checkpoint_hash(root / "kept" / "sft-steps" / "checkpoint-2")


def test_keeping_them_changes_nothing(root: Path) -> None:
    for stage in ("base", "sft", "reward"):
        assert weights(root / "kept" / stage) == weights(root / "plain" / stage)


def test_the_last_one_is_the_stage_and_the_one_before_is_not(root: Path) -> None:
    """toy's sft keeps the best checkpoint, reward the last."""
    steps, stage = root / "kept" / "reward-steps", root / "kept" / "reward"
    assert weights(steps / "checkpoint-3") == weights(stage)
    assert weights(steps / "checkpoint-2") != weights(stage)


def test_plain_transformers_loads_them(root: Path) -> None:
    policy, reward = (root / "kept" / f"{stage}-steps" / "checkpoint-2" for stage in ("sft", "reward"))
    ids = AutoTokenizer.from_pretrained(policy)("\n\nHuman: Hi", return_tensors="pt").input_ids
    with torch.no_grad():
        assert AutoModelForCausalLM.from_pretrained(policy)(ids).logits.isfinite().all()
        assert AutoModelForSequenceClassification.from_pretrained(reward)(ids).logits.shape == (1, 1)


def test_a_continued_stage_has_those_of_one_left_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended by an alarm at step 3, whose state is not saved but whose checkpoint is; then continued after step 2."""
    with monkeypatch.context() as patch:
        patch.setitem(ALARMS, "made_up", lambda rows: "stop" if rows[-1]["step"] == 3 else None)
        call("train", "base", "--recipe", TOY, "--run", "toy", "--checkpoints", tmp_path, "--set", "save_seconds=0")
        output = call(
            "train", "sft", "--recipe", TOY, "--run", "toy", "--checkpoints", tmp_path, "--set", "save_seconds=0",
            "--stop-on-alarm", *KEPT,
        )  # fmt: skip
    assert output.exit_code == 1
    train(tmp_path, "toy", "sft", *KEPT)
    for step in names(root / "kept" / "sft-steps"):
        ours, left_alone = tmp_path / "toy" / "sft-steps" / step, root / "kept" / "sft-steps" / step
        assert weights(ours) == weights(left_alone)


def test_training_again_removes_earlier_step_checkpoints_and_those_of_later_stages(tmp_path: Path) -> None:
    train(tmp_path, "toy", "reward", *KEPT, "--set", "base.save_steps=1")
    train(tmp_path, "toy", "base", "--force")
    run = tmp_path / "toy"
    assert (run / "base").exists()
    assert not any((run / f"{stage}-steps").exists() for stage in ("base", "sft", "reward"))
