"""Trains at toy size in processes that are stopped, killed at a moment, or killed at random."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.data import load_preferences
from rlhf_bench.types import STAGES

from .conftest import TOY

__all__ = ["Launcher", "RandomKills", "log_of", "pairs_file", "same_bits"]

# Imports everything once, then forks a process for each command line that it is given: importing torch takes longer
# than the training here. The process kills itself after the log's row of step `step` of `stage`; or, `cut` = (saves,
# share), in the write of so many a state of `stage`, when that share of its bytes is there.
LAUNCHER = """
import json, os, signal, sys
import transformers.models.gpt2.modeling_gpt2
import trainers.base, trainers.dpo, trainers.grpo, trainers.pipeline, trainers.ppo, trainers.reward, trainers.sft
from rlhf_bench import files
from rlhf_bench.cli import cli
from trainers.engine.loop import Loop

save = Loop.save

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def run(words, stage, step, cut, errors):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)

    saves = []

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
    try:
        cli(words)
    except SystemExit as end:
        os._exit(end.code or 0)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        run(**json.loads(line))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Launcher:
    """Runs `rlhf-bench train all` at toy size in processes of two threads."""

    def __init__(self, folder: Path, data: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.errors = folder / "stderr.txt"
        settings = {"data.source": data, **settings}
        self.words = ["train", "all", "--recipe", TOY, "--checkpoints", folder]
        self.words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        self.server = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)  # closes the pipes and waits

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
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        words = [*self.words, "--run", name, "--set", f"save_seconds={save_seconds}"]
        request = {"words": list(map(str, words)), "errors": str(self.errors)}
        request |= {"stage": cut[0] if cut else at[0], "step": at[1], "cut": cut and cut[1:]}
        self.server.stdin.write(json.dumps(request) + "\n")
        pid = int(self.server.stdout.readline())
        if stop:
            log = self.folder / name / ".base.work" / "log.jsonl"
            until = time.monotonic() + 60
            while not (log.exists() and log.read_bytes().count(b"\n") >= stop[1]):
                assert time.monotonic() < until, self.errors.read_text(encoding="utf-8")
                time.sleep(0.002)
            os.kill(pid, stop[0])
        if kill_in:
            self._kill(pid, self.folder / name, *kill_in)
        status = int(self.server.stdout.readline())
        return status, self.errors.read_text(encoding="utf-8")

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
                assert time.monotonic() < until, self.errors.read_text(encoding="utf-8")
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

    def run(self, launch: Launcher, name: str, *, kills: int, alone: Path) -> None:
        """Train `name`, each stage killed `kills` times, and let it end."""
        moments, run = random.Random(self.seed), launch.folder / name
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
                status, errors = launch.run(name, 0, **moment)
                assert status in (-signal.SIGKILL, 0), f"{self.again}: {moment}: {errors}"
                self.done[stage] += status == -signal.SIGKILL and not (run / stage).exists()
        status, errors = launch.run(name, 0)
        assert status == 0, f"{self.again}: {errors}"


def pairs_file(folder: Path) -> Path:
    """200 pairs: making hh-mini anew in each process would take longer than training on it."""
    pairs = load_preferences("hh-mini", "validation", limit=200).pairs
    rows = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "pairs.jsonl"


def same_bits(alone: Path, killed: Path, said: str = "") -> None:
    """Weights, configuration and tokenizer to the last bit; log and training.json but for the times. `said` of what is
    not."""
    plain = ("model.safetensors", "config.json")
    adapted = ("adapter_model.safetensors", "adapter_config.json")
    for name in (*(adapted if (alone / adapted[0]).exists() else plain), "tokenizer.json"):
        assert (alone / name).read_bytes() == (killed / name).read_bytes(), f"{name} {said}"
    ours, theirs = (log_of(folder) for folder in (alone, killed))
    assert [row["step"] for row in ours] == list(range(1, len(ours) + 1)), said
    assert ours == theirs, said
    ours, theirs = (json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in (alone, killed))
    for training in (ours, theirs):
        for key in ("seconds", "finished"):
            del training[key]
    assert ours == theirs, said


def log_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
