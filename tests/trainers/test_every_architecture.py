"""Each architecture, as a model of random weights with a tokenizer of its own: every stage, an adapter, sampling, KL,
an interruption, plain transformers, selftest. docs/training.md has the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_bench.data import mini
from rlhf_bench.errors import Interrupted
from rlhf_bench.files import read_jsonl, write_jsonl
from rlhf_bench.types import STAGES
from trainers.engine.loop import Loop

from ..rlhf_bench.modeling.architectures import tiny_model
from ..rlhf_bench.modeling.chat import CHATML, LLAMA3, make_tokenizer
from .conftest import call

KINDS = ("gpt2", "llama", "qwen2", "mistral", "gemma", "gpt_neox")
END_OF_TURN = 4  # <|im_end|>, beside </s>
SETTINGS = (
    "precision=fp32", "data.prompt_template=chat", "data.max_prompt_tokens=48", "data.max_response_tokens=10",
    "sft.max_steps=2", "reward.max_steps=1", "reward.eval_size=4", "dpo.max_steps=1", "dpo.lora.r=2", "ppo.steps=1",
    "ppo.batch_size=4", "ppo.eval_size=2", "grpo.steps=1", "grpo.batch_size=2", "grpo.num_generations=2",
    "grpo.eval_size=2", "save_seconds=0",
)  # fmt: skip


def save(kind: str, folder: Path) -> Path:
    """Some begin with <s>, and all end a turn with a token that is not the tokenizer's end-of-text."""
    begins = kind in ("llama", "gemma")
    tokenizer = make_tokenizer(bos=begins, template=LLAMA3 if begins else CHATML)
    model = tiny_model(kind, vocab_size=len(tokenizer) + 8)  # some tokenizers add tokens when they are loaded
    model.generation_config.eos_token_id = [2, END_OF_TURN]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(root: Path, model: Path, *stages: str) -> Result:
    data = root.parent / "pairs.jsonl"
    if not data.exists():
        write_jsonl(data, [{"prompt": f"{p.prompt}", "chosen": p.chosen, "rejected": p.rejected}
                           for p in mini.generate("train", n=40)])  # fmt: skip
    sets = [f"model={model}", f"data.source={data}", *SETTINGS]
    if not {"ppo", "grpo", "dpo"} & {*stages} and "all" not in stages:
        sets = [text for text in sets if text.partition(".")[0] not in ("ppo", "grpo", "dpo", "reward")]
    return call("train", *stages, *(word for text in sets for word in ("--set", text)), "--checkpoints", root)


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    "kind", [kind if kind in ("llama", "gpt_neox") else pytest.param(kind, marks=pytest.mark.kills) for kind in KINDS]
)
def test_every_stage_of_an_architecture(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, root = save(kind, tmp_path / "model"), tmp_path / "c"
    done = train(root, model, "all")
    assert done.exit_code == 0, done.output
    run = root / "default"
    assert {stage for stage in STAGES if (run / stage / "training.json").exists()} == {*STAGES}
    assert (run / "dpo" / "adapter_config.json").exists()

    evaluated = call(
        "eval", "--run", "default", "--checkpoints", root, "--results", tmp_path / "r", "--limit", "3", "--set",
        "max_new_tokens=6", "--set", "resamples=100",
    )  # fmt: skip
    assert evaluated.exit_code == 0, evaluated.output
    (result,) = (tmp_path / "r" / "hh-test").iterdir()
    models = json.loads((result / "metrics.json").read_text("utf-8"))["models"]
    kl = {name: numbers["kl_exact"]["value"] for name, numbers in models.items() if "kl_exact" in numbers}
    assert set(kl) == {"base", "sft", "ppo", "grpo", "dpo"}
    assert kl["sft"] == 0 < kl["base"]
    assert all(value > -1e-6 for value in kl.values())  # one step may have had no advantage to learn from
    assert {row["finish_reason"] for row in read_jsonl(result / "responses.jsonl")} <= {"eos", "length"}

    plain = AutoModelForCausalLM.from_pretrained(run / "grpo").eval()
    assert END_OF_TURN in plain.generation_config.eos_token_id
    tokenizer = AutoTokenizer.from_pretrained(run / "grpo")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        assert plain(**ids).logits.isfinite().all()
    checked = call("selftest", "--run", "default", "--checkpoints", root)
    assert checked.exit_code == 0, checked.output

    # a stage that is stopped after its first step ends with the same weights
    end = Loop.end_row

    def stopped(self: Loop) -> object:
        alarms = end(self)
        if self.step == 1:
            self.save()
            raise Interrupted("stopped by the test")
        return alarms

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "end_row", stopped)
        assert train(tmp_path / "again", model, "sft").exit_code != 0
    assert train(tmp_path / "again", model, "sft").exit_code == 0
    whole, continued = (load_file(folder / "sft" / "model.safetensors") for folder in (run, tmp_path / "again/default"))
    assert all(torch.equal(weight, continued[name]) for name, weight in whole.items())
