"""The step loop that every stage shares: log, evaluate, keep the best, save, resume, stop when asked.

    loop = Loop(stage, steps=..., modules={"policy": model}, optimizer=optimizer)
    for step in loop:
        ...
        loop.log({"loss": loss})

What a step does is a function of the seed and the step's number alone, so that a stage continued from a saved state
ends with the same weights, bit for bit, as one that was left alone. A state holds everything else: weights, optimiser,
numbers that change (`scalars`), the length of the log, the seconds spent.

Of several processes each takes every step; the first writes the log and the states, which continue in any number.
"""

from __future__ import annotations

import io
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_bench.errors import Interrupted, NotFinite, StoppedByAlarm
from rlhf_bench.files import atomic_write_bytes, json_text, read_jsonl
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.processes import ALONE, Processes
from trainers.alarms import Alarm, alarms_at, find_alarms
from trainers.optim import Optimizer
from trainers.recipe import OptimizerConfig
from trainers.states import (
    check_same_weights,
    copied_state,
    gathered_weights,
    load_trained,
    newest_state,
    trained_state,
    write_state,
)
from trainers.step_checkpoints import StepCheckpoints
from trainers.tracking import Tracking

__all__ = ["LOWER", "Loop"]

LOWER = "; finished stages are kept: lower the learning rate and begin this one anew with --no-resume"

Evaluate = Callable[[], Mapping[str, float]]


