"""The sampler with other architectures: cached, without a cache, with packed weights; against plain transformers."""

from __future__ import annotations

import itertools
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from rlhf_bench.modeling import decoding, packed
from rlhf_bench.modeling.decoding import can_group
from rlhf_bench.modeling.decoding_step import decoding_step
from rlhf_bench.modeling.packed import packed_weights
from rlhf_bench.modeling.sampling import SamplingConfig, sample, uniforms
from rlhf_bench.modeling.sampling_cache import has_usual_cache
from rlhf_bench.types import Completion, Prompt

from .architectures import CONFIGS, tiny_model
from .chat import make_tokenizer

TEXTS = ["a", "Blue, or is it green?", "How do I boil an egg for eight minutes?", "b c", "Eggs."]
PROMPTS = [Prompt(str(i), text) for i, text in enumerate(TEXTS)]
CONFIG = SamplingConfig(max_new_tokens=6, stop=())
GROUPED = {"electra", "roberta", "gpt2", "llama", "qwen2", "gemma", "gpt_neox", "granite", "cohere", "phi3", "opt"}
RECURRENT = {"falcon_h1", "recurrent_gemma", "mamba"}


def plain_sample(model: PreTrainedModel, ids: list[int], prompt: Prompt, k: int) -> tuple[list[int], list[float]]:
    """The tokens that the same numbers draw from plain transformers, without a cache or padding."""
    drawn: list[int] = []
    logps: list[float] = []
    for u in uniforms(0, prompt.id, k, 6):
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids + drawn]), use_cache=False)
        table = out.logits[0, -1].log_softmax(-1)
        edges = table.double().exp().cumsum(0)
        token = int(np.searchsorted((edges / edges[-1]).numpy(), u, side="right"))
        drawn.append(token)
        logps.append(table[token].item())
        if token == 2:
            break
    return drawn, logps


def draw(
    kind: str, samples: int = 2, config: SamplingConfig = CONFIG
) -> tuple[PreTrainedModel, list[list[Completion]]]:
    model = tiny_model(kind, vocab_size=400)
    return model, sample(model, make_tokenizer(), PROMPTS, config, samples=samples, seed=0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_tokens_and_log_probabilities_are_those_of_plain_transformers(kind: str) -> None:
    model, groups = draw(kind)
    assert has_usual_cache(model) is (kind not in RECURRENT)
    tokenizer = make_tokenizer()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for completion in group:
            drawn, logps = plain_sample(model, tokenizer(prompt.text)["input_ids"], prompt, completion.sample)
            assert list(completion.ids) == drawn
            assert list(completion.logps) == pytest.approx(logps, abs=2e-4)


@pytest.mark.parametrize("kind", sorted(set(CONFIGS) - RECURRENT))
def test_a_large_models_way_draws_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed weights, prompts that are read in pieces of similar length, and prompts held once for all responses to
    them, of which some end early and leave the batch."""
    config = SamplingConfig(max_new_tokens=16, stop=("a", "e", "t"))
    with monkeypatch.context() as plainly:
        plainly.setattr(decoding, "can_group", lambda _: False)
        _, expected = draw(kind, 5, config)
    assert len({len(one.drawn) for group in expected for one in group}) > 3
    monkeypatch.setattr(packed, "SMALL", 0)
    model, groups = draw(kind, 5, config)
    assert can_group(model) is (kind in GROUPED)
    for group, wanted in zip(groups, expected, strict=True):
        for one, other in zip(group, wanted, strict=True):
            assert one.ids == other.ids
            assert one.logps == pytest.approx(other.logps, abs=2e-4)
    assert not any("forward" in vars(module) for module in model.modules())  # the layers are as they were
    assert "_attn_implementation" not in str(model.config.to_dict())  # that is ours, and not the checkpoint's


KNOWN = [("gpt2", {}), ("llama", {"attention_bias": True}), ("qwen2", {}), ("mistral", {"sliding_window": None})]


@pytest.mark.parametrize(("kind", "changes"), KNOWN)
def test_layers_that_are_called_directly_give_what_the_models_own_forward_gives(
    kind: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(kind, vocab_size=400, **changes)
    assert can_group(model)
    used = Mock(wraps=decoding_step(model))
    drawn = []
    for step in (used, None):
        monkeypatch.setattr(decoding, "decoding_step", lambda _, step=step: step)
        drawn.append(itertools.chain(*sample(model, make_tokenizer(), PROMPTS, CONFIG, samples=3, seed=0)))
    for one, other in zip(*drawn, strict=True):
        assert one.ids == other.ids
        assert one.logps == pytest.approx(other.logps, abs=1e-5)
    assert used.call_count == CONFIG.max_new_tokens - 1
    model.train()
    assert decoding_step(model) is None


def test_hooks_that_are_set_after_the_trial_are_called() -> None:
    model = tiny_model("llama", vocab_size=400)
    before = sample(model, make_tokenizer(), PROMPTS, CONFIG, seed=0)
    handle = model.base_model.layers[0].register_forward_hook(lambda _, inputs, output: output * 1.5)
    assert decoding_step(model) is None
    steered = sample(model, make_tokenizer(), PROMPTS, CONFIG, seed=0)
    handle.remove()
    assert steered != before
    assert sample(model, make_tokenizer(), PROMPTS, CONFIG, seed=0) == before


def test_in_training_with_transformers_own_checkpointing_nothing_is_cached() -> None:
    model = tiny_model("gpt2", vocab_size=400, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    expected = sample(model, make_tokenizer(), PROMPTS, CONFIG, seed=0)
    model.base_model.gradient_checkpointing = True  # what transformers' trainers switch on
    model.train()
    for (one,), (other,) in zip(sample(model, make_tokenizer(), PROMPTS, CONFIG, seed=0), expected, strict=True):
        assert one.ids == other.ids
        assert one.logps == pytest.approx(other.logps, abs=2e-4)


def test_prompts_of_any_architecture_are_read_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, also where they are padded: the scores of all prompts of a batch at once can be gigabytes."""
    monkeypatch.setattr(decoding, "PREFILL_TOKENS", 40)
    for kind in ("bloom", "llama"):
        model = tiny_model(kind, vocab_size=400)
        prompts = [Prompt(str(n), "a " * n) for n in (30, 14, 13, 12, 5, 4, 2)]
        seen: list[int] = []
        expected = sample(model, make_tokenizer(), prompts, CONFIG, seed=0)  # the model is tried
        handle = model.get_input_embeddings().register_forward_hook(lambda _, ids, out: seen.append(ids[0].numel()))  # noqa: B023
        assert sample(model, make_tokenizer(), prompts, CONFIG, seed=0) == expected
        handle.remove()
        lengths = [len(make_tokenizer()(prompt.text)["input_ids"]) for prompt in prompts]
        assert max(seen) <= max(48, *lengths)


def test_a_class_of_ones_own_is_decoded_by_its_own_forward() -> None:
    model = tiny_model("llama")
    model.__class__ = type("LlamaForCausalLM", (type(model),), {})
    assert decoding_step(model) is None


def test_packed_layers_give_what_plain_ones_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "SMALL", 0)
    ids = torch.tensor([[5, 6, 7]])
    for kind in ("gpt2", "llama"):
        model = tiny_model(kind)
        with torch.no_grad():
            expected = model(input_ids=ids).logits
            for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
                with packed_weights(model, dtype):
                    assert any("forward" in vars(module) for module in model.modules())
                    found = model(input_ids=ids).logits
                assert found.dtype == torch.float32
                torch.testing.assert_close(found, expected, atol=tolerance * float(expected.abs().max()), rtol=0)
