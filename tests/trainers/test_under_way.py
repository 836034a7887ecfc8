"""What an interrupted stage may be continued with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_bench.errors import CheckpointError, ConfigChanged, Interrupted
from trainers.engine.loop import Loop
from trainers.pipeline import train

from .conftest import TOY


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which base was stopped after its first step."""
    write = Loop.end_row

    def stop(self: Loop) -> object:
        self.stopping = True
        return write(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "end_row", stop)
        with pytest.raises(Interrupted, match="after step 1 of 3"):
            train(["base"], recipe=str(TOY), root=tmp_path)
    return tmp_path


def test_another_seed_is_another_training(interrupted: Path) -> None:
    """Continued, it would be neither seed's, and be recorded as the new one's."""
    with pytest.raises(ConfigChanged, match=r"base was interrupted under another configuration \(seed: 0 -> 3\); "):
        train(["base"], recipe=str(TOY), root=interrupted, overrides=["seed=3"])
    with pytest.raises(ConfigChanged, match=r"\(base.lr: .*; seed: 0 -> 3\); "):
        train(["base"], recipe=str(TOY), root=interrupted, overrides=["seed=3", "base.lr=0.5"])
    assert (train(["base"], recipe=str(TOY), root=interrupted) / "base").is_dir()


def test_a_configuration_that_was_cut_is_one_line(interrupted: Path) -> None:
    file = interrupted / "default" / ".base.work" / "config.json"
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(CheckpointError, match=r"config.json cannot be read: .* give --no-resume"):
        train(["base"], recipe=str(TOY), root=interrupted)
    assert any(file.parent.glob("state-*.pt"))  # nothing was thrown away
    assert (train(["base"], recipe=str(TOY), root=interrupted, resume=False) / "base").is_dir()


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / "toy" / ".base.new-99999", tmp_path / "toy" / "base-steps" / ".checkpoint-1.new-99999"]
    for folder in left:
        folder.mkdir(parents=True)
    train(["base"], recipe=str(TOY), run="toy", root=tmp_path)
    assert not any(folder.exists() for folder in left)
