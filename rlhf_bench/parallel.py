"""Batches side by side on the cores of a CPU.

A small model leaves a second core idle: its products are too small to be divided. So each core takes batches of its
own, single-threaded; what they give is put together in a fixed order, gradients of micro-batches too: the result does
not depend on who was first. A large model, or one on a GPU, is faster with one batch at a time.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["SMALL", "Pool", "worker_pool", "workers_for"]

SMALL = 20_000_000  # parameters; beyond it a single batch keeps all cores busy

Item = TypeVar("Item")
Result = TypeVar("Result")
Numbers = Mapping[str, float]


class Pool:
    """`workers` threads; with one, everything happens in the caller's."""

    def __init__(self, executor: ThreadPoolExecutor | None, workers: int) -> None:
        self.executor, self.workers = executor, workers

    def stream(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, each as soon as it is there.

        Autocast and grad mode belong to a thread: set them in `function`.
        """
        return map(function, items) if self.executor is None else self.executor.map(function, items)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """All results, in the order of the items; see `stream`."""
        return list(self.stream(function, items))

    def accumulate(
        self,
        function: Callable[[Item], tuple[Tensor, Numbers]],
        pieces: Sequence[Item],
        parameters: Sequence[nn.Parameter],
    ) -> dict[str, float]:
        """Add the gradient of the sum of all losses to `parameters`; returns the sum of the pieces' numbers.

        `function` gives a piece's loss, already divided by the whole step's denominator, and its share of the numbers.
        """

        def work(piece: Item) -> tuple[tuple[Tensor | None, ...], Numbers]:
            loss, numbers = function(piece)
            if self.executor is None:  # the only way that runs the hooks of DDP and FSDP
                loss.backward()
                return (None,) * len(parameters), numbers
            return torch.autograd.grad(loss, parameters, allow_unused=True), numbers

        totals: dict[str, float] = {}
        for grads, numbers in self.map(work, pieces):
            for parameter, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)
            for key, value in numbers.items():
                totals[key] = totals.get(key, 0.0) + value
        return totals

    def split(self, rows: Sequence[Item], size: int) -> list[Sequence[Item]]:
        """Consecutive pieces of at most `size` rows, as many as keep all workers busy, of nearly equal length."""
        count = max(1, -(-len(rows) // size))
        count = min(len(rows), -(-count // self.workers) * self.workers)
        edges = [round(i * len(rows) / count) for i in range(count + 1)]
        return [rows[a:b] for a, b in itertools.pairwise(edges)]


@contextlib.contextmanager
def worker_pool(model_parameters: int, device: torch.device) -> Iterator[Pool]:
    """A pool of as many workers as torch has threads, for a small model on a CPU; else a pool of one.

    Inside, each operation of torch runs on one thread; the number is put back afterwards.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or model_parameters > SMALL:
        yield Pool(None, 1)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=threads, initializer=torch.set_num_threads, initargs=(1,)) as executor:
            yield Pool(executor, threads)
    finally:
        torch.set_num_threads(threads)


def workers_for(model: PreTrainedModel) -> contextlib.AbstractContextManager[Pool]:
    """`worker_pool` for this model; inside another one, a pool of one."""
    return worker_pool(sum(p.numel() for p in model.parameters()), model.device)
