"""Reading and writing checkpoints: plain Hugging Face folders plus `training.json`.

A checkpoint is written beside its place, flushed to disk and renamed, so a folder that exists is complete. Its hash
covers weights, configuration and tokenizer; a checkpoint records its parents' hashes, so that a changed parent is seen.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_bench.errors import BadValue, CheckpointError, StaleParent, UnknownName
from rlhf_bench.files import sha256_file, use_umask
from rlhf_bench.hub import looks_like_path
from rlhf_bench.modeling.adapters import adapter_base, adapter_root
from rlhf_bench.modeling.folders import model_folder, safetensors_header, weight_files
from rlhf_bench.types import STAGES, stable_hash

TRAINING_FILE = "training.json"
HASHED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model",
    "adapter_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """One stage's folder and what its training.json says."""

    path: Path
    stage: str
    seed: int
    hash: str
    training: dict[str, Any]


def checkpoint_hash(path: Path) -> str:
    """Hex hash of weights, configuration and tokenizer of a model folder.

    Raises:
        CheckpointError: the folder holds no weights, or a safetensors file is cut short or of another kind.
    """
    path = Path(model_folder(path))
    weights = weight_files(path)
    if not weights:
        raise CheckpointError(f"{path} holds no weights (*.safetensors); expected a model folder")
    digest = hashlib.sha256()
    for file in [*weights, *(path / name for name in HASHED)]:
        if file.exists():
            stat = file.stat()
            if file.suffix == ".safetensors":
                _check_safetensors(file)
            digest.update(f"{file.name}:{_cached_sha256(file, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


def model_hash(path: str | Path) -> str:
    """`checkpoint_hash` of a folder, an adapter's with that of its base; a hub name is its own hash.

    Raises:
        CheckpointError: as `checkpoint_hash`; an adapter's base is missing.
        StaleParent: an adapter's base is not the one that it was trained on, as its training.json says.
    """
    folder = Path(model_folder(path))
    if not folder.is_dir():
        return str(path)
    adapter_root(folder)  # an end there is, or the hash would have none
    own, base = checkpoint_hash(folder), adapter_base(folder)
    if base is None:
        return own
    now, trained_on = model_hash(base), ((read_training(folder) or {}).get("adapter") or {}).get("base_hash")
    # a hub name's hash is the name: another one on record is a folder's
    if not Path(base).is_dir() and (looks_like_path(base) or trained_on not in (None, now)):
        raise CheckpointError(
            f"{path} is an adapter and its base model cannot be used: {base} does not exist, as seen from it or from "
            "here; restore that folder, or set base_model_name_or_path in adapter_config.json to where it is"
        )
    if trained_on not in (None, now):
        raise StaleParent(
            f"{path} is an adapter of {base} {trained_on}, which is now {now}; restore that model or train the adapter "
            "again"
        )
    return stable_hash(own, now)


@functools.lru_cache(maxsize=256)
def _cached_sha256(file: Path, size: int, mtime_ns: int) -> str:
    return sha256_file(file)


def _check_safetensors(file: Path) -> None:
    """The data that the header describes are there, and nothing after them."""
    size, (start, tensors) = file.stat().st_size, safetensors_header(file)
    expected = start + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    if size != expected:
        raise CheckpointError(
            f"{file} is damaged: {size} bytes, its header describes {expected}; train the stage again with --force or "
            "restore the file"
        )


def stage_path(run: Path, stage: str, seed: int | None) -> Path:
    """checkpoints/<run>/<stage>, or checkpoints/<run>/seed-<n>/<stage> in a run of several seeds."""
    return run / stage if seed is None else run / f"seed-{seed}" / stage


def run_seeds(run: Path) -> list[int | None]:
    """The seeds of a run: [None] for a run of one seed, else the numbers of its seed-<n> folders."""
    seeds = sorted(int(p.name[5:]) for p in run.glob("seed-*") if p.is_dir() and p.name[5:].isdigit())
    return list(seeds) or [None]


def check_run(run: str) -> None:
    """Check that a run's name is a plain folder's: nothing is read or written outside its root. Raises BadValue.

    `=` and `+` are in the names of a sweep's runs, as in default.dpo.beta=0.1.
    """
    if not re.fullmatch(r"\w[\w.+=-]{0,199}", run):
        raise BadValue(
            f"run: given {run!r}, expected a plain folder name of at most 200 letters, digits and . _ - + =, the "
            "first a letter or digit, such as mine; the folder that holds it is given with --checkpoints"
        )


def find_run(root: Path, run: str) -> Path:
    """<root>/<run>. Raises BadValue where that is no name, UnknownName where there is no such folder; it names the
    command that makes it."""
    check_run(run)
    if not (root / run).is_dir():
        advice = f"make it with: rlhf-bench train all{_named(run)}"
        raise UnknownName("run", run, [path.name for path in find_runs(root)], advice=advice)
    return root / run


def find_runs(root: Path) -> list[Path]:
    """Folders under `root` that hold a stage or a seed."""
    if not root.is_dir():
        return []
    return sorted(
        p for p in root.iterdir()
        if p.is_dir() and (run_seeds(p) != [None] or any((p / stage / TRAINING_FILE).exists() for stage in STAGES))
    )  # fmt: skip


def read_training(path: Path) -> dict[str, Any] | None:
    """training.json of a checkpoint folder; None where there is none."""
    file = path / TRAINING_FILE
    if not file.exists():
        return None
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); train the stage again with --force") from error
    return data


