"""PEFT adapters: a folder with adapter_config.json is read as its base model with the adapter merged into the weights.

Merged, an adapter is a plain model to everything else, at a plain model's speed. No torch is imported to look at one.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

from rlhf_bench.errors import CheckpointError, MissingExtra, ModelError
from rlhf_bench.modeling.folders import json_entry, model_folder

CONFIG = "adapter_config.json"
LONGEST_CHAIN = 8  # adapters upon adapters; a longer chain leads back to itself


def adapter_base(path: str | Path) -> str | None:
    """The base model that an adapter's configuration names, a folder or a hub name; None if `path` is no adapter.

    A folder may be named as seen from the adapter, so that the two can be moved together (by its training.json or by
    adapter_config.json), or from the working directory. Of names on the hub nothing is known here: give an adapter's
    folder.

    Raises:
        CheckpointError: its configuration cannot be read or names no base.
        MissingExtra: peft is not installed.
    """
    path = model_folder(path)
    if not (Path(path) / CONFIG).is_file():
        return None
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("peft")
    base = _read(Path(path) / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(
            f"{Path(path) / CONFIG} names no base model; set base_model_name_or_path to its folder or hub name"
        )
    # of an adapter that was trained here adapter_config.json names the base as seen from anywhere
    recorded = json_entry(Path(path) / "training.json", "adapter", "base")
    for name in (recorded, base):
        if isinstance(name, str) and (Path(path) / name).is_dir():
            return str(Path(path) / name)
    return base


def adapter_root(path: str | Path) -> str | Path:
    """The model that is no adapter at the end of a chain of adapters; `path` itself where it is none.

    Raises CheckpointError where the chain leads back to itself, and as `adapter_base`.
    """
    root = path
    for _ in range(LONGEST_CHAIN + 1):
        base = adapter_base(root)
        if base is None:
            return root
        root = base
    raise CheckpointError(
        f"{path}: its chain of base models has more than {LONGEST_CHAIN} adapters, or leads back to itself; "
        "set base_model_name_or_path in adapter_config.json to the model that it was trained on"
    )


def is_reward_adapter(path: str | Path) -> bool:
    """True for an adapter of a sequence classifier, with a head of its own; False for a policy's, or no adapter."""
    return bool(json_entry(Path(model_folder(path)) / CONFIG, "task_type") == "SEQ_CLS")


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        raise CheckpointError(f"{file} cannot be read ({error}); restore it, or train the adapter again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} holds a {type(config).__name__}, expected a JSON object; restore it")
    return config


def merged(model: Any, path: str | Path, base: str) -> Any:
    """`model`, the base, with the adapter of folder `path` added to its weights, and with its head where it has one.

    The adapter of a policy may be added to another class with the same backbone, such as a sequence classifier.

    Raises:
        CheckpointError: the adapter belongs to a model of another shape, or its weights are missing or broken.
        ModelError: it is of a kind that has no merged form, such as prompt tuning.
    """
    from peft import PeftConfig, PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what peft and transformers have to tell each other
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # an adapter of 4 bits on the full layers
            # peft only warns where weights of the adapter are missing, and would go on with random or zero ones
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            config = PeftConfig.from_pretrained(str(path))
            config.task_type = None  # the wrapper of a task needs methods that another class does not have
            adapted: Any = PeftModel.from_pretrained(model, str(path), config=config)
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
    return adapted.merge_and_unload().requires_grad_(True)  # peft has frozen it
