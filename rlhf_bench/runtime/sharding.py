"""Models sharded over processes (ZeRO-3, arXiv:1910.02054; FSDP, arXiv:2304.11277), by torch's FSDP2.

A sharded model is in one of two forms. In a training step each process holds its share of the weights, gradients and
optimiser states, and a layer's weights are gathered while it is at work: all processes make the same passes. For
everything else (sampling, evaluation, old log-probabilities) the weights are gathered once: within `unsharded` a model
behaves as any other, and each process makes the passes it needs, of any shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

Root = TypeVar("Root", bound=nn.Module)
Value = TypeVar("Value")


def shard(root: Root, processes: int, example: Any) -> Root:
    """Shard each layer of the models inside `root`, and what is in no layer, over all processes, in place.

    `root` is what training calls: its forward takes a batch, of which `example` is a small one on its device, and
    whatever needs weights happens inside. Weights have to be the same in all processes.
    """
    device = next(root.parameters()).device
    mesh = init_device_mesh(device.type, (processes,))
    blocks: list[FSDPModule] = [fully_shard(layer, mesh=mesh) for layer in layers(root)]
    last: FSDPModule = fully_shard(root, mesh=mesh)  # what is in no block
    # Left alone, FSDP gathers ahead in the reverse order of the last passes, which, unsharded, are each process's own.
    for part, before in zip([*blocks, last], [last, *blocks], strict=True):
        part.set_modules_to_backward_prefetch([before])
        part.set_gradient_divide_factor(1.0)  # a loss is already divided by the whole step's denominator
        part.set_force_sum_reduction_for_comms(True)  # gloo has no other
    # FSDP takes what is called first for the root, and the sampler calls the model inside.
    with torch.no_grad():
        root(example)
    last.reshard()  # a root stays unsharded after its forward, and an optimiser would be given all weights
    return root


def layers(root: nn.Module) -> list[nn.Module]:
    """The members of each model's outermost stacks: its blocks."""
    models = [module for module in root.modules() if isinstance(module, PreTrainedModel)]
    stacks = {s: None for model in models for s in model.base_model.children() if isinstance(s, nn.ModuleList)}
    return [block for stack in stacks for block in stack]


@contextmanager
def unsharded(roots: Sequence[nn.Module]) -> Iterator[None]:
    """Gather all weights of sharded models; within, a pass needs no other process."""
    every = [(part, part is root) for root in roots for part in root.modules() if isinstance(part, FSDPModule)]
    for part, _ in every:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part, is_root in every:
            part.reshard()
            part.set_reshard_after_forward(not is_root, recurse=False)  # the root's are wanted again at once


def is_sharded(module: nn.Module) -> bool:
    # called in every pass: only a process among others looks at all parameters
    return (
        dist.is_available()
        and dist.is_initialized()
        and any(isinstance(parameter, DTensor) for parameter in module.parameters())
    )


def gather(value: Value) -> Value:
    """Tensors anywhere inside `value`, gathered; those that were sharded, on the CPU. All processes have to call it."""
    gathered: Any = value
    if isinstance(value, DTensor):
        gathered = value.full_tensor().cpu()
    elif isinstance(value, Mapping):
        gathered = {key: gather(item) for key, item in value.items()}
    elif isinstance(value, list):
        gathered = [gather(item) for item in value]
    return gathered  # type: ignore[no-any-return]


def gathered_state(module: nn.Module, *, trained_only: bool = False) -> dict[str, Tensor]:
    """A module's state, unsharded; tensors that are one and the same stay so. All processes have to call it."""
    state = module.state_dict(keep_vars=True)
    kept = {name: tensor for name, tensor in state.items() if tensor.requires_grad or not trained_only}
    once = {id(tensor): gather(tensor.detach()) for tensor in kept.values()}
    return {name: once[id(tensor)] for name, tensor in kept.items()}


def sharded_as(like: Tensor, value: Tensor) -> Tensor:
    """`value`, the same in all processes, sharded as `like` is, where it has its shape; else itself."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or like.shape != value.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
