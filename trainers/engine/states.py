"""The files of a stage under way: its log, its states, its best weights; and what is in a module's state.

Two states are written in turn, each with a hash, so that a state cut short by a crash is recognised and the one before
it is used.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlhf_bench.errors import ModelError
from rlhf_bench.files import atomic_write_bytes, json_text, read_checked, read_jsonl, write_checked
from rlhf_bench.runtime.processes import Processes
from rlhf_bench.runtime.sharding import gathered_state, is_sharded, sharded_as
from rlhf_bench.runtime.writer import Writer


class WorkFolder:
    """The files of a stage under way. Of several processes one writes them."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self.path, self.writer = path, writer
        self.log, self.best = path / "log.jsonl", path / "best.pt"

    def make(self) -> None:
        self.writer.write_and_wait(self.path.mkdir, parents=True, exist_ok=True)

    def clear_log(self) -> None:
        self.writer.write_and_wait(self.log.unlink, missing_ok=True)

    def rows(self) -> list[dict[str, Any]]:
        return read_jsonl(self.log) if self.log.exists() else []

    def append(self, row: Mapping[str, Any]) -> None:
        """One row of the log; the other processes do not wait for it."""
        self.writer.write(self._append, json_text(row) + "\n")

    def save_best(self, module: nn.Module) -> None:
        self.writer.write_and_wait(atomic_write_bytes, self.best, _as_bytes(trained_state(module)))

    def load_best(self, module: nn.Module) -> None:
        load_trained(module, torch.load(self.best, weights_only=True))

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep `state`, and how long the log is, in place of the older of two."""
        self.writer.write_and_wait(self._save, state)

    def newest_state(self) -> dict[str, Any] | None:
        """The whole state of the latest step; None where there is none with a matching hash."""
        states = [state for path in self.path.glob("state-*.pt") if (state := _read_state(path)) is not None]
        return max(states, key=lambda state: int(state["step"]), default=None)

    def cut_log(self, state: Mapping[str, Any]) -> None:
        """Remove the rows that were logged after `state` was saved."""
        self.writer.write_and_wait(os.truncate, self.log, state["log_bytes"])

    def _append(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line)

    def _save(self, state: Mapping[str, Any]) -> None:
        slots = sorted(self.path.glob("state-*.pt"), key=lambda p: p.stat().st_mtime_ns)
        target = slots[0] if len(slots) > 1 else self.path / f"state-{len(slots)}.pt"
        write_checked(target, _as_bytes({**state, "log_bytes": self.log.stat().st_size}))


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state without what is frozen under an adapter, which is the parent's and is loaded with it.

    The tensors are whole: of a sharded module all processes have to call this.
    """
    return gathered_state(module, trained_only=not all(p.requires_grad for p in module.parameters()))


def gathered_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """What a sharded model, or its adapter, is saved with; None where its own state will do."""
    return trained_state(model) if is_sharded(model) else None


def copied_state(module: nn.Module) -> dict[str, Tensor]:
    """`trained_state` that later steps do not change, on the CPU. Of a sharded module all processes have to call it."""
    state = trained_state(module)
    once = {id(tensor): tensor.to("cpu", copy=True) for tensor in state.values()}
    return {name: once[id(tensor)] for name, tensor in state.items()}


def load_trained(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """The inverse of `trained_state`. Raises RuntimeError where the state belongs to another module."""
    frozen = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    own = module.state_dict()
    sharded = {name: sharded_as(own.get(name, tensor), tensor) for name, tensor in state.items()}
    missing, unexpected = module.load_state_dict(sharded, strict=not frozen)
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


def _as_bytes(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _read_state(path: Path) -> dict[str, Any] | None:
    data = read_checked(path)
    if data is None:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return state
