"""Faster code for a loaded model computes what transformers computes."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM
from transformers.activations import GELUTanh, NewGELUActivation

from rlhf_bench.modeling import kernels
from rlhf_bench.modeling.attention import EXTENDED
from rlhf_bench.modeling.kernels import TanhGELU
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
    assert small.config._attn_implementation in ("eager", EXTENDED["eager"])
    monkeypatch.setattr(kernels, "SMALL", 0)
    large, _ = load_policy(tmp_path, device=CPU)
    assert large.config._attn_implementation in (attention, EXTENDED[attention])
    assert not any(type(module) in (NewGELUActivation, GELUTanh) for module in large.modules())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        for model in (small, large):
            found = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_gelu_and_its_gradient_are_those_of_torch(dtype: torch.dtype) -> None:
    x = torch.cat([torch.linspace(-12, 12, 999), torch.tensor([0.0, 1e-20, -1e4, 1e4])]).to(dtype).requires_grad_()
    weight = torch.linspace(-1, 2, len(x)).to(dtype)
    ours, expected = TanhGELU()(x), F.gelu(x, approximate="tanh")
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=2e-6)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), x)
    (right,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(gradient, right, atol=1e-6, rtol=2e-6)


def test_freed_memory_is_kept() -> None:
    """A tensor of 40 MiB, made again and again, soon takes no new pages from the system."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library decides by itself")
    command = [sys.executable, "-c", PAGES]
    pages = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    assert int(pages) < 1000  # of 10,240 of 4 KiB


PAGES = """
import resource, torch
from rlhf_bench.runtime.memory import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
print([pages() for _ in range(20)][-1])
"""
