"""Log-probabilities under the reference, computed once and kept on disk.

A file is named after everything that its numbers depend on: the reference's hash, the tokens of every pair, and how
they were computed. So a stage that is continued, and another DPO run of the same SFT model on the same pairs, read what
is there; another model, other data or another tokenisation never does.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rlhf_bench.files import json_text, read_checked, write_checked
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.types import stable_hash
from trainers.engine.batches import Pair
from trainers.engine.machine import Machine
from trainers.engine.pairs import PairTrainer, reference_logps
from trainers.engine.stage import Stage
from trainers.losses.preference import PairLogps

__all__ = ["reference_key", "under_reference"]


def under_reference(stage: Stage, trainer: PairTrainer, model: Path, pairs: Sequence[Pair]) -> PairLogps:
    """Chosen and rejected log-probabilities under `model`, which `trainer`'s policy still is, (N,) each: from the
    stage's cache, else computed and kept. Zeros for a loss without a reference.

    A file that is cut short or damaged is computed again. Without a cache folder nothing is kept.
    """
    machine, cache = stage.machine, stage.folders.cache
    if not trainer.method.needs_reference:
        return PairLogps(*torch.zeros(2, len(pairs), device=machine.device))
    if cache is None:
        return reference_logps(machine, trainer.policy, pairs, trainer.pad_id)
    path = cache / f"{reference_key(machine, model, pairs, compiled=trainer.config.compile)}.logps"
    stored = stage.writer.look(_read, path, len(pairs))
    if stored is not None:
        stage.log(f"reference log-probabilities of {len(pairs):,} pairs read from {path}")
        return PairLogps(*(torch.from_numpy(side).to(machine.device) for side in stored))
    logps = reference_logps(machine, trainer.policy, pairs, trainer.pad_id)
    stage.writer.write_and_wait(_write, path, logps)
    return logps


def reference_key(machine: Machine, model: Path, pairs: Sequence[Pair], *, compiled: bool) -> str:
    """Hash of the model, the pairs' tokens, and what decides the last bits: precision, device, version, threads."""
    tokens = hashlib.sha256()
    for pair in pairs:
        for side in pair:
            for ids in (side.prompt, side.response):
                tokens.update(np.asarray([len(ids), *ids], dtype=np.int64).tobytes())
    made_by = [machine.precision, machine.device.type, torch.__version__, torch.get_num_threads()]
    made_by += ["compiled"] if compiled else []
    return stable_hash(model_hash(model), tokens.hexdigest(), json_text(made_by))


def _write(path: Path, logps: PairLogps) -> None:
    buffer = io.BytesIO()
    np.save(buffer, torch.stack(list(logps)).cpu().numpy())
    write_checked(path, buffer.getvalue())


def _read(path: Path, rows: int) -> np.ndarray | None:
    """The (2, rows) array, or None where there is none that is whole."""
    if not path.is_file():
        return None
    data = read_checked(path)
    if data is None:
        return None
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array if array.shape == (2, rows) else None
