"""Log-probabilities under the reference, computed once and kept on disk.

A file is named after everything that its numbers depend on: the reference's hash, the tokens of every pair, and how
they were computed. So a stage that is continued, and another DPO run of the same SFT model on the same pairs, read what
is there; another model, other data or another tokenisation never does.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from rlhf_bench.files import json_text, read_checked, write_checked
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.types import stable_hash
from trainers.batches import Pair
from trainers.preference_losses import PairLogps
from trainers.stage import Stage

__all__ = ["reference_key", "remembered"]


def reference_key(stage: Stage, model: Path, pairs: Sequence[Pair]) -> str:
    """Hash of the model, the pairs' tokens, and what decides the last bits: precision, device, version, threads."""
    tokens = hashlib.sha256()
    for pair in pairs:
        for side in pair:
            for ids in (side.prompt, side.response):
                tokens.update(np.asarray([len(ids), *ids], dtype=np.int64).tobytes())
    made_by = [stage.precision, stage.device.type, torch.__version__, torch.get_num_threads()]
    made_by += ["compiled"] if stage.recipe.dpo.compile else []
    return stable_hash(model_hash(model), tokens.hexdigest(), json_text(made_by))


def remembered(stage: Stage, model: Path, pairs: Sequence[Pair], compute: Callable[[], PairLogps]) -> PairLogps:
    """Chosen and rejected log-probabilities under `model`, (N,) each: from the stage's cache, else computed and kept.

    A file that is cut short or damaged is computed again. Without a cache folder nothing is kept.
    """
    if stage.cache is None:
        return compute()
    path = stage.cache / f"{reference_key(stage, model, pairs)}.logps"
    stored = stage.processes.first(lambda: _read(path, len(pairs)))
    if stored is not None:
        stage.progress.log(f"{stage.name}: reference log-probabilities of {len(pairs):,} pairs read from {path}")
        return PairLogps(*(torch.from_numpy(side).to(stage.device) for side in stored))
    logps = compute()
    buffer = io.BytesIO()
    np.save(buffer, torch.stack(list(logps)).cpu().numpy())
    stage.processes.first(lambda: write_checked(path, buffer.getvalue()))
    return logps


def _read(path: Path, rows: int) -> np.ndarray | None:
    """The (2, rows) array, or None where there is none that is whole."""
    if not path.is_file():
        return None
    data = read_checked(path)
    if data is None:
        return None
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array if array.shape == (2, rows) else None
