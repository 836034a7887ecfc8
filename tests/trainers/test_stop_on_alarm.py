"""`train --stop-on-alarm`: where a stage ends, what is kept, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result

from rlhf_bench.modeling.models import load_policy
from trainers.engine.alarms import ALARMS

from .conftest import TOY, call


@pytest.fixture
def _alarm_at_step_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALARMS, "made_up", lambda rows: "it is step 2: go on" if rows[-1]["step"] == 2 else None)


def train(root: Path, *words: str) -> Result:
    return call("train", "base", "--recipe", TOY, "--run", "toy", "--checkpoints", root, *words)


@pytest.mark.usefixtures("_alarm_at_step_2")
def test_the_state_before_the_alarm_is_kept_and_the_stage_goes_on_from_it(tmp_path: Path) -> None:
    root = tmp_path / "stopped"
    output = train(root, "--stop-on-alarm", "--set", "save_seconds=0")
    assert output.exit_code == 1
    assert "alarm: base, step 2 of 3: it is step 2: go on" in output.stderr
    assert output.stderr.splitlines()[-1] == (
        "error: base: stopped by an alarm at step 2 of 3 (made_up); the weights before it are "
        f"{root}/toy/base-steps/checkpoint-1, the state after step 1 is kept: the same command without --stop-on-alarm "
        "continues from there"
    )
    assert not (root / "toy" / "base").exists()
    assert [path.name for path in (root / "toy" / "base-steps").iterdir()] == ["checkpoint-1"]

    again = train(root, "--set", "save_seconds=0")
    assert again.exit_code == 0, again.stderr
    assert "base: continues after step 1 of 3" in again.stderr
    alone = train(tmp_path / "alone", "--set", "base.save_steps=1")
    assert alone.exit_code == 0, alone.stderr
    kept = root / "toy" / "base-steps" / "checkpoint-1" / "model.safetensors"
    assert kept.read_bytes() == (tmp_path / "alone" / "toy" / "base-steps" / kept.parent.name / kept.name).read_bytes()
    files = [folder / "toy" / "base" / "model.safetensors" for folder in (root, tmp_path / "alone")]
    assert files[0].read_bytes() == files[1].read_bytes()
    for file in files:  # what was raised, not whether it stopped
        training = json.loads(file.with_name("training.json").read_text(encoding="utf-8"))
        assert training["alarms"] == [{"name": "made_up", "step": 2, "message": "it is step 2: go on"}]


@pytest.mark.usefixtures("_alarm_at_step_2")
def test_an_alarm_before_the_first_state_is_reported_to_leave_nothing(tmp_path: Path) -> None:
    output = train(tmp_path, "--stop-on-alarm", "--set", "save_seconds=1000")
    assert output.exit_code == 1
    assert output.stderr.splitlines()[-1] == (
        "error: base: stopped by an alarm at step 2 of 3 (made_up); the weights before it are "
        f"{tmp_path}/toy/base-steps/checkpoint-1, no state was saved before it: the same command without "
        "--stop-on-alarm starts the stage again"
    )


@pytest.mark.usefixtures("_alarm_at_step_2")
def test_an_adapter_is_kept_as_one(tmp_path: Path) -> None:
    words = ("sft", "--recipe", TOY, "--run", "toy", "--checkpoints", tmp_path, "--set", "sft.lora.r=2")
    assert call("train", "base", *words[1:7]).exit_code == 0
    assert call("train", *words, "--stop-on-alarm").exit_code == 1
    kept = tmp_path / "toy" / "sft-steps" / "checkpoint-1"
    model, _ = load_policy(kept, device=torch.device("cpu"))
    assert call("train", *words, "--set", "sft.save_steps=1").exit_code == 0
    again, _ = load_policy(kept, device=torch.device("cpu"))
    torch.testing.assert_close(dict(again.named_parameters()), dict(model.named_parameters()), rtol=0, atol=0)


def test_an_alarm_at_the_first_step_leaves_what_the_stage_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALARMS, "made_up", lambda rows: "at once")
    output = train(tmp_path, "--stop-on-alarm")
    assert "at step 1 of 3 (made_up); no state was saved before it" in output.stderr.splitlines()[-1]
    assert not (tmp_path / "toy" / "base-steps").exists()
