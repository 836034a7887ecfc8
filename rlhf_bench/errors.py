"""Every error that a user can cause, in one tree.

    BenchError                    exit status 1, printed as one line
    ├── UsageError                exit status 2: the command line asked for something that cannot be
    │   ├── UnknownName           a suite, recipe, stage, key, run, result, model or metric that does not exist
    │   └── BadValue              a value of the wrong type or out of range
    ├── DataError                 a data file or data set that cannot be used
    ├── CheckpointError           a checkpoint that is missing, broken or not what it says
    │   └── StaleParent           a checkpoint whose parent has changed since it was trained
    ├── ConfigChanged             a finished or interrupted stage was asked for with another configuration
    ├── ModelError                a model that does not do what its role needs
    ├── NotFinite                 a loss or a reward became NaN or infinite
    ├── StoppedByAlarm            a stage raised an alarm and was to stop at one
    ├── ProcessLost               another of the processes that work together has ended or does not answer
    ├── StoreError                a results folder that cannot be read or written
    ├── HubError                  the Hugging Face hub cannot be reached, or refuses what was asked of it
    ├── JudgeError                a judge that cannot be asked: no key, a key that is refused, an unknown model
    └── MissingExtra              an optional dependency that is not installed

    Interrupted(KeyboardInterrupt)   Ctrl-C: exit status 130, with what was kept and how to go on

A message says what was given, what was expected and what to do, in one line. A name out of a list that is known here
is wrong usage where it is not in the list; a file or folder that is not at its path is a failure, as one that cannot be
read.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BadValue",
    "BenchError",
    "CheckpointError",
    "ConfigChanged",
    "DataError",
    "HubError",
    "Interrupted",
    "JudgeError",
    "MissingExtra",
    "ModelError",
    "NotFinite",
    "ProcessLost",
    "StaleParent",
    "StoppedByAlarm",
    "StoreError",
    "UnknownName",
    "UsageError",
    "nearest",
]


class BenchError(Exception):
    """Base of all errors raised on purpose; `str(error)` is the one line that the user sees."""

    exit_status = 1


class UsageError(BenchError):
    exit_status = 2


class UnknownName(UsageError):
    """`advice` says how to make it, where no known name is close."""

    def __init__(self, kind: str, given: str, known: Iterable[str], *, advice: str = "") -> None:
        known = sorted(known)
        close = nearest(given, known)
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


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name most like `given`, or None if nothing is close."""
    matches = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
