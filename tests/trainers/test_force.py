"""`train --force`: the old checkpoint is there until the new one is, whatever happens in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import Result

import trainers.pipeline as pipeline
from rlhf_bench.modeling.checkpoints import open_checkpoint, replacing
from trainers.engine.alarms import ALARMS
from trainers.engine.loop import Loop

from .conftest import TOY, call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    assert train(tmp_path, "sft").exit_code == 0
    return tmp_path / "toy"


def train(root: Path, *words: str) -> Result:
    return call("train", *words, "--recipe", TOY, "--run", "toy", "--checkpoints", root, "--set", "save_seconds=0")


def weights(run: Path) -> dict[str, bytes]:
    return {stage: (run / stage / "model.safetensors").read_bytes() for stage in ("base", "sft")}


def test_what_is_interrupted_leaves_the_old_checkpoint_and_the_later_ones(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = weights(run)
    changed = ("base", "--force", "--set", "base.muon_lr=0.01")
    with monkeypatch.context() as patch:  # an alarm ends the stage in the middle, as a signal would
        patch.setitem(ALARMS, "made_up", lambda rows: "stop" if rows[-1]["step"] == 2 else None)
        output = train(run.parent, *changed, "--stop-on-alarm")
    assert output.exit_code == 1
    assert weights(run) == old
    for stage in old:
        open_checkpoint(run / stage)  # whole, and from the parent that is there
    assert "nothing to train" in train(run.parent, "sft").stderr

    # between training and saving
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "save_stage", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train(run.parent, *changed).exit_code != 0
    assert weights(run) == old

    again = train(run.parent, *changed)
    assert again.exit_code == 0, again.stderr
    assert "base: continues after step 2 of 3" in again.stderr  # the state that the interrupted one left
    assert f"{run / 'sft'}: removed, to be trained again" in again.stderr
    new = weights(run)
    assert all(new[stage] != old[stage] for stage in old)
    open_checkpoint(run / "sft")
    # the weights before the alarm are a checkpoint on the way of the same training
    assert {path.name for path in run.iterdir()} - {".lock"} == {"base", "base-steps", "sft"}


def test_force_leaves_alone_what_the_stage_starts_from(run: Path) -> None:
    before = {stage: (run / stage / "training.json").stat().st_mtime_ns for stage in ("base", "sft")}
    again = train(run.parent, "sft", "--force")
    assert again.exit_code == 0, again.stderr
    trained = [stage for stage in before if (run / stage / "training.json").stat().st_mtime_ns != before[stage]]
    assert trained == ["sft"]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["all", "--force"], "the same command with the stages sft reward ppo grpo dpo alone continues"),
        (["sft", "--force", "--no-resume"], "the same command without --no-resume continues"),
    ],
)
def test_where_the_same_command_would_begin_again_the_interruption_says_which_continues(
    run: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], advice: str
) -> None:
    write = Loop.end_row

    def stop(self: Loop) -> object:
        self.stopping = self.stage.name == "sft"
        return write(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "end_row", stop)
        stopped = train(run.parent, *words)
    assert stopped.exit_code == 130
    assert advice in stopped.stderr
    again = train(run.parent, "sft", "--force")
    assert "sft: continues after step 1 of" in again.stderr
    assert "stage base" not in again.stderr


def test_force_under_another_configuration_begins_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(ALARMS, "made_up", lambda rows: "stop" if rows[-1]["step"] == 2 else None)
        assert train(run.parent, "base", "--force", "--stop-on-alarm").exit_code == 1
    again = train(run.parent, "base", "--force", "--set", "base.muon_lr=0.01")
    assert again.exit_code == 0, again.stderr
    assert "continues" not in again.stderr


def test_a_replacement_that_fails_at_the_last_moment_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "sft", Path.rename
    target.mkdir()
    (target / "old").touch()

    def fail(self: Path, to: Path) -> Path:
        if ".new-" in self.name:
            raise OSError("no")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"), replacing(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]
    assert (target / "old").exists()


def test_without_force_nothing_is_removed(run: Path) -> None:
    shutil.rmtree(run / "base")
    assert train(run.parent, "base", "--set", "base.muon_lr=0.01").exit_code == 0
    output = train(run.parent, "sft", "--set", "base.muon_lr=0.01")
    assert output.exit_code == 1
    assert f"but {run / 'base'} is now " in output.stderr
    assert (run / "sft").exists()
