"""PEFT adapters: a folder with adapter_config.json stands for its base model with the adapter merged into the weights.

Merged, an adapter is a plain model to everything else, at a plain model's speed. No torch is imported to look at one.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

from rlhf_bench.errors import CheckpointError, MissingExtra, ModelError

__all__ = ["adapter_base", "has_tokenizer", "merged"]

CONFIG = "adapter_config.json"


def adapter_base(path: str | Path) -> str | None:
    """The base model that an adapter's configuration names, a folder or a hub name; None if `path` is no adapter.

    A folder may be named as seen from the working directory or from the adapter. Of names on the hub nothing is known
    here: give an adapter's folder.

    Raises:
        CheckpointError: its configuration cannot be read or names no base.
        MissingExtra: peft is not installed.
    """
    file = Path(path) / CONFIG
    if not file.is_file():
        return None
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("peft", "peft")
    try:
        base = json.loads(file.read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{file} names no base model; set base_model_name_or_path to its folder or hub name")
    beside = Path(path) / base
    return str(beside) if not Path(base).exists() and beside.is_dir() else base


def has_tokenizer(path: str | Path) -> bool:
    """True if an adapter's folder brings a tokenizer; else the base's is used."""
    return any((Path(path) / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def merged(model: Any, path: str | Path, base: str) -> Any:
    """`model`, the base, with the adapter of folder `path` added to its weights.

    Raises:
        CheckpointError: the adapter belongs to a model of another shape, or its weights are missing or broken.
        ModelError: it is of a kind that has no merged form, such as prompt tuning.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what peft and transformers have to tell each other
            # peft only warns where weights of the adapter are missing, and would go on with random or zero ones
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            adapted: Any = PeftModel.from_pretrained(model, str(path))
    except Exception as error:  # RuntimeError, ValueError, safetensors' own: whatever does not fit
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        why = next((line for line in lines if "size mismatch" in line), lines[0])
        raise CheckpointError(
            f"{path}: the adapter does not fit its base model {base} ({why[:200]}); "
            "give the base that it was trained on"
        ) from error
    if not hasattr(adapted, "merge_and_unload"):
        kind = next(iter(adapted.peft_config.values())).peft_type.value
        raise ModelError(
            f"{path} is an adapter of kind {kind}, which cannot be merged into its base; expected such as LoRA"
        )
    return adapted.merge_and_unload()
