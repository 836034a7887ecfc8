"""Every error that a user can cause, in one tree.

    BenchError                    exit status 1, printed as one line
    ├── UsageError                exit status 2: the command line requests something that cannot be
    │   ├── UnknownName           a suite, recipe, stage, key, run, result, model or metric that does not exist
    │   └── BadValue              a value of the wrong type or out of range
    ├── DataError                 a data file or data set that cannot be used
    ├── CheckpointError           a checkpoint that is missing, broken or not what it says
    │   └── StaleParent           a checkpoint with a parent that has changed since it was trained
    ├── ConfigChanged             a finished or interrupted stage was requested with another configuration
    ├── ModelError                a model that does not do what its role needs
    ├── NotFinite                 a loss or a reward became NaN or infinite
    ├── StoppedByAlarm            a stage raised an alarm and was to stop at one
    ├── ProcessLost               another of the processes that work together has ended or does not answer
    ├── StoreError                a results folder that cannot be read or written
    ├── HubError                  the Hugging Face hub cannot be reached, or refuses the request
    ├── JudgeError                a judge that cannot be used: no key, a key that is refused, an unknown model
    └── MissingExtra              an optional dependency that is not installed

    Interrupted(KeyboardInterrupt)   Ctrl-C: exit status 130, with what was kept and how to go on

A message says what was given, what was expected and what to do, in one line. A name out of a list that is known here
is wrong usage where it is not in the list; a file or folder that is not at its path is a failure, as one that cannot be
read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable


class BenchError(Exception):
    """Base of all errors raised on purpose; `str(error)` is the one line that the user sees."""

    exit_status = 1


class UsageError(BenchError):
    exit_status = 2


class UnknownName(UsageError):
    """`advice` says how to make it, where no known name is close; `meant` is the name to suggest, if it is known."""

    def __init__(
        self, kind: str, given: str, known: Iterable[str], *, advice: str = "", meant: str | None = None
    ) -> None:
        known = sorted(known)
        close = meant or nearest(given, known)
        listed = "; ".join(filter(None, ["known: " + (", ".join(known) or "none"), advice]))
        hint = f"did you mean {close!r}?" if close else listed
        super().__init__(f"unknown {kind} {given!r}; {hint}")


class BadValue(UsageError):
    pass


class DataError(BenchError):
    pass


class CheckpointError(BenchError):
    pass


class StaleParent(CheckpointError):
    pass


class ConfigChanged(BenchError):
    pass


class ModelError(BenchError):
    pass


class NotFinite(BenchError):
    pass


class StoppedByAlarm(BenchError):
    pass


class ProcessLost(BenchError):
    pass


class StoreError(BenchError):
    pass


class HubError(BenchError):
    pass


class JudgeError(BenchError):
    pass


class MissingExtra(BenchError):
    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install {package}")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after the work so far was made safe; the message says what was kept and how to go on."""


def check_known(kind: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise UnknownName for the first of `given` that is not among `known`."""
    for name in given:
        if name not in known:
            raise UnknownName(kind, name, known)


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name that a slip or two turned into `given`, or one of which it is a whole word; None where none is.

    A slip is a letter too many, too few, wrong, or in the place of its neighbour: one of them in a name of 3 to 6
    letters, two up to 10, then three.
    """
    limit = min(3, (len(given) + 1) // 4) if len(given) > 2 else 0
    distances = {name: _slips(given.lower(), name.lower()) for name in known}
    close = min(distances, key=lambda name: distances[name], default=None)
    if close is not None and distances[close] <= limit:
        return close
    return next((name for name in distances if given in re.split(r"[^0-9A-Za-z]+", name)), None)


def _slips(a: str, b: str) -> int:
    """Edit distance with swaps of neighbours (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        now = [i]
        for j, y in enumerate(b, start=1):
            cost = min(row[j] + 1, now[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, row = row, now
    return row[-1]
