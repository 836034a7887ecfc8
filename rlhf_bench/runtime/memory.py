"""The memory that a process has freed: kept where the next step needs it again, or handed back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# of malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_TOP_PAD = -1, -4, -2
_HEAP_STEP = 64 << 20  # bytes by which the heap grows


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, instead of handing it back to the system and asking for it again.

    By default glibc maps each tensor over 32 MiB again, and the system clears it page by page: at 124M parameters that
    was a fifth of a training step in float32 and two fifths in bfloat16. The process stays as large as it once was.
    Other systems and C libraries keep their own ways.
    """
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_TOP_PAD, _HEAP_STEP)


def return_freed_memory() -> None:
    """Hand what is free back to the system. glibc keeps the room of small objects and of other threads' tensors, which
    the next part of the work, with objects of other sizes, hardly uses."""
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None on another system than Linux, or in a library without it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
