"""Opening what somebody names, before anything is computed with it: what cannot be used is refused at once.

A model that was trained here was checked when it was made. One from elsewhere is loaded once, so that its logits or
rewards are compared with transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.model_files import check_causal, check_openable
from rlhf_bench.modeling.models import load_policy, load_tokenizer
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.templates import Template

__all__ = ["open_policy", "open_reward_model"]

Log = Callable[[str], None]


def open_policy(name: str, path: str | Path, template: str, log: Log) -> dict[str, Any]:
    """Check the causal language model at `path`, and return what a manifest records of the form of its prompts.

    Raises CheckpointError and ModelError, as loading and using it would.
    """
    check_openable(path, log)
    check_causal(path)
    form = Template.of(template, load_tokenizer(path), name=name).describe()
    if read_training(Path(path)) is None:
        load_policy(path)
        front = f", {' '.join(form['front'])} in front" if form["front"] else ""
        log(f"{name}: prompts in the form {template}{front}; --prompt-template {name}=... sets another")
    return form


def open_reward_model(name: str, path: str | Path, template: str | None, log: Log) -> str:
    """Check the reward model at `path`, and return the form that it reads; `template` is one that the user gives.

    Raises CheckpointError and ModelError, as loading and using it would.
    """
    check_openable(path, log)
    form = RewardModel.load(path, template=template).form.name
    if read_training(Path(path)) is None:
        log(f"{name}: responses are scored in the form {form}; --prompt-template {name}=... sets another")
    return form
