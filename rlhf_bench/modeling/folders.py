"""Model folders as other tools leave them. No torch is imported to look at one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rlhf_bench.errors import CheckpointError

_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt",
)  # fmt: skip
_WRAPPED = re.compile(r"(^|\.)_orig_mod\.|^module\.")  # by torch.compile, by DataParallel


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's or adapter's weights; a trainer's own states and arguments are none."""
    pickled = [*folder.glob("pytorch_model*.bin"), *folder.glob("adapter_model*.bin")]
    return sorted([*folder.glob("*.safetensors"), *pickled])


def model_folder(path: str | Path) -> str | Path:
    """The folder with the weights: `path`, or of a trainer's output folder without any its newest `checkpoint-N`."""
    folder = Path(path)
    if not folder.is_dir() or weight_files(folder):
        return path
    steps = {
        int(found[1]): child
        for child in folder.iterdir()
        if (found := re.fullmatch(r"checkpoint-(\d+)", child.name)) and weight_files(child)
    }
    return steps[max(steps)] if steps else path


def folder_notes(path: str | Path) -> list[str]:
    """What somebody who names this folder should know of it, a line each, to be logged."""
    folder, notes = Path(model_folder(path)), []
    if str(folder) != str(Path(path)):
        notes.append(f"{path} holds no weights; its newest checkpoint is used: {folder.name}")
    files = weight_files(folder) if folder.is_dir() else []
    if files and all(file.suffix == ".bin" for file in files):
        notes.append(
            f"warning: {files[0]} is a pickle file, which can hold code (it is read without running any); "
            "save the model as safetensors"
        )
    if wrapped_names(folder):
        notes.append(f"{folder}: the prefixes _orig_mod. and module. of its weights' names are left out")
    return notes


def wrapped_names(folder: str | Path) -> bool:
    """True if the names of the weights carry the prefixes of torch.compile or DataParallel."""
    return any(_WRAPPED.search(name) for name in stored_shapes(folder))


def stored_shapes(path: str | Path) -> dict[str, list[int]]:
    """The shape of each tensor in a folder's safetensors files, by its name; nothing is loaded.

    Raises CheckpointError where a header cannot be read.
    """
    folder = Path(path)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return {name: tensor["shape"] for file in files for name, tensor in safetensors_header(file)[1].items()}


def safetensors_header(file: Path) -> tuple[int, dict[str, Any]]:
    """Where the data of a safetensors file begins, after 8 bytes of length and a JSON header, and each tensor's entry
    in the header: shape and data_offsets. Raises CheckpointError where it cannot be read."""
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if not 0 < size < file.stat().st_size:
                raise ValueError
            header = json.loads(handle.read(size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if not all(len(entry["data_offsets"]) == 2 and "shape" in entry for entry in tensors.values()):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{file} is no safetensors file (its header cannot be read); save the model again, or train the stage "
            "again with --force or restore the file"
        ) from None
    return 8 + size, tensors


def json_entry(file: Path, *keys: str) -> Any:
    """What a JSON file has under these keys, one inside the other; None where it cannot be read or lacks one."""
    try:
        found = json.loads(file.read_bytes())
        for key in keys:
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def has_tokenizer(path: str | Path) -> bool:
    """True if a folder brings a tokenizer."""
    return any((Path(model_folder(path)) / name).is_file() for name in _TOKENIZER_FILES)
