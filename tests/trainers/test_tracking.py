"""--report-to: what reaches a tracker, and that no tracker ever stops a training."""

from __future__ import annotations

import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rlhf_bench.progress import Progress
from trainers.engine.tracking import Tracking

from ..rlhf_bench.tiny import Log
from .conftest import TOY, call


def train(root: Path, *words: str) -> Result:
    return call(
        "train", "base", "--recipe", TOY, "--run", "toy", "--checkpoints", root, "--set", "save_seconds=0", *words
    )


def log_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "toy" / "base" / "log.jsonl").read_text().splitlines()]


class StandIn(types.ModuleType):
    """wandb as far as it is used here."""

    def __init__(self, fail: str = "") -> None:
        super().__init__("wandb")
        self.__spec__ = types.SimpleNamespace(name="wandb")  # type: ignore[assignment]
        self.fail, self.asked, self.rows, self.finished = fail, {}, [], 0  # type: ignore[var-annotated]

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **asked: Any) -> StandIn:
        if self.fail == "init":
            raise ConnectionError("no route\nto host")
        self.asked = asked
        return self

    def log(self, row: dict[str, float], *, step: int) -> None:
        if self.fail == "log" and step == 2:
            raise OSError("disk full")
        self.rows.append((step, row))

    def finish(self) -> None:
        self.finished += 1
        if self.fail == "finish":
            raise RuntimeError("still uploading")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> StandIn:
    module = StandIn(getattr(request, "param", ""))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


def test_wandb_gets_every_row_and_the_configuration(tmp_path: Path, wandb: StandIn) -> None:
    assert train(tmp_path, "--report-to", "wandb").exit_code == 0
    rows = log_of(tmp_path)
    assert [step for step, _ in wandb.rows] == [1, 2, 3]
    assert wandb.rows[1][1] == {key: float(value) for key, value in rows[1].items() if key != "step"}
    assert (wandb.asked["project"], wandb.asked["resume"], wandb.finished) == ("rlhf-bench", "allow", 1)
    assert wandb.asked["name"].endswith("/toy/base")
    assert wandb.asked["config"]["optimizer"] == "muon"


@pytest.mark.parametrize(("wandb", "told"), [("init", 0), ("log", 1), ("finish", 3)], indirect=["wandb"])
def test_a_tracker_that_fails_is_one_warning(tmp_path: Path, wandb: StandIn, told: int) -> None:
    output = train(tmp_path, "--report-to", "wandb")
    assert output.exit_code == 0
    assert len(wandb.rows) == told
    warned = [line for line in output.stderr.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert "base: wandb failed (" in warned[0]
    assert len(log_of(tmp_path)) == 3


def test_a_tracker_of_no_name_and_one_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = train(tmp_path, "--report-to", "tensorbord")
    assert (output.exit_code, output.stderr) == (
        2, "error: unknown tracker 'tensorbord'; did you mean 'tensorboard'?\n",
    )  # fmt: skip
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    output = train(tmp_path, "--report-to", "tensorboard")
    assert (output.exit_code, output.stderr) == (
        1, "error: tensorboard is not installed; install it with: pip install tensorboard\n",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_rows_without_numbers_are_left_out(tmp_path: Path, wandb: StandIn) -> None:
    tracking = Tracking(("wandb",), tmp_path, "sft", {}, Progress(quiet=True))
    with tracking.following(0):
        tracking.log({"step": 4, "loss": 1.5, "bad": float("nan"), "none": None, "text": "x"})
    tracking.log({"step": 5, "loss": 1.0})  # closed
    assert wandb.rows == [(4, {"loss": 1.5})]


def test_tensorboard_for_real(tmp_path: Path) -> None:
    """Written by its writer, read by its reader; continued after step 2, an older process's step 3 is not seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        tracking = Tracking(("tensorboard",), tmp_path, "sft", {}, Progress(quiet=True))
        with tracking.following(0):
            for step in (1, 2, 3):
                tracking.log({"step": step, "loss": 1.0 / step})
        with tracking.following(2):
            tracking.log({"step": 3, "loss": 9.0})
        reader = EventAccumulator(str(tmp_path / "tensorboard" / "sft"))
        reader.Reload()
        assert [(e.step, e.value) for e in reader.Scalars("loss")] == [(1, 1.0), (2, 0.5), (3, 9.0)]
        with tracking.following(0):  # again
            tracking.log({"step": 1, "loss": 7.0})
        reader = EventAccumulator(str(tmp_path / "tensorboard" / "sft"))
        reader.Reload()
        assert [(e.step, e.value) for e in reader.Scalars("loss")] == [(1, 7.0)]


def records(file: Path) -> list[bytes]:
    """The records of a .wandb file: 7 bytes of header, then LevelDB's log format, blocks of 32 KiB (checksum of 4
    bytes, length of 2, type of 1: whole, first, middle, last)."""
    data, found, at, part = file.read_bytes(), [], 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + length]
        if kind in (1, 4):
            found.append(part)
            part = b""
        at += 7 + length
    return found


def test_wandb_offline_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own file holds each row; continued after step 2, there is a second one under the same id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        pytest.importorskip("wandb")
        from wandb.proto.wandb_internal_pb2 import Record
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracking = Tracking(("wandb",), tmp_path, "sft", {"lr": 0.5}, Log())
    with tracking.following(0):
        for step in (1, 2, 3):
            tracking.log({"step": step, "loss": 1.0 / step})
    with tracking.following(2):
        tracking.log({"step": 3, "loss": 9.0})
    assert tracking.progress.lines == []  # type: ignore[attr-defined]
    told = []
    for file in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        read = [Record.FromString(data) for data in records(file)]
        history = [
            {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for record in read
            if record.WhichOneof("record_type") == "history"
        ]
        (run,) = {record.run.run_id for record in read if record.WhichOneof("record_type") == "run"}
        told.append((run, [(row["_step"], row["loss"]) for row in history]))
    assert [rows for _, rows in told] == [[(1, 1.0), (2, 0.5), (3, 1.0 / 3)], [(3, 9.0)]]
    assert told[0][0] == told[1][0]
