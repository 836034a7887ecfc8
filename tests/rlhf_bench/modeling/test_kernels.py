"""Faster code for a loaded model computes what transformers computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.activations import NewGELUActivation

from rlhf_bench.modeling import kernels
from rlhf_bench.modeling.models import load_policy

from .architectures import tiny_model
from .chat import make_tokenizer

CPU = torch.device("cpu")


@pytest.mark.parametrize(("kind", "attention"), [("gpt2", "sdpa"), ("llama", "sdpa"), ("gemma2", "eager")])
def test_a_large_model_has_the_logits_of_plain_transformers(
    kind: str, attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 2 caps its attention scores, which fused attention does not."""
    tiny_model(kind, vocab_size=400).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    small, _ = load_policy(tmp_path, device=CPU)
    assert small.config._attn_implementation == "eager"
    monkeypatch.setattr(kernels, "SMALL", 0)
    large, _ = load_policy(tmp_path, device=CPU)
    assert large.config._attn_implementation == attention
    assert not any(type(module) is NewGELUActivation for module in large.modules())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        for model in (small, large):
            found = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