def prompt_form(path: str | Path) -> str:
    """The template of the prompts that a model was trained on, as its training.json says; without one the tokenizer's
    own chat template, where it has one, else hh."""
    from rlhf_bench.modeling.tokenizers import has_chat_template  # transformers, which texts alone do not need

    training = read_training(Path(path))
    if training is not None:
        return str(training.get("prompt_form", "hh"))
    return "chat" if has_chat_template(path) else "hh"


def open_checkpoint(path: Path) -> Checkpoint:
    """A finished stage of ours, checked: it is there, its weights are whole, its parents are what it was trained on.

    Raises:
        CheckpointError: missing or damaged; the message names the command that makes it.
        StaleParent: a parent was trained again since.
    """
    training = read_training(path)
    if training is None:
        raise CheckpointError(f"{path} does not exist; make it with: rlhf-bench train {path.name}{_run_option(path)}")
    actual = checkpoint_hash(path)
    if training.get("hash") not in (None, actual):
        raise CheckpointError(
            f"{path}: its files hash to {actual}, its training.json says {training['hash']}; it was changed after "
            f"training: make it again with: rlhf-bench train {path.name}{_run_option(path)} --force"
        )
    for name, parent in (training.get("parents") or {}).items():
        # a parent that is recorded but gone (moved to save space) cannot contradict anything
        folder = path.parent / name
        if folder.is_dir() and (now := checkpoint_hash(folder)) != parent["hash"]:
            raise StaleParent(
                f"{path} was trained from {name} {parent['hash']}, but {folder} is now {now}; "
                f"train it again with: rlhf-bench train {path.name}{_run_option(path)} --force"
            )
    return Checkpoint(path, str(training.get("stage", path.name)), int(training.get("seed", 0)), actual, training)


def _run_option(path: Path) -> str:
    run = path.parent.parent if path.parent.name.startswith("seed-") else path.parent
    return _named(run.name)


def _named(run: str) -> str:
    return f" --run {run}" if run != "default" else ""


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target` that takes its place, flushed to disk, when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        for file in fresh.rglob("*"):
            if file.is_file():
                use_umask(file)  # safetensors writes files that only their owner can read
        fsync_tree(fresh)
        old = target.with_name(f".{target.name}.old-{os.getpid()}")
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def fsync_tree(folder: Path) -> None:
    """Flush every file of a folder, and the folder, to disk."""
    paths: Sequence[Path] = [p for p in folder.rglob("*") if p.is_file()]
    for path in [*paths, folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
