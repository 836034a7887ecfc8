"""Progress of long work: a bar on a terminal, plain lines elsewhere, nothing in quiet mode.

    with progress.task("sft", total=400) as task:
        for step in range(400):
            task.advance(loss=2.31)

Everything goes to standard error, so that what a command prints as its result can be piped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress


def clock_time(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Task:
    """One piece of work under way. `start` items were done before (a resumed stage) and count in no rate."""

    def __init__(
        self, label: str, total: int | None, *, start: int, clock: Callable[[], float], shown: _Lines | _Bars
    ) -> None:
        self.label = label
        self.total = total
        self.done = start
        self.info: dict[str, object] = {}
        self._start = start
        self._clock = clock
        self._began = clock()
        self._shown = shown

    def advance(self, n: int = 1, **info: object) -> None:
        """`n` more items are done; `info` (loss=2.3) is shown until it is given again."""
        self.done += n
        self.info |= info
        self._shown.change(self)

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    @property
    def rate(self) -> float:
        """Items a second since the task began; 0 before the first."""
        seconds = self.seconds
        return (self.done - self._start) / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated from the rate; None as long as it cannot be known."""
        if self.total is None or self.rate == 0:
            return None
        return max(0, self.total - self.done) / self.rate

    def count(self) -> str:
        if not self.total:
            return str(self.done)
        return f"{self.done}/{self.total} ({self.done / self.total:.0%})"

    def pace(self) -> str:
        left = self.seconds_left
        return f"{self.rate:.3g}/s" + (f", {clock_time(left)} left" if left is not None else "")

    def notes(self) -> str:
        numbers = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in self.info.items()}
        return ", ".join(f"{name} {value}" for name, value in numbers.items())


class Progress:
    """Shows what is being done. `every` is the number of seconds between two plain lines of one task."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        stream = stream or sys.stderr
        self._clock = clock
        on_terminal = stream.isatty() and not quiet
        self._shown = _Bars(stream) if on_terminal else _Lines(None if quiet else stream, every, clock)

    @contextmanager
    def task(self, label: str, total: int | None = None, *, start: int = 0) -> Iterator[Task]:
        """A task that ends with the block; tasks may be nested."""
        task = Task(label, total, start=start, clock=self._clock, shown=self._shown)
        self._shown.begin(task)
        try:
            yield task
        except BaseException:
            self._shown.end(task, failed=True)
            raise
        self._shown.end(task, failed=False)

    def log(self, line: str) -> None:
        """One line that stays."""
        self._shown.log(line)


class _Lines:
    """Plain lines, for files and pipes: one every `every` seconds, and a last one. None: no lines at all."""

    def __init__(self, stream: TextIO | None, every: float, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._due: dict[Task, float] = {}

    def begin(self, task: Task) -> None:
        self._due[task] = self._clock() + self._every

    def change(self, task: Task) -> None:
        now = self._clock()
        # The last item gets no line of its own: the end says it.
        if now >= self._due[task] and task.done != task.total:
            self._due[task] = now + self._every
            self._write(f"{task.label}: {task.count()}, {task.pace()}", task)

    def end(self, task: Task, *, failed: bool) -> None:
        del self._due[task]
        if failed:
            self.log(f"{task.label}: stopped at {task.count()} after {clock_time(task.seconds)}")
        else:
            self._write(f"{task.label}: {task.count()} in {clock_time(task.seconds)}, {task.rate:.3g}/s", task)

    def log(self, line: str) -> None:
        if self._stream is not None:
            print(line, file=self._stream, flush=True)

    def _write(self, line: str, task: Task) -> None:
        notes = task.notes()
        self.log(f"{line}, {notes}" if notes else line)


class _Bars:
    """Bars on a terminal, one a task; rich redraws them only while a task is open."""

    def __init__(self, stream: TextIO) -> None:
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[pace]}", markup=False),
            TextColumn("{task.fields[notes]}", markup=False, style="dim"),
            console=Console(file=stream, highlight=False),
        )
        self._ids: dict[Task, TaskID] = {}

    def begin(self, task: Task) -> None:
        if not self._ids:
            self._rich.start()
        self._ids[task] = self._rich.add_task(
            task.label, total=task.total, completed=task.done, count=task.count(), pace="", notes=""
        )

    def change(self, task: Task) -> None:
        self._rich.update(
            self._ids[task], completed=task.done, count=task.count(), pace=task.pace(), notes=task.notes()
        )

    def end(self, task: Task, *, failed: bool) -> None:
        pace = f"{'stopped after' if failed else 'in'} {clock_time(task.seconds)}, {task.rate:.3g}/s"
        row = self._ids.pop(task)
        self._rich.update(row, completed=task.done, count=task.count(), pace=pace, notes=task.notes())
        if self._ids:
            return
        self._rich.stop()
        # What is finished stays on the screen as it is; the next task starts with a fresh set of bars.
        for done in list(self._rich.task_ids):
            self._rich.remove_task(done)

    def log(self, line: str) -> None:
        self._rich.console.print(line, markup=False, highlight=False, soft_wrap=True)
