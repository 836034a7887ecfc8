"""One of several processes writes; in the others a Writer does nothing."""

from __future__ import annotations

from contextlib import nullcontext

from rlhf_bench.runtime.processes import Processes
from rlhf_bench.runtime.writer import Writer


def test_only_the_first_process_writes_and_holds_locks() -> None:
    written: list[tuple[int, str]] = []
    lock = nullcontext()
    for rank in (0, 1):
        writer = Writer(Processes(rank, 2))
        writer.write(lambda rank, text: written.append((rank, text)), rank, text="rows")
        assert (writer.holding(lock) is lock) == (rank == 0)
    assert written == [(0, "rows")]


def test_a_single_process_looks_for_itself() -> None:
    assert Writer().look(lambda a, b: a + b, 1, b=2) == 3
