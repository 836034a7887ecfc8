"""Checkpoints: whole or not there at all, and seen through when they or their parents have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from rlhf_bench.errors import CheckpointError, StaleParent
from rlhf_bench.modeling.checkpoints import (
    check_run,
    checkpoint_hash,
    find_runs,
    open_checkpoint,
    read_training,
    replacing,
    run_seeds,
    stage_path,
)


def write_training(path: Path, **values: Any) -> Path:
    training = {"stage": path.name, "seed": 3, "hash": checkpoint_hash(path), **values}
    (path / "training.json").write_text(json.dumps(training), encoding="utf-8")
    return path


@pytest.fixture
def run(policy_folder: Path, reward_folder: Path, tmp_path: Path) -> Path:
    """<run>/sft and <run>/reward, the second trained from the first."""
    folder = tmp_path / "mine"
    sft = write_training(Path(shutil.copytree(policy_folder, folder / "sft")))
    parents = {"sft": {"hash": checkpoint_hash(sft)}}
    write_training(Path(shutil.copytree(reward_folder, folder / "reward")), parents=parents)
    return folder


@pytest.mark.parametrize("name", ["default", "7", "mini-2", "default.dpo.beta=0.1", "a.ppo.lr=1e+3", "für"])
def test_names_of_runs(name: str) -> None:
    check_run(name)


def change_weights(path: Path) -> None:
    file = path / "model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, file, metadata={"format": "pt"})


def test_a_finished_stage(run: Path) -> None:
    checkpoint = open_checkpoint(run / "reward")
    assert (checkpoint.path, checkpoint.stage, checkpoint.seed) == (run / "reward", "reward", 3)
    assert checkpoint.hash == checkpoint_hash(run / "reward") == checkpoint.training["hash"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("default/sft", "rlhf-bench train sft"),
        ("mine/dpo", "rlhf-bench train dpo --run mine"),
        ("mine/seed-2/ppo", "rlhf-bench train ppo --run mine"),
        ("default/seed-2/ppo", "rlhf-bench train ppo"),
    ],
)
def test_a_missing_stage_names_the_command_that_makes_it(tmp_path: Path, name: str, command: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} does not exist; make it with: {command}"


# hash


def test_the_hash_covers_weights_configuration_and_tokenizer(run: Path) -> None:
    sft = run / "sft"
    seen = {checkpoint_hash(sft)}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        file = sft / name
        file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
        seen.add(checkpoint_hash(sft))
    change_weights(sft)
    seen.add(checkpoint_hash(sft))
    (sft / "merges.txt").write_text("a b\n")  # a file more is another tokenizer
    seen.add(checkpoint_hash(sft))
    assert len(seen) == 6


def test_the_hash_covers_nothing_else(run: Path) -> None:
    before = checkpoint_hash(run / "sft")
    (run / "sft" / "README.md").write_text("changed")
    (run / "sft" / "training.json").write_text("{}")
    assert checkpoint_hash(run / "sft") == before
    assert checkpoint_hash(Path(shutil.copytree(run / "sft", run / "elsewhere"))) == before


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no weights \(\*\.safetensors\); expected a model folder"):
        checkpoint_hash(tmp_path)


# changed, damaged, foreign


def test_weights_changed_after_training(run: Path) -> None:
    recorded = read_training(run / "sft")["hash"]  # type: ignore[index]
    change_weights(run / "sft")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(run / "sft")
    assert str(caught.value).startswith(
        f"{run / 'sft'}: its files hash to {checkpoint_hash(run / 'sft')}, its training.json says {recorded}"
    )
    assert str(caught.value).endswith("rlhf-bench train sft --run mine --force")


def test_a_parent_that_was_trained_again(run: Path) -> None:
    before = checkpoint_hash(run / "sft")
    change_weights(run / "sft")
    write_training(run / "sft")
    now = checkpoint_hash(run / "sft")
    with pytest.raises(StaleParent) as caught:
        open_checkpoint(run / "reward")
    assert str(caught.value).startswith(
        f"{run / 'reward'} was trained from sft {before}, but {run / 'sft'} is now {now}"
    )
    assert str(caught.value).endswith("rlhf-bench train reward --run mine --force")


def test_a_parent_with_another_tokenizer_is_stale(run: Path) -> None:
    file = run / "sft" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(StaleParent):
        open_checkpoint(run / "reward")


def test_a_parent_that_is_gone_contradicts_nothing(run: Path) -> None:
    shutil.rmtree(run / "sft")
    assert open_checkpoint(run / "reward").stage == "reward"


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_damaged_safetensors_file(run: Path, keep: int) -> None:
    """Cut to nothing, inside the length, behind it, inside the header, one byte short."""
    file = run / "sft" / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:keep])
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(run / "sft")
    assert str(caught.value).startswith(str(file))
    assert str(caught.value).endswith("train the stage again with --force or restore the file")
    assert ("is damaged" in str(caught.value)) is (keep == -1)
    file.write_bytes(data + b"\0")  # nor may anything be left over
    with pytest.raises(CheckpointError, match="is damaged"):
        open_checkpoint(run / "sft")


@pytest.mark.parametrize(
    "data",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",  # a pointer instead of the file
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x04\0\0\0\0\0\0\0null",
        b'\x09\0\0\0\0\0\0\0{"a": {}}',
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_a_foreign_file(run: Path, data: bytes) -> None:
    (run / "sft" / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        open_checkpoint(run / "sft")


def test_a_training_file_that_cannot_be_read(run: Path) -> None:
    (run / "sft" / "training.json").write_text('{"stage": ')
    with pytest.raises(CheckpointError, match=r"training\.json cannot be read .* train the stage again with --force"):
        open_checkpoint(run / "sft")
    assert read_training(run) is None


# replacing


def test_replacing(tmp_path: Path) -> None:
    target = tmp_path / "run" / "sft"
    with replacing(target) as folder:
        (folder / "a").write_text("first")
        assert not target.exists()
    assert [p.name for p in target.iterdir()] == ["a"]
    with replacing(target) as folder:
        assert list(folder.iterdir()) == []
        (folder / "b").write_text("second")
        assert (target / "a").read_text() == "first"  # the old one stays until the new one is whole
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in target.parent.iterdir()] == ["sft"]  # nothing is left beside it


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "sft"
    with replacing(target) as folder:
        (folder / "a").write_text("first")

    def write() -> None:
        with replacing(target) as folder:
            (folder / "a").write_text("half of the sec")
            raise error

    with pytest.raises(error):
        write()
    assert (target / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["sft"]


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the rename: nothing has the stage's name."""
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "run" / "sft") as folder:
        (folder / "training.json").write_text("{}")
    assert read_training(tmp_path / "run" / "sft") is None
    assert find_runs(tmp_path) == []


# where things lie


def test_places(tmp_path: Path) -> None:
    assert stage_path(tmp_path / "r", "sft", None) == tmp_path / "r" / "sft"
    assert stage_path(tmp_path / "r", "sft", 2) == tmp_path / "r" / "seed-2" / "sft"


def test_runs_and_seeds(tmp_path: Path) -> None:
    for name in ("one/sft", "many/seed-10/sft", "many/seed-2/sft", "many/seed-x", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "one" / "sft" / "training.json").write_text("{}")
    (tmp_path / "many" / "seed-3").write_text("a file")
    assert [p.name for p in find_runs(tmp_path)] == ["many", "one"]
    assert run_seeds(tmp_path / "many") == [2, 10]
    assert run_seeds(tmp_path / "one") == [None]
    assert find_runs(tmp_path / "nowhere") == []
