"""Making and loading models, and that plain transformers reads what is saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import BenchError, CheckpointError, ModelError
from rlhf_bench.modeling import model_files
from rlhf_bench.modeling.checkpoints import open_checkpoint
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import PAD, autocast, load_policy, load_reward_model, new_gpt2, seeded, to_reward_model
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.tokenizers import load_tokenizer, train_tokenizer
from rlhf_bench.modeling.tokens import collate, encode

from ...plain import PlainPython

PROMPTS = ["\n\nHuman: Blue?\n\nAssistant:", "\n\nHuman: Are you happy?\n\nAssistant:", "a", ""]
RESPONSES = [" Blue.", " I am happy to help. Put it in boiling water.", "", " b"]


# tokenizer


def test_tokenizer_of_our_own() -> None:
    tokenizer = train_tokenizer(["hello hello hello"] * 5, vocab_size=260)
    assert len(tokenizer) == 260
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (0, 0, 0)
    for text in ("hello", " Grüße, 東京!\n\n\ttabs ,  and spaces .", "\u2028 \U0001f600", "<|endoftext"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_tokenizer_is_loaded_as_it_was_saved(tokenizer: PreTrainedTokenizerBase, policy_folder: Path) -> None:
    assert load_tokenizer(policy_folder).get_vocab() == tokenizer.get_vocab()


# random weights


def test_new_model_depends_on_its_seed_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = new_gpt2(tokenizer, layers=1, heads=2, width=16, positions=32, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights(0)
    torch.manual_seed(999)
    state = torch.get_rng_state()
    assert torch.equal(weights(0), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(weights(1), first)


def test_seeded_puts_the_generator_back_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(3):
        torch.rand(5).reshape(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_reward_head_depends_on_its_seed_alone(policy_folder: Path) -> None:
    torch.manual_seed(1)
    first = to_reward_model(policy_folder, seed=0)[0].score.weight
    torch.manual_seed(999)
    assert torch.equal(to_reward_model(policy_folder, seed=0)[0].score.weight, first)
    assert not torch.equal(to_reward_model(policy_folder, seed=1)[0].score.weight, first)


def test_dropout_is_off_whatever_the_checkpoint_says(policy_folder: Path, tmp_path: Path) -> None:
    config = copy_of(policy_folder, tmp_path) / "config.json"
    rates = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    config.write_text(json.dumps(json.loads(config.read_text()) | rates))
    for model in (load_policy(config.parent)[0], to_reward_model(config.parent, seed=0)[0]):
        assert not any(module.training for module in model.modules())


# the pad token of a reward model


def test_reward_model_has_a_pad_token_of_its_own(policy: PreTrainedModel, policy_folder: Path) -> None:
    """Transformers looks for the last id that is not pad; pad = end-of-text would hide the token that is scored."""
    model, tokenizer = to_reward_model(policy_folder, seed=0)
    assert tokenizer.pad_token == PAD
    assert tokenizer.pad_token_id == model.config.pad_token_id == 300  # after the policy's 300 tokens
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    embedding = model.get_input_embeddings().weight
    assert embedding.shape[0] == 301
    assert torch.equal(embedding[:300], policy.get_input_embeddings().weight)


def test_saved_reward_model_keeps_its_pad_token(reward_folder: Path) -> None:
    model, tokenizer = load_reward_model(reward_folder)
    assert model.config.pad_token_id == tokenizer.pad_token_id == 300


# plain transformers, which knows nothing of this project

PLAIN_POLICY = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, rows = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder)
AutoTokenizer.from_pretrained(folder)
logps = []
for prompt, response in rows:
    with torch.no_grad():
        table = model(torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    logps.append([table[len(prompt) + i - 1, token].item() for i, token in enumerate(response)])
print(json.dumps(logps))
"""

PLAIN_REWARD = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder, rows = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
batch = tokenizer.pad({"input_ids": [p + r for p, r in rows]}, return_tensors="pt", padding_side="right")
with torch.no_grad():
    print(json.dumps(model(**batch).logits[:, 0].tolist()))
