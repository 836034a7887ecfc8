"""`train --stop-on-alarm`: where a stage ends, what is kept, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from trainers.alarms import ALARMS

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
        "error: base: stopped by an alarm at step 2 of 3 (made_up); the state after step 1 is kept: the same command "
        "without --stop-on-alarm continues from there"
    )
    assert not (root / "toy" / "base").exists()

    again = train(root, "--set", "save_seconds=0")
    assert again.exit_code == 0, again.stderr
    assert "base: continues after step 1 of 3" in again.stderr
    alone = train(tmp_path / "alone")
    assert alone.exit_code == 0, alone.stderr
    files = [folder / "toy" / "base" / "model.safetensors" for folder in (root, tmp_path / "alone")]
    assert files[0].read_bytes() == files[1].read_bytes()
    for file in files:  # what was raised, not whether it stopped
        training = json.loads(file.with_name("training.json").read_text(encoding="utf-8"))
        assert training["alarms"] == [{"name": "made_up", "step": 2, "message": "it is step 2: go on"}]


@pytest.mark.usefixtures("_alarm_at_step_2")
def test_an_alarm_before_the_first_state_is_said_to_leave_nothing(tmp_path: Path) -> None:
    output = train(tmp_path, "--stop-on-alarm", "--set", "save_seconds=1000")
    assert output.exit_code == 1
    assert output.stderr.splitlines()[-1] == (
        "error: base: stopped by an alarm at step 2 of 3 (made_up); no state was saved before it: the same command "
        "without --stop-on-alarm begins the stage anew"
    )
