"""Weights in 4 bits under an adapter, on a CPU: bitsandbytes has the arithmetic there, slowly, and no fast kernels.

What this cannot show is a training run on a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_bench.modeling import quantized
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy, load_reward_model, to_reward_model
from rlhf_bench.modeling.tokens import Encoded, collate
from trainers.config.optimizer import LoraConfig
from trainers.engine.lora import adapt, save_adapter
from trainers.engine.states import trained_state

bitsandbytes = pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore")  # bitsandbytes' own

CPU = torch.device("cpu")
LORA = LoraConfig(r=3, load_in_4bit=True)
BATCH = collate([Encoded([11, 12, 13], [21, 22, 0]), Encoded([14], [15, 0])], pad_id=0)


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "check_four_bit", lambda device: None)


def differentiable(model: Any) -> Any:
    """In evaluation mode on a CPU bitsandbytes takes a layout of the weights that has no backward."""
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.training = True
    return model


def test_the_layers_are_in_4_bits_and_only_the_adapter_is_trained(policy_folder: Path) -> None:
    model = load_policy(policy_folder, device=CPU, load_in_4bit=True)[0]
    assert isinstance(model.transformer.h[0].attn.c_attn, bitsandbytes.nn.Linear4bit)
    with torch.no_grad():
        before = LogprobModel(differentiable(model))(BATCH).logps
        full = LogprobModel(load_policy(policy_folder, device=CPU)[0])(BATCH).logps
    assert 0 < (before - full).abs().max() < 0.1 * full.abs().max()  # rounded, not another model
    adapt(model, LORA, policy_folder, seed=0)
    logps = LogprobModel(differentiable(model))(BATCH).logps
    assert torch.equal(logps.detach(), before)  # B is 0: the reference in 4 bits is the policy
    logps.sum().backward()
    gradients = {name for name, p in model.named_parameters() if p.grad is not None}
    assert gradients == set(trained_state(model)) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert {".lora_" in name for name in gradients} == {True}


def test_its_adapter_is_read_on_full_weights(policy_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_policy(policy_folder, device=CPU, load_in_4bit=True)
    adapter = adapt(model, LORA, policy_folder, seed=0)
    assert adapter is not None
    for name, p in model.named_parameters():
        if ".lora_B." in name:
            p.data.fill_(0.01)
    update = (
        32 / 3 * (layer := model.transformer.h[0].attn.c_attn).lora_B["default"].weight @ layer.lora_A["default"].weight
    )
    save_adapter(adapter, tmp_path, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    merged, full = (load_policy(path, device=CPU)[0].transformer.h[0].attn.c_attn for path in (tmp_path, policy_folder))
    torch.testing.assert_close(merged.weight, full.weight + update.T, rtol=0, atol=1e-5)


def test_a_reward_model_keeps_its_head_and_its_pad_row(policy_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = to_reward_model(policy_folder, seed=0, device=CPU, load_in_4bit=True)
    adapter = adapt(model, LORA, policy_folder, seed=0)
    assert adapter is not None
    assert [n for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n] == [
        "score.modules_to_save.default.weight"
    ]
    save_adapter(adapter, tmp_path, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_reward_model(tmp_path, device=CPU)
    assert torch.equal(loaded.score.weight, model.score.modules_to_save["default"].weight)
    assert loaded.get_input_embeddings().weight.shape[0] == 301
