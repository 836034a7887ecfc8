"""Checkpoints as small as they can be, with random weights, in the project's layout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_bench.data import mini
from rlhf_bench.files import atomic_write_text, json_text, write_jsonl
from rlhf_bench.modeling.checkpoints import checkpoint_hash
from rlhf_bench.modeling.models import new_gpt2, to_reward_model
from rlhf_bench.modeling.tokenizers import train_tokenizer
from rlhf_bench.progress import Progress


def scale_matrices(model: torch.nn.Module, factor: float) -> None:
    """At random weights all tokens are nearly alike; the larger the matrices, the further from it."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(factor)


@cache
def tokenizer_of_mini() -> PreTrainedTokenizerBase:
    """Byte-level BPE of 500 tokens; "happy" is one of them."""
    texts = [pair.prompt + pair.chosen for pair in mini.generate("train", n=200)] + [" happy happening happily"] * 50
    return train_tokenizer(texts, vocab_size=500)


def save_policy(path: Path, *, seed: int = 0, positions: int = 512) -> Path:
    """A GPT-2 of 2 layers and width 32, its matrices scaled up."""
    tokenizer = tokenizer_of_mini()
    model = new_gpt2(tokenizer, layers=2, heads=2, width=32, positions=positions, seed=seed)
    scale_matrices(model, 4.0)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_reward(path: Path, parent: Path, *, seed: int = 0, labels: int = 1) -> Path:
    """The parent's backbone under a random head."""
    model, tokenizer = to_reward_model(parent, seed=seed)
    if labels != 1:
        model.config.num_labels = labels
        model.score = torch.nn.Linear(model.config.n_embd, labels, bias=False)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def save_elsewhere(folder: Path) -> Path:
    """What somebody without a run has: models a and b of one tokenizer, a reward model `judge`, and pairs.jsonl."""
    save_policy(folder / "a", positions=160)
    save_policy(folder / "b", seed=1, positions=160)
    save_reward(folder / "judge", folder / "a", seed=1)
    pairs = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in mini.generate("test", n=60))
    write_jsonl(folder / "pairs.jsonl", pairs)
    return folder


def write_training(path: Path, *, seed: int = 0, parents: Mapping[str, Path] = {}, **more: Any) -> Path:
    """training.json, so that the folder is a finished stage."""
    training = {
        "stage": path.name,
        "seed": seed,
        "hash": checkpoint_hash(path),
        "config": {"data": {"max_prompt_tokens": 192, "max_response_tokens": 96}},
        "parents": {name: {"hash": checkpoint_hash(folder)} for name, folder in parents.items()},
        "data": {"source": "hh-mini", "seed": 0},
        **more,
    }
    atomic_write_text(path / "training.json", json_text(training))
    return path


def save_run(folder: Path, *, seed: int = 0, **more: Any) -> Path:
    """<folder>/sft and <folder>/reward."""
    sft = write_training(save_policy(folder / "sft", seed=seed), seed=seed, **more)
    write_training(save_reward(folder / "reward", sft, seed=seed), seed=seed, parents={"sft": sft}, **more)
    return folder


class Log(Progress):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)
