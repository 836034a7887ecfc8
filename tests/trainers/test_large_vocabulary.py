"""A vocabulary of 50,000 tokens: nothing is done for the whole of it once a token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf_bench.modeling.checkpoints import read_training
from rlhf_bench.modeling.models import new_gpt2
from rlhf_bench.types import STAGES

from .conftest import TOY, call

SIZE = 50_000


@pytest.fixture
def large(policy_folder: Path, tmp_path: Path) -> Path:
    """A GPT-2 of width 16 whose tokenizer has words that no text spells."""
    folder = tmp_path / "large"
    AutoTokenizer.from_pretrained(policy_folder).save_pretrained(folder)
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in data["added_tokens"])}
    vocabulary.update({f"unused{i}": i for i in range(SIZE) if i not in taken})
    file.write_text(json.dumps(data), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == SIZE
    new_gpt2(tokenizer, layers=1, heads=1, width=16, positions=160, seed=0).save_pretrained(folder)
    return folder


def test_every_stage_with_a_large_vocabulary(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    get_vocab = PreTrainedTokenizerFast.get_vocab

    def spy(self: Any) -> dict[str, int]:
        read.append(1)
        assert len(read) < 100, "the vocabulary is read once a token"
        vocabulary: dict[str, int] = get_vocab(self)
        return vocabulary

    monkeypatch.setattr(PreTrainedTokenizerFast, "get_vocab", spy)
    keys = [f"model={large}", "data.limit=8", "ppo.critic=reward"]
    keys += [f"{stage}.max_steps=1" for stage in ("sft", "reward", "dpo")]
    keys += [f"{stage}.{key}=1" for stage in ("ppo", "grpo") for key in ("steps",)]
    keys += [f"{stage}.{key}=2" for stage in STAGES[1:] for key in ("batch_size", "eval_size")]
    words = [word for key in keys for word in ("--set", key)]
    done = call("train", "all", "--recipe", TOY, "--run", "toy", "--checkpoints", tmp_path, *words)
    assert done.exit_code == 0, done.stderr
    assert read
    for stage in STAGES:
        assert read_training(tmp_path / "toy" / stage) is not None
        assert (tmp_path / "toy" / stage / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()
    lines = done.stderr.splitlines()
    assert [line for line in lines if "are those of gpt2-hh" in line]
    for place, stage in enumerate(STAGES, 1):
        assert any(line.startswith(f"{stage}: stage {place} of 6, ") for line in lines)
    assert sum("left for all" in line for line in lines) >= 3


def umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask
