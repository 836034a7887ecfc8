"""Opening what somebody names, before anything is computed with it: what cannot be used is refused at once.

A model that was trained here was checked when it was made. One from elsewhere is loaded once, so that its logits or
rewards are compared with transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlhf_bench.errors import CheckpointError
from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.folders import folder_notes, model_folder, weight_files
from rlhf_bench.modeling.model_files import check_causal, check_path, root_config
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokenizers import load_tokenizer
from rlhf_bench.types import PAIR

Log = Callable[[str], None]


def check_openable(path: str | Path, log: Log) -> None:
    """Check that what is named can be loaded, and `log` what is worth knowing of it.

    It is checked by its configuration, its tokenizer and the headers of its weights; nothing else is loaded.
    Raises CheckpointError and ModelError, as loading the model would.
    """
    check_path(path)
    root_config(path)
    load_tokenizer(path)
    folder = Path(model_folder(path))
    if folder.is_dir() and not weight_files(folder):
        raise CheckpointError(f"{path} holds no weights (*.safetensors); expected a model folder")
    for note in folder_notes(path):
        log(note)


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
