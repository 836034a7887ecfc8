"""Batches side by side: on the cores of a CPU, and on the processes that a launcher has started.

A small model leaves a second core idle: its products are too small to be divided. So each core takes batches of its
own, single-threaded; what they give is put together in a fixed order, gradients of micro-batches too: the result does
not depend on who was first. A large model, or one on a GPU, is faster with one batch at a time.

Several processes divide the batches in the same way. Each holds whole models, the optimiser's state and all data. In a
training step each adds up its share of the gradient, receives the sum over all of them and takes the same step; what is
taken over a whole batch (advantages, whitening, denominators) is computed in every process from all results.
On request models are sharded as well (`rlhf_bench/runtime/sharding.py`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.runtime.sharding import shard, unsharded

SMALL = 20_000_000  # parameters; beyond it a single batch keeps all cores busy

Item = TypeVar("Item")
Result = TypeVar("Result")
Root = TypeVar("Root", bound=nn.Module)
Numbers = Mapping[str, float]


class Pool:
    """`threads` in each of the processes; with one thread, everything happens in the caller's.

    With `shards` the models that are given to `shard` are sharded over the processes: unsharded in `map` and `fill`,
    layer by layer in `accumulate`.
    """

    def __init__(
        self, executor: ThreadPoolExecutor | None, threads: int, processes: Processes = ALONE, *, shards: bool = False
    ) -> None:
        self.executor, self.processes, self.shards = executor, processes, shards
        self.workers = threads * processes.size
        self.sharded: list[nn.Module] = []

    def shard(self, root: Root, example: Any) -> Root:
        """What a training step calls, its models sharded in place if this pool shards models."""
        if self.shards:
            self.sharded.append(shard(root, self.processes.size, example))
        return root

    @contextlib.contextmanager
    def one_at_a_time(self) -> Iterator[Pool]:
        """A pool that takes one batch at a time and computes each operation on all of its threads.

        For work of many short operations, such as decoding: threads that take batches of their own wait there for each
        other, since only one can run Python.
        """
        if self.executor is None:
            yield self
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self.workers // self.processes.size)
        try:
            yield Pool(None, 1, self.processes)
        finally:
            torch.set_num_threads(before)

    def stream(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, each as soon as it is there. Every process computes all of them.

        Autocast and grad mode belong to a thread: set them in `function`.
        """
        return map(function, items) if self.executor is None else self.executor.map(function, items)

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        on_result: Callable[[Result], None] = lambda _: None,
    ) -> list[Result]:
        """All results, in the order of the items, each computed by one process; see `stream`.

        `on_result` is called with this process's as they come. From several processes tensors come back on the CPU.
        """
        mine = []
        with unsharded(self.sharded):
            for result in self.stream(function, self.processes.share(items)):
                mine.append(result)
                on_result(result)
        return self.processes.merge(mine)

    def fill(
        self, out: Tensor, function: Callable[[Sequence[int]], Tensor], groups: Iterable[Sequence[int]]
    ) -> Tensor:  # fmt: skip
        """`out` with `function(group)` in the columns of each group, (..., N); divided as in `map`."""
        groups = list(groups)
        alone = self.processes.size == 1  # then each result goes to its place as it comes, and none is held
        results = self.stream(function, groups) if alone else iter(self.map(function, groups))
        for group, values in zip(groups, results, strict=True):
            out[..., list(group)] = values.to(out)
        return out

    def accumulate(
        self,
        function: Callable[[Item], tuple[Tensor, Numbers]],
        pieces: Sequence[Item],
        parameters: Sequence[nn.Parameter],
    ) -> dict[str, float]:
        """Give `parameters`, which hold none, the gradient of the sum of all losses; returns the sum of the numbers.

        `function` gives a piece's loss, already divided by the whole step's denominator, and its share of the numbers.
        """

        def work(piece: Item) -> tuple[tuple[Tensor | None, ...], Numbers]:
            loss, numbers = function(piece)
            if self.executor is None:  # the only way that runs the hooks of FSDP
                loss.backward()
                return (None,) * len(parameters), numbers
            return torch.autograd.grad(loss, parameters, allow_unused=True), numbers

        mine: list[Numbers] = []
        for grads, numbers in self.stream(work, self.processes.share(pieces)):
            for parameter, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)
            mine.append(numbers)
        if not self.sharded:
            self._add_up_gradients(parameters)
        elif len(mine) < -(-len(pieces) // self.processes.size):  # the others wait for this one at each layer
            loss, _ = function(pieces[0])
            (0.0 * loss).backward()
        totals: dict[str, float] = {}
        for numbers in self.processes.merge(mine):
            for key, value in numbers.items():
                totals[key] = totals.get(key, 0.0) + value
        return totals

    def _add_up_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """A parameter that no loss of any process reaches keeps no gradient, and its optimiser leaves it alone."""
        if self.processes.size == 1:
            return
        reached = self.processes.gather([parameter.grad is not None for parameter in parameters])
        trained = [parameter for parameter, *by in zip(parameters, *reached, strict=True) if any(by)]
        for parameter in trained:
            if parameter.grad is None:  # fewer pieces than processes
                parameter.grad = torch.zeros_like(parameter)
        self.processes.add_up([parameter.grad for parameter in trained if parameter.grad is not None])

    def split(self, rows: Sequence[Item], size: int) -> list[Sequence[Item]]:
        """Consecutive pieces of at most `size` rows, as many as keep all workers busy, of nearly equal length."""
        count = max(1, -(-len(rows) // size))
        count = min(len(rows), -(-count // self.workers) * self.workers)
        edges = [round(i * len(rows) / count) for i in range(count + 1)]
        return [rows[a:b] for a, b in itertools.pairwise(edges)]


@contextlib.contextmanager
def worker_pool(model_parameters: int, device: torch.device, processes: Processes = ALONE) -> Iterator[Pool]:
    """A pool of as many threads as torch has, for a small model on a CPU; else of one. In each of the processes.

    Inside, each operation of torch runs on one thread; the number is put back afterwards.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or model_parameters > SMALL:
        yield Pool(None, 1, processes)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=threads, initializer=torch.set_num_threads, initargs=(1,)) as executor:
            yield Pool(executor, threads, processes)
    finally:
        torch.set_num_threads(threads)


def workers_for(model: PreTrainedModel, processes: Processes = ALONE) -> contextlib.AbstractContextManager[Pool]:
    """`worker_pool` for this model; inside another one, a pool of one."""
    return worker_pool(sum(p.numel() for p in model.parameters()), model.device, processes)