class Loop:
    """Iterate over the steps of one stage.

    `modules` are trained (the first is what is kept); `evaluate` gives `eval_*` numbers, of which `best_key` (higher
    is better with `higher`, else lower) decides under `keep: best`. `checkpoints` are saved on the way, and `tracking`
    gets each row of the log. With `stop_on_alarm` the step that raises an alarm is the last: StoppedByAlarm. The
    weights before it become a checkpoint on the way, for which each step copies them; the state saved before it stays
    the newest.
    """

    def __init__(
        self,
        name: str,
        work: Path,
        config: OptimizerConfig,
        progress: Progress,
        *,
        steps: int,
        modules: Mapping[str, nn.Module],
        optimizer: Optimizer,
        evaluate: Evaluate | None = None,
        best_key: str = "eval_loss",
        higher: bool = False,
        save_seconds: float = 30.0,
        stop_on_alarm: bool = False,
        processes: Processes = ALONE,
        checkpoints: StepCheckpoints | None = None,
        tracking: Tracking | None = None,
    ) -> None:
        self.name, self.work, self.config, self.progress = name, work, config, progress
        self.steps, self.modules, self.optimizer = steps, dict(modules), optimizer
        self.evaluate, self.best_key, self.sign = evaluate, best_key, 1.0 if higher else -1.0
        self.save_seconds, self.stop_on_alarm, self.processes = save_seconds, stop_on_alarm, processes
        self.checkpoints, self.tracking = checkpoints, tracking or Tracking((), work, name, {}, progress)
        self.step = 0
        self.seconds = 0.0
        self.samples = 0
        self.tokens = 0
        self.scalars: dict[str, float] = {}
        self.final: dict[str, float] = {}
        self.best: dict[str, float] | None = None
        self.log_file = work / "log.jsonl"
        self._row: dict[str, Any] = {}
        self._written: list[dict[str, Any]] = []  # the log's rows so far
        self._alarmed: set[str] = set()  # alarms are said once
        self._at = 0  # number of the step under way, counted from 1
        self._saved = 0  # step of the newest state; 0: none
        self._stop = False

    def __iter__(self) -> Iterator[int]:
        self.processes.first(lambda: self.work.mkdir(parents=True, exist_ok=True))
        self._restore()
        self._check_same_weights()
        earlier = self.seconds
        task_of = self.progress.task(self.name, total=self.steps, start=self.step)
        with _interrupts(self), self.tracking.following(self.step), task_of as task:
            began = saved = time.monotonic()  # a tracker may have waited for its server
            while self.step < self.steps:
                self._row, self._at = {}, self.step + 1
                good = copied_state(self.checkpoints.model) if self.stop_on_alarm and self.checkpoints else None
                yield self.step
                self.step += 1
                self.seconds = earlier + time.monotonic() - began
                self._evaluate()
                alarms = self._write_row()
                self._keep_on_the_way()
                task.advance(**{k: v for k, v in self._row.items() if k in _SHOWN})
                if alarms and self.stop_on_alarm:
                    raise StoppedByAlarm(self._stopped_by(alarms[0], self._keep_before(good)))
                stop, due = self._agree(time.monotonic() - saved >= self.save_seconds)
                if stop or (due and self.step < self.steps):
                    self._save()
                    saved = time.monotonic()
                if stop:
                    raise Interrupted(
                        f"{self.name}: interrupted after step {self.step} of {self.steps}, which is kept; "
                        "the same command continues from there"
                    )
        if self.config.keep == "best" and self.best is not None:
            load_trained(next(iter(self.modules.values())), torch.load(self.work / "best.pt", weights_only=True))
            self.final |= self.best

    def log(self, row: Mapping[str, float], *, samples: int = 0, tokens: int = 0) -> None:
        """Numbers of the step under way.

        Raises:
            NotFinite: one of them is NaN or infinite. Call it before the optimiser steps.
        """
        for key, value in row.items():
            if not math.isfinite(value):
                raise NotFinite(f"{self._where()}: {key} is {value}{LOWER}")
        self.samples += samples
        self.tokens += tokens
        self._row.update(row)

    def rows(self) -> list[dict[str, Any]]:
        return read_jsonl(self.log_file) if self.log_file.exists() else []

    def _agree(self, due: bool) -> tuple[bool, bool]:
        """Whether to stop, as any process may have been asked to, and whether a state is due by the first's clock."""
        everybody = self.processes.gather((self._stop, due))
        return any(stop for stop, _ in everybody), everybody[0][1]

    def _check_same_weights(self) -> None:
        where = f"{self.name}, step {self.step} of {self.steps}"
        check_same_weights(self.processes, self.modules, where=where)

    def _where(self) -> str:
        return f"{self.name}, step {self._at} of {self.steps}"

    def _evaluate(self) -> None:
        every = self.config.eval_every
        last = self.step == self.steps
        if self.evaluate is None or not (last or (every and self.step % every == 0)):
            return
        self._check_same_weights()
        try:
            numbers = {key: float(value) for key, value in self.evaluate().items()}
        except NotFinite as error:
            raise NotFinite(f"{self._where()}: {error}{LOWER}") from error
        self.log(numbers)
        self.final = numbers
        if self.config.keep != "best" or self.best_key not in numbers:
            return
        if self.best is None or self.sign * numbers[self.best_key] > self.sign * self.best[self.best_key]:
            self.best = {**numbers, "best_step": float(self.step)}
            buffer = io.BytesIO()
            torch.save(trained_state(next(iter(self.modules.values()))), buffer)
            self.processes.first(lambda: atomic_write_bytes(self.work / "best.pt", buffer.getvalue()))

    def _write_row(self) -> list[Alarm]:
        """Ends the step's row; the alarms that it is the first to raise."""
        row = {"step": self.step, **self._row, "num_tokens": self.tokens, "seconds": round(self.seconds, 3)}
        if self.processes.is_first:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json_text(row) + "\n")
        self._written.append(row)
        self.tracking.log(row)
        alarms = [alarm for alarm in alarms_at(self._written) if alarm.name not in self._alarmed]
        for alarm in alarms:
            self._alarmed.add(alarm.name)
            self.progress.log(f"alarm: {self.name}, step {alarm.step} of {self.steps}: {alarm.message}")
        return alarms

    def _stopped_by(self, alarm: Alarm, before: Path | None) -> str:
        kept, begins = f"the state after step {self._saved} is kept", "continues from there"
        if not self._saved:
            kept, begins = "no state was saved before it", "begins the stage anew"
        weights = f"the weights before it are {before}, " if before else ""
        return (
            f"{self.name}: stopped by an alarm at step {alarm.step} of {self.steps} ({alarm.name}); {weights}{kept}: "
            f"the same command without --stop-on-alarm {begins}"
        )

    def _keep_before(self, weights: dict[str, Tensor] | None) -> Path | None:
        """The checkpoint of the step before this one, which is made of `weights`; None at the first: its parent."""
        checkpoints, step = self.checkpoints, self.step - 1
        if checkpoints is None or step == 0:
            return None
        self.processes.first(lambda: checkpoints.keep(step, of=self.steps, weights=weights))
        return checkpoints.path(step)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "modules": {name: trained_state(module) for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "scalars": self.scalars,
            "numbers": {"seconds": self.seconds, "samples": self.samples, "tokens": self.tokens},
            "best": self.best,
            "final": self.final,
        }
        self.processes.first(lambda: write_state(self.work, {**state, "log_bytes": self.log_file.stat().st_size}))
        self._saved = self.step

    def _keep_on_the_way(self) -> None:
        checkpoints = self.checkpoints
        if checkpoints is not None and checkpoints.due(self.step, of=self.steps):
            weights = gathered_weights(checkpoints.model)
            self.processes.first(lambda: checkpoints.keep(self.step, of=self.steps, weights=weights))

    def _begin_anew(self) -> None:
        """What an earlier training left is not this one's."""
        self.log_file.unlink(missing_ok=True)
        if self.checkpoints is not None:
            self.checkpoints.begin()

    def _restore(self) -> None:
        state = newest_state(self.work)
        if state is None:
            self.processes.first(self._begin_anew)
            return
        self.step = self._saved = state["step"]
        for name, module in self.modules.items():
            load_trained(module, state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scalars, self.best, self.final = state["scalars"], state["best"], state["final"]
        self.seconds = state["numbers"]["seconds"]
        self.samples, self.tokens = state["numbers"]["samples"], state["numbers"]["tokens"]
        self.processes.first(lambda: os.truncate(self.log_file, state["log_bytes"]))
        self._written = self.rows()
        self._alarmed = {alarm.name for alarm in find_alarms(self._written)}
        self.progress.log(f"{self.name}: continues after step {self.step} of {self.steps}")


_SHOWN = ("loss", "eval_loss", "accuracy", "reward", "objective/scores", "kl", "objective/kl", "rewards/accuracies")


class _interrupts:
    """Ctrl-C and a polite kill let the step finish; a second one stops at once."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.loop._stop:
            raise KeyboardInterrupt
        self.loop._stop = True
        self.loop.progress.log(f"{self.loop.name}: stopping after this step (again to stop at once)")
