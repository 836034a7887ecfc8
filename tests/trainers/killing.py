"""Trains at toy size in processes that are stopped, killed at a moment, or killed at random."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_bench.data import Reader
from rlhf_bench.types import STAGES

from ..several import Launcher
from .conftest import TOY

__all__ = ["RandomKills", "Training", "log_of", "pairs_file", "same_bits"]

# The process kills itself after the log's row of step `step` of `stage`; or, `cut` = (saves, share), in the write of so
# many a state of `stage`, when that share of its bytes is there.
PLAN = """
import os, signal
from rlhf_bench import files
from trainers.engine.loop import Loop

save, saves = Loop.save, []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def half(path, data):
    with files.atomic_file(path) as file:
        file.write(data[: int(cut[1] * len(data))])
        file.flush()
        die()

def save_or_die(loop):
    if (loop.stage.name, loop.step) == (stage, step):
        die()
    saves.extend([loop.step] * (loop.stage.name == stage))
    if cut and len(saves) == cut[0]:
        files.atomic_write_bytes = half
    save(loop)

Loop.save = save_or_die
"""


class Training:
    """`rlhf-bench train` at toy size, in a process of two threads."""

    def __init__(
        self, launch: Launcher, folder: Path, data: Path, settings: Mapping[str, Any], stages: Sequence[str] = ("all",)
    ) -> None:
        self.launch, self.folder = launch, folder
        settings = {"data.source": data, **settings}
        self.words = ["train", *stages, "--recipe", TOY, "--checkpoints", folder]
        self.words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    def run(
        self,
        name: str,
        save_seconds: int,
        *,
        at: tuple[str, int] = ("", 0),
        stop: tuple[int, int] | None = None,
        kill_in: tuple[str, float] | None = None,
        cut: tuple[str, int, float] | None = None,
    ) -> tuple[int, str]:
        """Exit status and standard error. `at` = (stage, step); `stop` = (signal, rows of base's log before it);
        `kill_in` = (stage, seconds after the first row that this process adds to its log); `cut` = (stage, which
        of the states that this process writes, from 1, share of its bytes that are written)."""

        def meanwhile(pids: list[int]) -> None:
            if stop:
                log = self.folder / name / ".base.work" / "log.jsonl"
                until = time.monotonic() + 60
                while not (log.exists() and log.read_bytes().count(b"\n") >= stop[1]):
                    assert time.monotonic() < until
                    time.sleep(0.002)
                os.kill(pids[0], stop[0])
            if kill_in:
                self._kill(pids[0], self.folder / name, *kill_in)

        moment = (cut[0] if cut else at[0], at[1], cut and cut[1:])
        words = [*self.words, "--run", name, "--set", f"save_seconds={save_seconds}"]
        plan = f"stage, step, cut = {moment!r}\n{PLAN}"
        ended = self.launch(*words, threads=2, plan=plan, meanwhile=meanwhile)
        return ended.statuses[0], ended.errors[0]

    def _kill(self, pid: int, run: Path, stage: str, after: float) -> None:
        """SIGKILL `after` seconds from the first change to the stage's log: a row, or the cut to the saved state."""
        log = run / f".{stage}.work" / "log.jsonl"

        def changed() -> int:
            try:
                return log.stat().st_mtime_ns
            except FileNotFoundError:
                return 0

        before, until = changed(), time.monotonic() + 60
        with contextlib.suppress(ProcessLookupError):  # it was done, or failed: its status says which
            while changed() <= before and not (run / stage).exists():
                assert time.monotonic() < until
                time.sleep(0.001)
                os.kill(pid, 0)
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)


class RandomKills:
    """SIGKILLs at random moments of every stage: every other one within the write of a state, the others by the clock.

    The moments come from a new seed each time, which `again` names; those within a write are then repeated to the byte.
    """

    def __init__(self) -> None:
        self.seed = int(os.environ.get("KILLS_SEED") or int.from_bytes(os.urandom(4), "big"))
        self.again = f"repeat with KILLS_SEED={self.seed} in the environment"
        self.done = dict.fromkeys(STAGES, 0)

    def run(self, train: Training, name: str, *, kills: int, alone: Path) -> None:
        """Train `name`, each stage killed `kills` times, and let it end."""
        moments, run = random.Random(self.seed), train.folder / name
        for stage in STAGES:
            training = json.loads((alone / stage / "training.json").read_text(encoding="utf-8"))
            step = training["seconds"] / training["steps"]
            for _ in range(3 * kills):
                if self.done[stage] == kills:
                    break
                if (run / stage).exists():  # on a busy machine it was done before it was killed
                    shutil.rmtree(run / stage)
                moment: dict[str, Any] = {"cut": (stage, moments.randint(1, 2), moments.random())}
                if self.done[stage] % 2:
                    moment = {"kill_in": (stage, moments.uniform(0, 2 * step))}
                status, errors = train.run(name, 0, **moment)
                assert status in (-signal.SIGKILL, 0), f"{self.again}: {moment}: {errors}"
                self.done[stage] += status == -signal.SIGKILL and not (run / stage).exists()
        status, errors = train.run(name, 0)
        assert status == 0, f"{self.again}: {errors}"


def pairs_file(folder: Path) -> Path:
    """200 pairs of hh-mini: to read all of it in each process would take longer than to train on them."""
    pairs = Reader("hh-mini").load("validation", limit=200).pairs
    rows = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "pairs.jsonl"


def same_bits(alone: Path, killed: Path, printed: str = "") -> None:
    """Weights, configuration and tokenizer to the last bit; log and training.json but for the times and the commit,
    which may change while the test runs. `printed`: a part of what differs."""
    plain = ("model.safetensors", "config.json")
    adapted = ("adapter_model.safetensors", "adapter_config.json")
    for name in (*(adapted if (alone / adapted[0]).exists() else plain), "tokenizer.json"):
        theirs = (killed / name).read_bytes()
        if name == "adapter_config.json":  # which names its base by the whole path
            theirs = theirs.replace(str(killed.parent).encode(), str(alone.parent).encode())
        assert (alone / name).read_bytes() == theirs, f"{name} {printed}"
    rows, others = (log_of(folder) for folder in (alone, killed))
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1)), printed
    assert rows == others, printed
    first, second = (json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in (alone, killed))
    for training in (first, second):
        for key in ("seconds", "finished", "git_commit"):
            del training[key]
        if (alone.parent / "sft" / "adapter_config.json").exists():  # part of hashes, with its base's whole path
            del training["parents"], training["hash"]
            training.get("adapter", {}).pop("base_hash", None)
    assert first == second, printed


def log_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
