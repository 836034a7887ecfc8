"""A response's log-probability is that of its own tokens after its prompt, whatever is beside it in the batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from rlhf_bench.errors import NotFinite
from rlhf_bench.modeling import perplexity_model
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.perplexity_model import LanguageModel

from ..tiny import save_policy

WORDS = ["Blue.", "I am happy to help.", "Eight minutes", "no", "Put it in boiling water."]
PROMPTS = [f"\n\nHuman: {WORDS[i % 5]} {i}?\n\nAssistant:" for i in range(33)]
RESPONSES = [f" {WORDS[(i * 2) % 5]}" * (i % 4) for i in range(33)]  # some are empty
ENDED = [i % 3 > 0 for i in range(33)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("likelihood") / "model", positions=64)


@pytest.fixture
def reader(folder: Path) -> LanguageModel:
    return LanguageModel.load(folder)


def plain(model: PreTrainedModel, prompt: list[int], response: list[int]) -> float:
    """By plain transformers on one text without padding, in float64."""
    if not response:
        return 0.0
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None]).sum())


@pytest.mark.parametrize(("batch", "attention"), [(64, 1 << 30), (7, 1 << 30), (64, 2_000), (1, 1)])
def test_of_each_response_alone(
    reader: LanguageModel, folder: Path, batch: int, attention: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perplexity_model, "BATCH", batch)
    monkeypatch.setattr(perplexity_model, "ATTENTION", attention)
    monkeypatch.setattr(perplexity_model, "AT_ONCE", 20)
    exact, tokenizer = load_policy(folder, dtype=torch.float64)
    texts = [
        (tokenizer(prompt)["input_ids"], tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] * ended)
        for prompt, text, ended in zip(PROMPTS, RESPONSES, ENDED, strict=True)
    ]
    found = reader.score(PROMPTS, RESPONSES, ENDED)
    assert found.logprob.tolist() == pytest.approx([plain(exact, *text) for text in texts], abs=1e-4)
    assert found.tokens.tolist() == [len(response) for _, response in texts]
    assert found.logprob.min() < -50  # it is not all the same
    assert 0 in found.tokens


def test_a_long_prompt_is_cut_to_as_many_words_as_the_response_leaves(reader: LanguageModel, folder: Path) -> None:
    exact, tokenizer = load_policy(folder, dtype=torch.float64)
    prompt, response = "water " * 80, " Eight minutes"
    tokens = [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]
    cuts = (tokenizer("water " * n)["input_ids"] for n in range(80, 0, -1))
    kept = next(ids for ids in cuts if len(ids) <= 64 - len(tokens))
    found = reader.score([prompt], [response], [True])
    assert found.logprob.item() == pytest.approx(plain(exact, kept, tokens), abs=1e-4)


def test_a_response_that_cannot_be_read_whole_is_not_scored(reader: LanguageModel) -> None:
    """64 tokens can be read, and the first of them has to be the prompt's."""
    fits, long = " happy" * 63, " happy" * 64  # one token each
    found = reader.score(["Say."] * 3, [fits, long, fits], [False, False, True])  # end-of-text is the 64th
    assert found.tokens.tolist() == pytest.approx([63, math.nan, math.nan], nan_ok=True)
    assert found.logprob.isnan().tolist() == [False, True, True]


def test_a_model_that_gives_nan_is_named(reader: LanguageModel) -> None:
    with torch.no_grad():
        reader.model.lm_head.weight.fill_(math.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(NotFinite, match=r"model gave response 0 of 2 the log-probability nan"):
        reader.score(PROMPTS[:2], [" yes", " no"], [True, True])
