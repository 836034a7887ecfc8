"""Opening what somebody names, before anything is computed with it: what cannot be used is refused at once.

A model that was trained here was checked when it was made. One from elsewhere is loaded once, so that its logits or
rewards are compared with transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.model_files import check_causal, check_openable
from rlhf_bench.modeling.models import load_policy, load_tokenizer
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.templates import Template
from rlhf_bench.types import PAIR

__all__ = ["open_policy", "open_reward_model"]

Log = Callable[[str], None]


def open_policy(name: str, path: str | Path, template: str, log: Log, *, prompts: Sequence[str] = ()) -> dict[str, Any]:
    """Check the causal language model at `path`, and return what a manifest records of the form of its prompts.

    Its template has to write each of `prompts`. Raises CheckpointError and ModelError, as loading and using it would.
    """
    check_openable(path, log)
    check_causal(path)
    written = Template.of(template, load_tokenizer(path), name=name)
    form = written.describe()
    _write_all(written, prompts)
    if read_training(Path(path)) is None:
        load_policy(path)
        front = f", {' '.join(form['front'])} in front" if form["front"] else ""
        log(f"{name}: prompts in the form {template}{front}; --prompt-template {name}=... sets another")
    return form


def open_reward_model(
    name: str, path: str | Path, template: str | None, log: Log, *, prompts: Sequence[str] = ()
) -> RewardModel:
    """The reward model at `path`, checked; `template` is one that the user gives, and has to write each of `prompts`.

    Raises CheckpointError and ModelError, as loading and using it would.
    """
    check_openable(path, log)
    model = RewardModel.load(path, template=template)
    if model.form.name != PAIR:
        _write_all(Template.of(model.form.name, model.tokenizer, name=name), prompts)
    if read_training(Path(path)) is None:
        log(f"{name}: responses are scored in the form {model.form.name}; --prompt-template {name}=... sets another")
    return model


def _write_all(template: Template, prompts: Sequence[str]) -> None:
    """Raises ModelError for a prompt that a chat template refuses."""
    for prompt in prompts if template.name == "chat" else ():
        template.prompt(prompt)
