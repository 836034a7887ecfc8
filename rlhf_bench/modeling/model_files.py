"""Where a model is and what its configuration says, and what is wrong with it in one line that names the path.

A model is a folder, an adapter's folder, or a hub name that may end in @REVISION.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from rlhf_bench.errors import CheckpointError, ModelError
from rlhf_bench.hub import hub_answers, looks_like_path
from rlhf_bench.modeling.adapters import adapter_root, is_reward_adapter
from rlhf_bench.modeling.folders import model_folder

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


def check_path(path: str | Path) -> None:
    """Check that what looks like a path is there; a hub name is checked when it is loaded. Raises CheckpointError."""
    if looks_like_path(path) and not Path(path).exists():
        raise CheckpointError(_why(path, FileNotFoundError(str(path))))


def check_causal(path: str | Path) -> None:
    """Check that the configuration is a causal language model's.

    Raises ModelError if it is of another kind, such as a reward model; CheckpointError if there is none.
    """
    config = root_config(path)
    kinds = ", ".join(config.architectures or [])
    if is_reward_adapter(path) or "SequenceClassification" in kinds:
        raise ModelError(f"{path} is a reward model; expected a causal language model such as checkpoints/RUN/sft")
    if "MaskedLM" in kinds or getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{path} is no causal language model ({kinds}); expected one such as checkpoints/RUN/sft")


def check_loaded(path: str | Path, loading: dict[str, Any], new: set[str]) -> None:
    """Transformers fills weights that a file does not hold with random numbers and goes on; here that is an error."""
    missing = sorted(set(loading["missing_keys"]) - new)
    if missing:
        raise CheckpointError(
            f"{path}: its weights file lacks {len(missing)} of the model's tensors, such as {missing[0]}; it belongs "
            "to another model: restore the file or train the stage again with --force"
        )


def readable_tokens(path: str | Path) -> int:
    """How many tokens a model can read at once, from its configuration alone; a large number where it names no limit.

    Raises CheckpointError if there is none.
    """
    return int(getattr(root_config(path), "max_position_embeddings", None) or 1 << 20)


def root_config(path: str | Path) -> Any:
    """A model's configuration, an adapter's that of the model under it."""
    root = adapter_root(path)
    with of_adapter(path) if root != path else contextlib.nullcontext(), readable(root):
        return AutoConfig.from_pretrained(*pretrained_name(root), **pretrained_options(root))


def pretrained_name(path: str | Path) -> tuple[str]:
    """A folder, or a hub name without its revision: the one positional argument of `from_pretrained`."""
    return (str(model_folder(path)) if Path(path).exists() else str(path).partition("@")[0],)


def pretrained_options(path: str | Path) -> dict[str, Any]:
    """The options of `from_pretrained` that say where to look: the network or not, and the revision."""
    here = Path(path).exists()
    revision = None if here else str(path).partition("@")[2]
    return {"local_files_only": here or not hub_answers()} | ({"revision": revision} if revision else {})


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turns whatever loading raises into one line that names the path."""
    try:
        yield
    except (CheckpointError, ModelError):
        raise
    except Exception as error:
        raise CheckpointError(_why(path, error)) from error


@contextlib.contextmanager
def of_adapter(path: str | Path) -> Iterator[None]:
    """Add to an error in a base model that an adapter needs it."""
    try:
        yield
    except (CheckpointError, ModelError) as error:
        raise CheckpointError(f"{path} is an adapter and its base model cannot be used: {error}") from error


def _why(path: str | Path, error: Exception) -> str:
    if not Path(path).exists():
        if looks_like_path(path):
            return f"{path} does not exist; expected a model folder"
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        return (
            f"{path!s} is neither a folder nor a model that the hub or its cache gives{offline}; "
            "download it where there is a network and give the folder's path instead"
        )
    if Path(path).is_file():
        return f"{path} is a file; expected a Hugging Face model folder"
    if not (Path(path) / "config.json").exists():
        return f"{path} has no config.json; expected a Hugging Face model folder"
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if first.rstrip().endswith(":"):  # what it announces is on the lines below
        first = " ".join(str(error).split())
    if isinstance(error, json.JSONDecodeError):
        first = f"a broken JSON file ({first})"
    return f"{path} cannot be loaded: {first[:200].rstrip('.: ')}; train or download it again"
