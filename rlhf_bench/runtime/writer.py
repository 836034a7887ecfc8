"""One writer: of several processes that compute together, one writes files, takes locks and reads what is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from rlhf_bench.runtime.processes import ALONE, Processes

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Writer:
    """Real in one process, and without effect in the others, so that code which computes need not know which it is.

    Every method is called by all processes at the same place.
    """

    processes: Processes = ALONE

    def write(self, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do `action(*args)` in the writing process. The others continue at once; `look` waits for it."""
        if self.processes.is_first:
            action(*args, **kwargs)

    def write_and_wait(self, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do `action(*args)` in the writing process; the others wait, and see the effect from then on."""
        self.look(action, *args, **kwargs)

    def look(self, question: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """What the writing process finds, in every process: whether a file is there, or which rows are stored."""
        return self.processes.first(lambda: question(*args, **kwargs))

    def holding(self, lock: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """The lock in the writing process, nothing in the others."""
        return lock if self.processes.is_first else nullcontext()
