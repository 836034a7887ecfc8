"""A name for this process that outlives it, and whether the process of such a name still runs."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

from rlhf_bench.types import stable_hash


def this_process() -> str:
    """`<machine>:<pid>:<start>`: a pid alone would be mistaken for a later process that was given the same number."""
    pid = os.getpid()
    return f"{_machine()}:{pid}:{_start(pid)}"


def is_dead(owner: str) -> bool:
    """True only if `owner` surely runs no more; of a process on another machine nothing can be known."""
    machine, pid_text, start = owner.split(":")
    if machine != _machine():
        return False
    pid = int(pid_text)
    if _start(pid) != start:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False


@cache
def _machine() -> str:
    """Hash of the host, its boot and its space of process numbers: containers have spaces of their own."""
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        space = ""
    return stable_hash(socket.gethostname(), boot, space)


def _start(pid: int) -> str:
    """Clock ticks from boot to the process's start; empty where there is no such process or no /proc.

    A zombie, which has ended and only waits to be collected by its parent, counts as gone.
    """
    # The second field, the program's name, may hold blanks and brackets.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
