"""Reward models of other tools: each is scored in its own form, at its own token, as plain transformers scores it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.models import seeded
from rlhf_bench.modeling.reward_model import RewardModel, ScoreModel

from ..tiny import scale_matrices
from .chat import CHATML, LLAMA3, make_tokenizer

PROMPTS = ["\n\nHuman: Blue?\n\nAssistant:", "\n\nHuman: Eggs?\n\nAssistant: Yes.\n\nHuman: How?\n\nAssistant:"]
RESPONSES = [" Blue, of course.", " Eight minutes in boiling water."]
MESSAGES = [
    [("user", "Blue?"), ("assistant", "Blue, of course.")],
    [("user", "Eggs?"), ("assistant", "Yes."), ("user", "How?"), ("assistant", "Eight minutes in boiling water.")],
]
_DECODER = {
    "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 512, "num_labels": 1,
}  # fmt: skip
_ENCODER = {
    "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 512, "num_labels": 1,
}  # fmt: skip


def save(folder: Path, kind: Any, config: Any, tokenizer: PreTrainedTokenizerBase) -> Path:
    with seeded(0):
        model = kind(config)
    scale_matrices(model, 4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder)
    return model.eval()


def scores_of(model: PreTrainedModel, rows: list[Any]) -> list[float]:
    """Transformers alone, text by text."""
    with torch.no_grad():
        return [model(**{k: torch.tensor([v]) for k, v in row.items()}).logits.item() for row in rows]


@pytest.mark.parametrize(("template", "bos"), [(CHATML, False), (LLAMA3, True), (LLAMA3, False)])
@pytest.mark.parametrize("pad", ["<pad>", "</s>", "<|im_end|>"])
def test_a_conversation_is_read_to_the_templates_last_line_end(
    tmp_path: Path, template: str, bos: bool, pad: str
) -> None:
    tokenizer = make_tokenizer(template=template, bos=bos, pad=pad)
    config = Qwen2Config(**_DECODER, pad_token_id=tokenizer.pad_token_id)
    folder = save(tmp_path / "rm", Qwen2ForSequenceClassification, config, tokenizer)
    rows = [
        dict(tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in turns], return_dict=True))
        for turns in MESSAGES
    ]
    expected = scores_of(plain(folder), [{"input_ids": row["input_ids"]} for row in rows])
    reward = RewardModel.load(folder)
    assert reward.form.name == "chat"
    assert [row.prompt + row.response for row in reward.encode(PROMPTS, RESPONSES)] == [r["input_ids"] for r in rows]
    assert reward.score(PROMPTS, RESPONSES).tolist() == pytest.approx(expected, abs=1e-4)
    assert abs(expected[0] - expected[1]) > 1e-2


def test_a_response_that_never_ended_has_no_end_of_turn(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(template=CHATML)
    reward = RewardModel.load(
        save(tmp_path, Qwen2ForSequenceClassification, Qwen2Config(**_DECODER, pad_token_id=0), tokenizer)
    )
    ended, cut = (reward.encode(PROMPTS, RESPONSES, [done] * 2) for done in (True, False))
    for whole, row in zip(ended, cut, strict=True):
        assert whole.response[: len(row.response)] == row.response
        assert tokenizer.decode(whole.response[len(row.response) :]) == "<|im_end|>\n"


@pytest.mark.parametrize("pad", ["<pad>", "</s>", None])
@pytest.mark.parametrize("bos", [True, False])
def test_plain_text_is_read_where_transformers_reads_it(tmp_path: Path, pad: str | None, bos: bool) -> None:
    """With pad = end-of-text the last token that is no pad is before the end."""
    tokenizer = make_tokenizer(bos=bos, pad=pad or "<pad>")
    config = LlamaConfig(**_DECODER, pad_token_id=None if pad is None else tokenizer.pad_token_id)
    folder = save(tmp_path / "rm", LlamaForSequenceClassification, config, tokenizer)
    texts = [prompt + response for prompt, response in zip(PROMPTS, RESPONSES, strict=True)]
    ids = [tokenizer(text + ("" if bos else "</s>"))["input_ids"] for text in texts]
    expected = scores_of(plain(folder), [{"input_ids": row} for row in ids])
    reward = RewardModel.load(folder)
    assert reward.form.name == "hh"
    assert reward.score(PROMPTS, RESPONSES).tolist() == pytest.approx(expected, abs=1e-4)
    at_once = reward.score(PROMPTS * 2, RESPONSES * 2, batch_size=1).tolist()
    assert at_once == pytest.approx(expected * 2, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (BertForSequenceClassification, BertConfig(**_ENCODER)),
        (RobertaForSequenceClassification, RobertaConfig(**_ENCODER, pad_token_id=0)),
        (DebertaV2ForSequenceClassification, DebertaV2Config(**_ENCODER, type_vocab_size=0)),
        (DebertaV2ForSequenceClassification, DebertaV2Config(**_ENCODER, type_vocab_size=2)),
    ],
)
def test_an_encoder_reads_a_pair(tmp_path: Path, kind: Any, config: Any) -> None:
    tokenizer = make_tokenizer(pair=True)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    folder = save(tmp_path / "rm", kind, config, tokenizer)
    questions = ["Blue?", "Eggs?\n\nYes.\n\nHow?"]
    rows = [
        dict(tokenizer(question, response.strip())) for question, response in zip(questions, RESPONSES, strict=True)
    ]
    if getattr(config, "type_vocab_size", 0) < 2:
        rows = [{"input_ids": row["input_ids"]} for row in rows]
    expected = scores_of(plain(folder), rows)
    reward = RewardModel.load(folder)
    assert reward.form.name == "pair"
    assert reward.score(PROMPTS, RESPONSES).tolist() == pytest.approx(expected, abs=1e-4)
    short = RewardModel(plain(folder), tokenizer, template="pair", trained_here=False, max_prompt=4, max_response=3)
    row = short.encode(PROMPTS, RESPONSES)[0]
    assert (row.prompt[0], row.prompt[-1], row.response[-1]) == (5, 6, 6)  # [CLS] ... [SEP] ... [SEP]
    assert (len(row.prompt), len(row.response), row.prompt_cut, row.response_cut) == (4, 3, True, True)


def test_another_form_on_request(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(template=CHATML)
    config = Qwen2Config(**_DECODER, pad_token_id=0)
    folder = save(tmp_path / "rm", Qwen2ForSequenceClassification, config, tokenizer)
    reward = RewardModel.load(folder, template="plain")
    row = reward.encode(PROMPTS[:1], RESPONSES[:1])[0]
    assert tokenizer.decode(row.prompt + row.response) == "Blue?\n\nBlue, of course.</s>"
    (folder / "training.json").write_text(json.dumps({"prompt_form": "hh"}))
    assert RewardModel.load(folder).form.name == "hh"


def test_one_output_that_the_configuration_does_not_name(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    folder = save(tmp_path / "rm", LlamaForSequenceClassification, LlamaConfig(**_DECODER, pad_token_id=0), tokenizer)
    expected = RewardModel.load(folder).score(PROMPTS, RESPONSES).tolist()
    config = json.loads((folder / "config.json").read_text())
    for key in ("num_labels", "id2label", "label2id"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    assert RewardModel.load(folder).score(PROMPTS, RESPONSES).tolist() == expected


def test_rewards_that_differ_from_transformers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer(template=CHATML)
    config = Qwen2Config(**_DECODER, pad_token_id=0)
    folder = save(tmp_path / "rm", Qwen2ForSequenceClassification, config, tokenizer)
    forward = ScoreModel.forward
    monkeypatch.setattr(ScoreModel, "forward", lambda self, batch: forward(self, batch) + 0.1)
    with pytest.raises(ModelError, match=r"differ from those of transformers' own forward by 0\.1"):
        RewardModel.load(folder)


@pytest.mark.parametrize(
    ("kind", "config", "usable"),
    [
        (BertForSequenceClassification, BertConfig(**{**_ENCODER, "max_position_embeddings": 64}), 64),
        (
            RobertaForSequenceClassification,
            RobertaConfig(**{**_ENCODER, "max_position_embeddings": 66}, pad_token_id=1),
            64,
        ),
    ],
)
def test_texts_that_are_longer_than_the_model_can_read_are_cut_and_counted(
    tmp_path: Path, kind: Any, config: Any, usable: int
) -> None:
    """RoBERTa's positions begin one above the padding's, so of 66 it can use 64."""
    folder = save(tmp_path / "rm", kind, config, make_tokenizer(pair=True, pad="<s>"))
    reward = RewardModel.load(folder).within(max_prompt=1024, max_response=None)
    assert reward.room == usable
    long = "egg " * 200
    found = reward.rewards([PROMPTS[0], f"\n\nHuman: {long}\n\nAssistant:", PROMPTS[0]], [RESPONSES[0]] * 2 + [long])
    assert found.cut.tolist() == [False, True, True]
    assert found.values.isfinite().all()
    assert max(row.length for row in reward.encode([f"\n\nHuman: {long}\n\nAssistant:"], [long])) == usable
    fitting = "egg " * 10  # of more than half of the room, beside a short prompt
    (row,) = reward.encode([PROMPTS[0]], [fitting])
    assert (row.prompt_cut, row.response_cut, row.length > usable // 2) == (False, False, True)


def test_a_model_from_elsewhere_keeps_its_own_limits(tmp_path: Path) -> None:
    config = Qwen2Config(**_DECODER, pad_token_id=0)
    folder = save(tmp_path / "rm", Qwen2ForSequenceClassification, config, make_tokenizer(template=CHATML))
    reward = RewardModel.load(folder)
    limits = reward.max_prompt, reward.max_response
    assert limits == (512, 512)
    reward.within(max_prompt=16, max_response=8)
    assert (reward.max_prompt, reward.max_response) == limits
    (folder / "training.json").write_text(json.dumps({"prompt_form": "hh"}))
    own = RewardModel.load(folder).within(max_prompt=16, max_response=8)
    assert (own.max_prompt, own.max_response) == (16, 8)
