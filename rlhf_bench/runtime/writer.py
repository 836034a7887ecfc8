"""The one process of several that writes files, holds locks and reads what it alone may decide on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from rlhf_bench.runtime.processes import ALONE, Processes

__all__ = ["Writer"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Writer:
    """Calls what it is given in process 0 and nowhere else; the code that computes does not ask which process it is.

    Every process calls each method at the same place. `once` may raise ProcessLost.
    """

    processes: Processes = ALONE

    def once(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """What `function` returns in process 0, given to all; the others wait for it."""
        return self.processes.first(lambda: function(*arguments, **options))

    def post(
        self, function: Callable[Arguments, object], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> None:
        """Call `function` in process 0; the others do not wait for it."""
        if self.processes.is_first:
            function(*arguments, **options)

    def holding(self, lock: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """The context in process 0, nothing in the others."""
        return self.processes.only_first(lock)