"""


def as_json(rows: list[Any]) -> str:
    return json.dumps([(row.prompt, row.response) for row in rows])


def test_plain_transformers_gives_the_same_log_probabilities(
    policy_folder: Path, tmp_path: Path, plain_python: PlainPython
) -> None:
    model, tokenizer = load_policy(policy_folder)
    rows = encode(tokenizer, PROMPTS, RESPONSES, max_prompt=64, max_response=64)
    plain = plain_python(PLAIN_POLICY, policy_folder, as_json(rows), cwd=tmp_path)
    batch = collate(rows, pad_id=tokenizer.pad_token_id, side="left")
    with torch.no_grad():
        ours = LogprobModel(model)(batch).logps
    for expected, logps, mask in zip(plain, ours, batch.response_mask, strict=True):
        assert logps[mask].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_plain_transformers_gives_the_same_rewards_in_a_padded_batch(
    reward_folder: Path, tmp_path: Path, plain_python: PlainPython
) -> None:
    reward = RewardModel.load(reward_folder)
    rows = as_json(reward.encode(PROMPTS, RESPONSES))
    plain = plain_python(PLAIN_REWARD, reward_folder, rows, cwd=tmp_path)
    assert reward.score(PROMPTS, RESPONSES).tolist() == pytest.approx(plain, rel=1e-5, abs=1e-5)
    assert len(set(plain)) == len(plain)


# what cannot be loaded: one line that says what was given, what was expected and what to do


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / folder.name))


def one_line(error: BenchError) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 400
    return text


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_policy(tmp_path / "nothing")
    assert one_line(caught.value) == f"{tmp_path}/nothing does not exist; expected a model folder"


def test_a_hub_name_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "hub_answers", lambda: False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(CheckpointError) as caught:
        load_policy("nobody/no-such-model")
    assert one_line(caught.value).startswith(
        "nobody/no-such-model is neither a folder nor a model that the hub or its cache gives"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"gives \(HF_HUB_OFFLINE is set\); download it"):
        load_reward_model("nobody/no-such-model")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_policy(tmp_path)
    assert one_line(caught.value) == f"{tmp_path} has no config.json; expected a Hugging Face model folder"


@pytest.mark.parametrize("text", ["{", '{"model_type": "no-such-model"}', '{"model_type": "gpt2", "n_layer": "two"}'])
def test_a_foreign_configuration(policy_folder: Path, tmp_path: Path, text: str) -> None:
    folder = copy_of(policy_folder, tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        load_policy(folder)
    assert one_line(caught.value).startswith(f"{folder} cannot be loaded: ")
    assert one_line(caught.value).endswith("; train or download it again")


def test_weights_that_are_cut_short(policy_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(policy_folder, tmp_path)
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.truncate(size - 100)
    (folder / "training.json").write_text('{"stage": "sft"}')
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert one_line(caught.value).startswith(f"{weights} is damaged: {size - 100} bytes, its header describes {size}")
    with pytest.raises(CheckpointError) as caught:
        load_policy(folder)
    assert one_line(caught.value).startswith(f"{folder} cannot be loaded: ")


def test_a_policy_is_no_reward_model(policy_folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_reward_model(policy_folder)
    assert one_line(caught.value).startswith(f"{policy_folder} is no reward model (GPT2LMHeadModel)")


def test_a_reward_model_is_no_policy(reward_folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_policy(reward_folder)
    assert one_line(caught.value).startswith(f"{reward_folder} is a reward model")


def test_more_than_one_output(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=1, n_positions=8, num_labels=3, pad_token_id=0)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_reward_model(tmp_path)
    assert one_line(caught.value) == (f"{tmp_path} has 3 outputs; a reward model has 1: train one with num_labels=1")


def test_a_tokenizer_without_end_of_text(policy_folder: Path, tmp_path: Path) -> None:
    file = copy_of(policy_folder, tmp_path) / "tokenizer_config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in values.items() if not k.endswith("os_token")}))
    with pytest.raises(ModelError, match=r"its tokenizer has no end-of-text token; set eos_token in"):
        load_policy(file.parent)


def test_a_tokenizer_of_another_model(policy_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(policy_folder, tmp_path)
    train_tokenizer(["more words than the other one"] * 9, vocab_size=320).save_pretrained(folder)
    added = load_tokenizer(folder)
    added.add_tokens([f"<{i}>" for i in range(60)])
    added.save_pretrained(folder)
    with pytest.raises(ModelError) as caught:
        load_policy(folder)
    assert "its embedding only 300; the two belong to different models" in one_line(caught.value)


def test_precision() -> None:
    cpu = torch.device("cpu")
    with autocast("bf16", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("fp32", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
