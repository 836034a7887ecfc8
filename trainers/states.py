"""States of a stage under way: what is in one of a module, and where it is kept.

Two slots are written in turn, each with a hash, so that a state cut short by a crash is recognised and the one before
it used.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlhf_bench.errors import ModelError
from rlhf_bench.files import read_checked, write_checked
from rlhf_bench.runtime.processes import Processes
from rlhf_bench.runtime.sharding import divided_as, gathered_state, is_divided

__all__ = [
    "check_same_weights",
    "copied_state",
    "fingerprint",
    "gathered_weights",
    "load_trained",
    "newest_state",
    "trained_state",
    "write_state",
]


def write_state(work: Path, state: Mapping[str, Any]) -> None:
    """Keep `state` in the folder in place of the oldest of two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    slots = sorted(work.glob("state-*.pt"), key=lambda p: p.stat().st_mtime_ns)
    target = slots[0] if len(slots) > 1 else work / f"state-{len(slots)}.pt"
    write_checked(target, buffer.getvalue())


def newest_state(work: Path) -> dict[str, Any] | None:
    """The whole state of the latest step; None where there is none whose hash fits."""
    states = [state for path in work.glob("state-*.pt") if (state := _read_state(path)) is not None]
    return max(states, key=lambda state: int(state["step"]), default=None)


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state without what is frozen under an adapter, which is the parent's and is loaded with it. Whole: of
    a divided module all processes have to ask."""
    return gathered_state(module, trained_only=not all(p.requires_grad for p in module.parameters()))


def gathered_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """What a divided model, or its adapter, is saved with; None: its own state will do."""
    return trained_state(model) if is_divided(model) else None


def copied_state(module: nn.Module) -> dict[str, Tensor]:
    """`trained_state` that later steps do not change, on the CPU. Of a divided module all processes have to ask."""
    state = trained_state(module)
    once = {id(tensor): tensor.to("cpu", copy=True) for tensor in state.values()}
    return {name: once[id(tensor)] for name, tensor in state.items()}


def load_trained(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """The inverse of `trained_state`. Raises RuntimeError where the state is another module's."""
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    own = module.state_dict()
    divided = {name: divided_as(own.get(name, tensor), tensor) for name, tensor in state.items()}
    missing, unexpected = module.load_state_dict(divided, strict=not frozen)
    if unexpected or (frozen and not set(missing).isdisjoint(trained_state(module))):
        raise RuntimeError(f"a saved state does not fit the model: {[*missing, *unexpected][:3]}")


def check_same_weights(processes: Processes, modules: Mapping[str, nn.Module], *, where: str) -> None:
    """Raises ModelError where processes hold different weights: a process that trains another model is no help."""
    if processes.size == 1:
        return
    marks = processes.gather((where, fingerprint(modules)))
    other = next((rank for rank, mark in enumerate(marks) if mark != marks[0]), None)
    if other is not None:
        raise ModelError(
            f"{where}: processes 0 and {other} hold different weights; expected the same: start them on machines that "
            "are alike, with the same versions and one shared folder"
        )


def fingerprint(modules: Mapping[str, nn.Module]) -> str:
    """Hash of every weight's bits that this process holds whole."""
    digest = hashlib.blake2b()
    for module in modules.values():
        for tensor in module.state_dict().values():
            if isinstance(tensor, DTensor):
                continue
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_state(path: Path) -> dict[str, Any] | None:
    data = read_checked(path)
    if data is None:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return state
