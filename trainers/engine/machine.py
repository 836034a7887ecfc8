"""Where and how a stage computes: its device, its precision, its workers, deterministic kernels, compiled code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn

from rlhf_bench.modeling.models import autocast
from rlhf_bench.modeling.tokens import Encoded, collate
from rlhf_bench.runtime.memory import keep_freed_memory
from rlhf_bench.runtime.pool import Pool, worker_pool
from rlhf_bench.runtime.processes import Processes
from trainers.engine.compiling import compiling
from trainers.engine.states import check_same_weights

Root = TypeVar("Root", bound=nn.Module)


@dataclass(frozen=True)
class Machine:
    """Where a stage computes."""

    device: torch.device
    precision: str  # fp32 or bf16
    pool: Pool = field(default_factory=lambda: Pool(None, 1))

    @property
    def processes(self) -> Processes:
        return self.pool.processes

    @property
    def dtype(self) -> torch.dtype:
        """Of matrix products."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> Any:
        return autocast(self.precision, self.device)

    def shard(self, root: Root, *, where: str) -> Root:
        """What training calls, its models sharded over the processes where the pool shards models; before an optimiser
        is made. `where` names the stage. Raises ModelError where processes hold different weights."""
        if self.pool.shards:
            check_same_weights(self.processes, {"model": root}, where=where)
        example = collate([Encoded([0], [0])], pad_id=0).to(self.device)
        return self.pool.shard(root, example)


@contextmanager
def workers(
    parameters: int, device: torch.device, processes: Processes, *, stage: str, compiled: bool, fsdp: bool
) -> Iterator[Pool]:
    """Threads for the batches of a model of so many parameters; compiled code and sharded models take one batch at a
    time, on all cores. On a CPU the process keeps its freed memory. Raises ModelError where the model cannot be
    compiled."""
    if device.type == "cpu":
        keep_freed_memory()
    if fsdp:
        yield Pool(None, 1, processes, shards=True)
    elif compiled:
        with compiling(stage):
            yield Pool(None, 1, processes)
    else:
        with worker_pool(parameters, device, processes) as pool:
            yield pool


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic kernels on a CPU, where they cost little; the setting is restored afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
        # every buffer here is written before it is read
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
