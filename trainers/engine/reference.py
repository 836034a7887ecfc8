"""Log-probabilities under the reference of the pairs that training uses, computed once and kept on disk as they come.

A file is named after everything that its numbers depend on: the reference's hash, the tokens of every pair, and how
they were computed. So a stage that is continued, and another DPO run of the same SFT model on the same pairs, read what
is there; another model, other data or another tokenisation never does.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlhf_bench.files import json_text, read_checked, write_checked
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.modeling.tokens import length_batches
from rlhf_bench.types import stable_hash
from trainers.engine.batches import Order, Pair, pair_lengths
from trainers.engine.machine import Machine
from trainers.engine.pairs import FORWARD_PAIRS, PairTrainer, pair_logps
from trainers.engine.stage import Stage
from trainers.losses.preference import PairLogps

AT_A_TIME = 4  # groups a worker, between two looks at the clock


def reference_of_steps(
    stage: Stage, trainer: PairTrainer, model: Path, pairs: Sequence[Pair], order: Order, steps: int
) -> PairLogps:
    """`under_reference` of the pairs that the stage's steps use, (N,) each; NaN for the others."""
    used = sorted({i for step in range(steps) for i in order[step]})
    logps = under_reference(stage, trainer, model, [pairs[i] for i in used])
    out = torch.full((2, len(pairs)), float("nan"), device=stage.machine.device, dtype=logps.chosen.dtype)
    out[:, used] = torch.stack(list(logps))
    return PairLogps(*out)


def under_reference(stage: Stage, trainer: PairTrainer, model: Path, pairs: Sequence[Pair]) -> PairLogps:
    """Chosen and rejected log-probabilities under `model`, which `trainer`'s policy still is, (N,) each, in
    training's precision. Zeros for a loss without a reference.

    The stage's cache keeps them as they come; what is there is not computed again, unless its file is cut short or
    damaged. Without a cache folder nothing is kept.
    """
    machine, cache = stage.machine, stage.folders.cache
    out = torch.zeros(2, len(pairs), device=machine.device)
    if not trainer.method.needs_reference:
        return PairLogps(*out)
    path = (
        None
        if cache is None
        else cache / f"{reference_key(machine, model, pairs, compiled=trainer.config.compile)}.logps"
    )
    stored = None if path is None else stage.writer.look(_read, path, len(pairs))
    out = out.fill_(float("nan")) if stored is None else torch.from_numpy(stored).to(machine.device)
    groups = list(length_batches(pair_lengths(pairs), FORWARD_PAIRS))
    missing = [group for group in groups if bool(out[0, group].isnan().any())]
    if not missing:
        stage.log(f"reference log-probabilities of {len(pairs):,} pairs read from {path}")
        return PairLogps(*out)
    forward = partial(group_logps, trainer, pairs)
    at_a_time, kept = AT_A_TIME * machine.pool.workers, time.monotonic()
    with stage.reporting.progress.task(
        f"{stage.name}, reference", total=len(pairs), start=len(pairs) - sum(map(len, missing))
    ) as task:
        for begin in range(0, len(missing), at_a_time):
            some = missing[begin : begin + at_a_time]
            machine.pool.fill(out, forward, some)
            task.advance(sum(map(len, some)))
            if path is not None and time.monotonic() - kept >= stage.recipe.save_seconds:
                stage.writer.write(_write, path, out)
                kept = time.monotonic()
    if path is not None:
        stage.writer.write_and_wait(_write, path, out)
    return PairLogps(*out)


def group_logps(trainer: PairTrainer, pairs: Sequence[Pair], group: Sequence[int]) -> Tensor:
    """(2, b) of the pairs `group`."""
    with torch.no_grad(), trainer.machine.autocast():
        return torch.stack(pair_logps(trainer.policy, [pairs[i] for i in group], trainer.pad_id))


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


def _write(path: Path, logps: Tensor) -> None:
    buffer = io.BytesIO()
    np.save(buffer, logps.cpu().numpy())
    write_checked(path, buffer.getvalue())


def _read(path: Path, rows: int) -> np.ndarray | None:
    """The (2, rows) array, NaN where a pair is still to be computed; None where there is none that is whole."""
    if not path.is_file():
        return None
    data = read_checked(path)
    if data is None:
        return None
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array if array.shape == (2, rows) else None
