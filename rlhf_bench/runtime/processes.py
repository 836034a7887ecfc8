"""Several processes that do one piece of work together, as `torchrun` or `accelerate launch` starts them.

    with several_processes(exit_status) as processes:
        rewards = processes.map(score, batches)      # each process scores its share and receives the others'
        processes.first(lambda: write(rewards))      # files, locks and messages are process 0's

All of them run the same program on the same data; only what is expensive is divided, and every method is called by all
of them at the same place. Without a launcher there is one process, nothing is exchanged and torch is not loaded.

When one process fails the others lose their connection to it and end as well; one of them says why, in one line.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

from rlhf_bench.errors import BadValue, ProcessLost

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

TIMEOUT = timedelta(minutes=30)  # for a process that hangs; one that ends is noticed at once
BUCKET = 1 << 25  # bytes of gradients that are summed at a time: a copy of all of them would double their memory
FIRST_SPEAKS = 2.0  # seconds that another process waits for process 0 to report the same error
LAST_WORD = 5.0  # seconds that the ones left behind wait for the reason
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun and accelerate launch set
SHARDING = {  # what accelerate launch sets where its configuration shards models otherwise than here
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """Process number `rank` of `size`.

    Every method may raise ProcessLost: another process ended, or has not answered for TIMEOUT.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Iterable[Item]) -> list[Item]:
        """What this process works on: every `size`-th item, so that items sorted by length make equal shares."""
        return list(items)[self.rank :: self.size]

    def merge(self, results: list[Result]) -> list[Result]:
        """The results of all shares, in the order of the items. Tensors come back on the CPU."""
        if self.size == 1:
            return results
        shares = self.gather(results)
        return [shares[i % self.size][i // self.size] for i in range(sum(map(len, shares)))]

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results in the order of the items, each computed by one process. Tensors come back on the CPU."""
        return self.merge([function(item) for item in self.share(items)])

    def gather(self, value: Result) -> list[Result]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(values, _portable(value))
        return values

    def first(self, function: Callable[[], Result]) -> Result:
        """What process 0 alone computes, given to all; the others wait for it."""
        if self.size == 1:
            return function()
        import torch.distributed as dist

        box: list[Any] = [_portable(function()) if self.is_first else None]
        with self._together():
            dist.broadcast_object_list(box, src=0)
        result: Result = box[0]
        return result

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, bit for bit the same in all of them."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with self._together():
                dist.all_reduce(flat)
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what torch raises where a connection is closed or a time-out has passed
            raise ProcessLost(
                f"process {self.rank} of {self.size} lost another: it was killed or ran out of memory, or has not "
                f"answered for {TIMEOUT.seconds // 60} minutes; what was finished is kept: the same command goes on "
                "from there, in any number of processes"
            ) from error


ALONE = Processes()


@contextmanager
def several_processes(exit_status: Callable[[BaseException], int]) -> Iterator[Processes]:
    """The processes that a launcher has started, once all are there; ALONE without one.

    An error ends all of them. The first to fail raises it, process 0 where it fails as well; the others raise
    SystemExit with the status that `exit_status` gives it there.

    Raises:
        BadValue: the launcher's environment is incomplete, shards models otherwise than by FSDP, or
            has more processes than the machine has GPUs.
        ProcessLost: not all of them came.
    """
    if _number("WORLD_SIZE", 1) == 1:
        yield ALONE
        return
    missing = [name for name in ENVIRONMENT if name not in os.environ]
    if missing:
        raise BadValue(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {', '.join(missing)} is not set; expected the environment "
            "of torchrun or accelerate launch: start with one of them, or unset WORLD_SIZE"
        )
    processes, store = _join()
    try:
        _check_sharding()
        yield processes
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's, once one has ended: the reason is printed first
        word = _word(store, processes, exit_status(error), lost=isinstance(error, ProcessLost))
        if word is None:
            raise
        raise SystemExit(word) from error
    import torch.distributed as dist

    dist.destroy_process_group()


def fsdp_is_configured() -> bool:
    """Whether accelerate's configuration says distributed_type: FSDP; nothing else of its FSDP section is read."""
    return _is_set("ACCELERATE_USE_FSDP")


def _check_sharding() -> None:
    """Raises BadValue where accelerate's configuration sets what would be left out in silence."""
    sharding = [name for variable, name in SHARDING.items() if _is_set(variable)]
    if sharding:
        raise BadValue(
            f"accelerate's configuration sets {sharding[0]}; expected processes with unsharded models "
            "(distributed_type: MULTI_GPU) or models sharded by FSDP (distributed_type: FSDP), as in docs/accelerate/"
        )


def _join() -> tuple[Processes, Store]:
    import torch
    import torch.distributed as dist

    # Its functions have the group of the moment of their import as a default argument. Imported later, as transformers
    # does, they keep the group's threads beyond `destroy_process_group`, and those may abort the process at its exit.
    import torch.distributed.nn.functional
    from torch.distributed.rendezvous import rendezvous

    backend = "gloo"
    if torch.cuda.is_available():
        local, there = _number("LOCAL_RANK", 0), torch.cuda.device_count()
        if local >= there:
            raise BadValue(
                f"process {local} of this machine has no GPU, there are {there}; expected a process a GPU: lower "
                "--nproc-per-node (or accelerate's --num_processes), or set CUDA_VISIBLE_DEVICES= to use the CPU"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=TIMEOUT)))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except RuntimeError as error:
        raise ProcessLost(
            f"the {os.environ['WORLD_SIZE']} processes did not meet at {os.environ['MASTER_ADDR']}, port "
            f"{os.environ['MASTER_PORT']}, within {TIMEOUT.seconds // 60} minutes; expected all of them to be started "
            "and to reach it"
        ) from error
    return Processes(rank, size), store


def _word(store: Store, processes: Processes, status: int, *, lost: bool) -> int | None:
    """None in the one process that reports the error; in the others the exit status of the one that did."""
    key = "rlhf-bench/error"
    try:
        if lost or not processes.is_first:
            until = time.monotonic() + (LAST_WORD if lost else FIRST_SPEAKS)
            while not store.check([key]) and time.monotonic() < until:  # `wait` would print a warning of its own
                time.sleep(0.05)
        speaker, code = store.compare_set(key, "", f"{processes.rank} {status}").decode().split()
    except (RuntimeError, ValueError):  # the store is gone with the process that kept it
        return None
    return None if int(speaker) == processes.rank else int(code)


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default


def _portable(value: Any) -> Any:
    """Tensors on the CPU: a process has no other's GPU."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_portable(item) for item in value)
    return value.cpu() if hasattr(value, "cpu") else value


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive tensors of one dtype and device, of some BUCKET bytes together."""
    for _, alike in groupby(tensors, key=lambda tensor: (tensor.dtype, tensor.device)):
        bucket: list[Tensor] = []
        size = 0
        for tensor in alike:
            bucket.append(tensor)
            size += tensor.numel() * tensor.element_size()
            if size >= BUCKET:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket
