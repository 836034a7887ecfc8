"""--report-to: each row of a stage's log to TensorBoard or Weights & Biases as well, beside log.jsonl.

Both come with the extra `tracking`. What goes wrong with a tracker, at any moment, is one warning, and training goes on
without it: log.jsonl has everything.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rlhf_bench.errors import MissingExtra, UnknownName
from rlhf_bench.progress import Progress
from rlhf_bench.types import stable_hash
from trainers.engine.stage import Stage

WAIT = 30  # seconds that wandb may take to reach its server


class Tracker(Protocol):
    def log(self, numbers: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


@dataclass
class Tracking:
    """The trackers of one stage: `with tracking.following(step)`, `log` each row."""

    names: Sequence[str]  # keys of TRACKERS
    run: Path  # the run's folder, or a seed's in it
    stage: str
    config: Mapping[str, Any]
    progress: Progress
    _open: dict[str, Tracker] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage) -> Tracking:
        """The stage's trackers; of several processes the first alone has them."""
        names = stage.reporting.trackers if stage.machine.processes.is_first else ()
        config = stage.config.model_dump(mode="json")
        return cls(names, stage.folders.run, stage.name, config, stage.reporting.progress)

    @contextmanager
    def following(self, step: int) -> Iterator[None]:
        """Open within the block. `step`: how many steps an earlier process has logged and saved."""
        for name in self.names:
            with self._guarded(name):
                self._open[name] = TRACKERS[name](self, step)
        try:
            yield
        finally:
            for name, tracker in list(self._open.items()):
                with self._guarded(name):
                    tracker.close()
            self._open.clear()

    def log(self, row: Mapping[str, Any]) -> None:
        numbers = {key: float(value) for key, value in row.items() if key != "step" and _finite(value)}
        for name, tracker in list(self._open.items()):
            with self._guarded(name):
                tracker.log(numbers, int(row["step"]))

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Whatever a tracker raises is one warning; the tracker is not called again."""
        try:
            yield
        except Exception as error:  # a server, a disk, a version: none of them is worth a training
            self._open.pop(name, None)
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
            self.progress.log(
                f"warning: {self.stage}: {name} failed ({what}); training continues without it, log.jsonl has all"
            )


class TensorBoard:
    """Event files in <run>/tensorboard/<stage>, for: tensorboard --logdir checkpoints."""

    def __init__(self, tracking: Tracking, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = tracking.run / "tensorboard" / tracking.stage
        if not step:
            shutil.rmtree(folder, ignore_errors=True)  # an earlier training's
        # rows after the saved state are logged once more: purge_step hides the first of them
        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        for key, value in numbers.items():
            self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of the project `rlhf-bench` (or WANDB_PROJECT), continued under the same id; WANDB_MODE=offline works."""

    def __init__(self, tracking: Tracking, step: int) -> None:
        import wandb

        where = [*tracking.run.parts[-2:], tracking.stage]
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rlhf-bench"),
            name="/".join(where),
            id=stable_hash(str(tracking.run.resolve()), tracking.stage, str(dict(tracking.config))),
            resume="allow",
            config=dict(tracking.config),
            dir=str(tracking.run),
            settings=wandb.Settings(init_timeout=WAIT),
        )

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.run.log(dict(numbers), step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[Tracking, int], Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def check_trackers(names: Sequence[str]) -> None:
    """Check that each tracker exists and is installed, before anything is trained. Raises UnknownName, MissingExtra."""
    for name in names:
        if name not in TRACKERS:
            raise UnknownName("tracker", name, TRACKERS)
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(name)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
