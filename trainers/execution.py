"""Under what conditions a stage's trainer runs: its workers, deterministic kernels, compiled code."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlhf_bench.runtime.pool import Pool, worker_pool
from trainers.compiling import compiling
from trainers.recipe import NewModel
from trainers.stage import Stage, StageResult

__all__ = ["run_trainer"]


def run_trainer(stage: Stage) -> StageResult:
    """What trainers/<stage>.py makes of the stage. Raises ModelError where it cannot be compiled, as asked for."""
    trainer = importlib.import_module(f"trainers.{stage.name}")
    with _deterministic(), _workers(stage) as stage.pool:
        result: StageResult = trainer.train(stage)
    return result


@contextmanager
def _workers(stage: Stage) -> Iterator[Pool]:
    """Threads for a small model's batches; compiled code and divided models take one batch at a time, on all cores."""
    if stage.fsdp:
        yield Pool(None, 1, stage.processes, divides=True)
        return
    if not getattr(stage.recipe, stage.name).compile:
        with worker_pool(_parameters(stage), stage.device, stage.processes) as pool:
            yield pool
        return
    with compiling(stage.name):
        yield Pool(None, 1, stage.processes)


def _parameters(stage: Stage) -> int:
    """About how many parameters the stage's model has, from the recipe or its parent's weights (fp32)."""
    spec = stage.recipe.model
    if isinstance(spec, NewModel):
        return 12 * spec.n_layer * spec.n_embd**2 + (spec.vocab_size + spec.n_positions) * spec.n_embd
    return sum(file.stat().st_size for file in stage.parent("base").glob("*.safetensors")) // 4


@contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic kernels on a CPU, where they cost little; put back afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
        # every buffer here is written before it is read
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
