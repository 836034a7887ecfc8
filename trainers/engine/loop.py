"""The step loop that every stage shares: log, evaluate, keep the best, save, resume, stop when interrupted.

    loop = Loop(stage, steps, trained, optimizer)
    for step in loop:
        loop.update(loss, micro_batches, samples=..., tokens=...)

What a step does is a function of the seed and the step's number alone, so that a stage continued from a saved state
ends with the same weights, bit for bit, as one that was never interrupted. A state holds everything else: weights,
optimiser, numbers that change (`scalars`), the length of the log, the seconds spent.

Of several processes each takes every step; the first writes the log and the states, which continue in any number.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from rlhf_bench.errors import Interrupted, NotFinite, StoppedByAlarm
from trainers.engine.alarms import TrainingAlarm, alarms_at, find_alarms
from trainers.engine.optim import Optimizer, learning_rate_factor
from trainers.engine.saving import StepCheckpoints
from trainers.engine.stage import Stage, StageResult, Trained
from trainers.engine.states import (
    WorkFolder,
    check_same_weights,
    copied_state,
    gathered_weights,
    load_trained,
    trained_state,
)
from trainers.engine.tracking import Tracking

LOWER = "; finished stages are kept: lower the learning rate and start this one again with --no-resume"

Piece = TypeVar("Piece")
Loss = Callable[[Piece], tuple[Tensor, Mapping[str, float]]]  # of a micro-batch: its share of the step's, and numbers


class HeldOut(NamedTuple):
    """What is evaluated on held-out rows while a stage trains, and which number decides under `keep: best`."""

    evaluate: Callable[[], Mapping[str, float]]  # numbers called eval_*
    best_key: str = "eval_loss"
    higher: bool = False  # is better


class Loop:
    """Iterate over the steps of one stage.

    `trained` is what the stage becomes; `more` are modules that are trained beside it, by a name for the state. With
    `stop_on_alarm` the step that raises an alarm is the last: StoppedByAlarm. The weights before it become a checkpoint
    on the way, for which each step copies them; the state saved before it stays the newest.
    """

    def __init__(
        self,
        stage: Stage,
        steps: int,
        trained: Trained,
        optimizer: Optimizer,
        evaluation: HeldOut | None = None,
        more: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.stage, self.steps, self.trained, self.optimizer = stage, steps, trained, optimizer
        self.evaluation, self.config = evaluation, stage.config
        self.modules: dict[str, nn.Module] = {"model": trained.model, **(more or {})}
        self.files = WorkFolder(stage.folders.work, stage.writer)
        self.checkpoints = StepCheckpoints.of(stage, trained)
        self.tracking = Tracking.of(stage)
        self.step = 0
        self.seconds = 0.0
        self.samples = 0
        self.tokens = 0
        self.scalars: dict[str, float] = {}
        self.first_row: dict[str, float] = {}  # numbers of the data, in the first row of the log
        self.final: dict[str, float] = {}
        self.best: dict[str, float] | None = None
        self._row: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []  # of the log so far
        self._alarmed: set[str] = set()  # an alarm is logged once
        self._at = 0  # number of the step under way, counted from 1
        self._saved = 0  # step of the newest state; 0: none
        self.stopping = False

    def __iter__(self) -> Iterator[int]:
        reporting = self.stage.reporting
        self.files.make()
        self.restore()
        self._check_same_weights()
        earlier = self.seconds
        task_of = reporting.progress.task(self.stage.name, total=self.steps, start=self.step)
        with _interrupts(self), self.tracking.following(self.step), task_of as task:
            began = saved = time.monotonic()  # a tracker may have waited for its server
            while self.step < self.steps:
                self._row, self._at = {} if self.step else dict(self.first_row), self.step + 1
                self.optimizer.set_learning_rate(learning_rate_factor(self.step, self.steps, self.config))
                good = copied_state(self.trained.model) if reporting.stop_on_alarm else None
                yield self.step
                self.step += 1
                self.seconds = earlier + time.monotonic() - began
                self._evaluate()
                alarms = self.end_row()
                if self.checkpoints.due(self.step, of=self.steps):
                    self.checkpoints.keep(self.step, of=self.steps, weights=gathered_weights(self.trained.model))
                task.advance(**{k: v for k, v in self._row.items() if k in _SHOWN})
                if alarms and reporting.stop_on_alarm:
                    raise StoppedByAlarm(self._stopped_by(alarms[0], self._keep_before(good)))
                stop, due = self._agree(time.monotonic() - saved >= self.stage.recipe.save_seconds)
                if stop or (due and self.step < self.steps):
                    self.save()
                    saved = time.monotonic()
                if stop:
                    raise Interrupted(
                        f"{self.stage.name}: interrupted after step {self.step} of {self.steps}, which is kept; "
                        "the same command continues from there"
                    )
        if self.config.keep == "best" and self.best is not None:
            self.files.load_best(self.trained.model)
            self.final |= self.best

    def update(self, loss: Loss[Piece], pieces: Sequence[Piece], *, samples: int = 0, tokens: int = 0) -> None:
        """One optimiser step on the sum of the losses of `pieces`. Raises NotFinite."""
        self.gradients(loss, pieces, samples=samples, tokens=tokens)
        self.take_step()

    def gradients(
        self, loss: Loss[Piece], pieces: Sequence[Piece], *, samples: int = 0, tokens: int = 0
    ) -> dict[str, float]:
        """Accumulate the gradient of all pieces; their numbers, which are logged. Raises NotFinite."""
        numbers = self.stage.machine.pool.accumulate(loss, pieces, self.optimizer.parameters)
        self.log(numbers, samples=samples, tokens=tokens)
        return numbers

    def take_step(self) -> float:
        """Clip the gradient, take the optimiser's step and log both; returns the norm before clipping.

        Raises NotFinite.
        """
        norm = self.optimizer.step(where=f"{self.stage.name}, step {self._at}")
        self.log({"grad_norm": norm, "learning_rate": self.optimizer.lr})
        return norm

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

    def result(self, counts: Mapping[str, int], record: Mapping[str, Any] | None = None) -> StageResult:
        """What the stage returns once all steps are done."""
        return StageResult(
            self.trained, self.final, self.samples, self.tokens, self.seconds, self.steps, dict(counts),
            dict(record or {}), gathered_weights(self.trained.model),
        )  # fmt: skip

    def end_row(self) -> list[TrainingAlarm]:
        """End the step's row; the alarms that it is the first to raise."""
        row = {"step": self.step, **self._row, "num_tokens": self.tokens, "seconds": round(self.seconds, 3)}
        self.files.append(row)
        self._rows.append(row)
        self.tracking.log(row)
        alarms = [alarm for alarm in alarms_at(self._rows) if alarm.name not in self._alarmed]
        for alarm in alarms:
            self._alarmed.add(alarm.name)
            self.stage.reporting.progress.log(
                f"alarm: {self.stage.name}, step {alarm.step} of {self.steps}: {alarm.message}"
            )
        return alarms

    def save(self) -> None:
        """Keep a state from which the stage can be continued."""
        self.files.save(
            {
                "step": self.step,
                "modules": {name: trained_state(module) for name, module in self.modules.items()},
                "optimizer": self.optimizer.state_dict(),
                "scalars": self.scalars,
                "numbers": {"seconds": self.seconds, "samples": self.samples, "tokens": self.tokens},
                "best": self.best,
                "final": self.final,
            }
        )
        self._saved = self.step

    def restore(self) -> None:
        """Continue from the newest state; without one, remove what an earlier training left."""
        state = self.files.newest_state()
        if state is None:
            self.files.clear_log()
            self.checkpoints.clear()
            return
        self.step = self._saved = state["step"]
        for name, module in self.modules.items():
            load_trained(module, state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scalars, self.best, self.final = state["scalars"], state["best"], state["final"]
        self.seconds = state["numbers"]["seconds"]
        self.samples, self.tokens = state["numbers"]["samples"], state["numbers"]["tokens"]
        self.files.cut_log(state)
        self._rows = self.files.rows()
        self._alarmed = {alarm.name for alarm in find_alarms(self._rows)}
        self.stage.log(f"continues after step {self.step} of {self.steps}")

    def _agree(self, due: bool) -> tuple[bool, bool]:
        """Whether to stop, as any process may have been signalled to, and whether a state is due by the first's
        clock."""
        every = self.stage.machine.processes.gather((self.stopping, due))
        return any(stop for stop, _ in every), every[0][1]

    def _check_same_weights(self) -> None:
        where = f"{self.stage.name}, step {self.step} of {self.steps}"
        check_same_weights(self.stage.machine.processes, self.modules, where=where)

    def _where(self) -> str:
        return f"{self.stage.name}, step {self._at} of {self.steps}"

    def _evaluate(self) -> None:
        every, last = self.config.eval_every, self.step == self.steps
        if self.evaluation is None or not (last or (every and self.step % every == 0)):
            return
        self._check_same_weights()
        try:
            numbers = {key: float(value) for key, value in self.evaluation.evaluate().items()}
        except NotFinite as error:
            raise NotFinite(f"{self._where()}: {error}{LOWER}") from error
        self.log(numbers)
        self.final = numbers
        key, sign = self.evaluation.best_key, 1.0 if self.evaluation.higher else -1.0
        if self.config.keep != "best" or key not in numbers:
            return
        if self.best is None or sign * numbers[key] > sign * self.best[key]:
            self.best = {**numbers, "best_step": float(self.step)}
            self.files.save_best(self.trained.model)

    def _stopped_by(self, alarm: TrainingAlarm, before: Path | None) -> str:
        kept, begins = f"the state after step {self._saved} is kept", "continues from there"
        if not self._saved:
            kept, begins = "no state was saved before it", "starts the stage again"
        weights = f"the weights before it are {before}, " if before else ""
        return (
            f"{self.stage.name}: stopped by an alarm at step {alarm.step} of {self.steps} ({alarm.name}); "
            f"{weights}{kept}: the same command without --stop-on-alarm {begins}"
        )

    def _keep_before(self, weights: dict[str, Tensor] | None) -> Path | None:
        """The checkpoint of the step before this one, which is made of `weights`; None at the first: its parent."""
        step = self.step - 1
        if step == 0:
            return None
        self.checkpoints.keep(step, of=self.steps, weights=weights)
        return self.checkpoints.path(step)


_SHOWN = ("loss", "eval_loss", "accuracy", "reward", "objective/scores", "kl", "objective/kl", "rewards/accuracies")


class _interrupts:
    """Ctrl-C and SIGTERM let the step finish; a second one stops at once."""

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
        if self.loop.stopping:
            raise KeyboardInterrupt
        self.loop.stopping = True
        self.loop.stage.log("stopping after this step (again to stop at once)")
