"""The last layer may leave tokens out that are not read: hidden states and gradients stay those of the whole pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_bench.modeling import attention
from rlhf_bench.modeling.attention import attending, can_replace_attention, close_states
from rlhf_bench.modeling.last_layer import can_leave_out
from rlhf_bench.modeling.logprobs import hidden_states, plain_hidden_states
from rlhf_bench.modeling.tokens import Batch, collate
from tests.rlhf_bench.modeling.test_trees import PACKED, ROPE, ROWS, assert_same_pass, make
from trainers.engine.models import checkpoint_layers

WITHOUT = {
    # its feed-forward part is two layers under names of their own
    "opt": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
            "word_embed_proj_dim": 32, "pad_token_id": 1},
    # adds the residual within it
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0},
    # its feed-forward part gives what its router has decided as well
    "llama4_text": {**ROPE, "vocab_size": 64},
}  # fmt: skip


def last_tokens(batch: Batch) -> Tensor:
    last = torch.where(batch.attention_mask, batch.position_ids, -1).argmax(-1)
    return torch.nn.functional.one_hot(last, batch.ids.shape[1]).bool()


def widths(model: PreTrainedModel, name: str, seen: list[int]) -> None:
    """Keep how many tokens the modules of this name in the last layer are given."""
    for path, module in model.named_modules():
        if path.endswith(f".1.{name}"):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:-1].numel()))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", [*PACKED, "mistral with a window"])
def test_what_is_read_is_what_it_was(kind: str, side: Any) -> None:
    model = make("mistral", {**ROPE, "sliding_window": 4}) if "window" in kind else make(kind, PACKED[kind])
    batch = collate(ROWS, pad_id=0, side=side)
    read = last_tokens(batch)
    assert can_leave_out(model)
    seen: list[int] = []
    widths(model, "mlp", seen)
    expected = plain_hidden_states(model, batch)[read]
    assert_same_pass(model, expected, hidden_states(model, batch, read), atol=1e-5)
    assert seen[-1] == len(ROWS) < seen[0]


def test_tokens_are_made_up_to_a_number_that_comes_again_in_low_precision() -> None:
    """Where a product is fastest in a shape that came before: 5 are read, 256 are computed."""
    model = make("llama", PACKED["llama"]).bfloat16()
    batch = collate(ROWS * 20, pad_id=0)
    read = last_tokens(batch)
    read[5:] = False
    seen: list[int] = []
    assert can_leave_out(model)
    widths(model, "mlp", seen)
    with torch.no_grad():
        whole, found = plain_hidden_states(model, batch)[read], hidden_states(model, batch, read)
    assert seen[-1] == 256 < seen[0]
    assert torch.allclose(found, whole, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("kind", WITHOUT)
def test_parts_of_another_form_compute_all_tokens(kind: str) -> None:
    model = make(kind, WITHOUT[kind])
    assert not can_leave_out(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_trial_that_fails_in_our_own_lines_is_no_silent_reason_to_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an architecture refuses is one: above, where warnings are errors."""

    class Squeezes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.squeeze(0)  # what is put back has a dimension less than our line expects

    model = make("llama", PACKED["llama"])
    model.base_model.layers[-1].mlp = Squeezes()
    with pytest.warns(UserWarning, match=r"^LlamaModel: .*IndexError: index_copy_.*please report"):
        assert not can_leave_out(model)
    monkeypatch.setattr(attention, "attending", lambda _: attending(close_states))  # called with other arguments
    with pytest.warns(UserWarning, match=r"^LlamaModel: .*TypeError: close_states\(\) takes 2"):
        assert not can_replace_attention(model)


def test_a_part_that_mixes_tokens_is_found() -> None:
    class Mixes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1)

    model = make("llama", PACKED["llama"])
    model.base_model.layers[-1].mlp = Mixes()
    assert not can_leave_out(model)


def test_a_copy_leaves_out_what_the_model_does() -> None:
    model = make("llama", PACKED["llama"])
    assert can_leave_out(model)
    other = copy.deepcopy(model)
    batch = collate(ROWS, pad_id=0)
    read = last_tokens(batch)
    assert can_leave_out(other)
    with torch.no_grad():
        assert torch.equal(hidden_states(model, batch, read), hidden_states(other, batch, read))


def test_layers_are_computed_again_for_each_backward_pass() -> None:
    model = make("llama", PACKED["llama"])
    checkpoint_layers(model, "sft")
    batch = collate(ROWS, pad_id=0)
    read = last_tokens(batch)
    total = hidden_states(model, batch, read).sin().sum()
    first, second = (torch.autograd.grad(total, list(model.base_model.parameters()), retain_graph=True) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
