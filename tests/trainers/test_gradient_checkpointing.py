"""Activations that are computed twice: the same gradients, in workers' threads too, from less that is kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM, PretrainedConfig

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import autocast, load_policy
from rlhf_bench.modeling.sampling_cache import cache_argument
from rlhf_bench.modeling.tokens import Batch, Encoded, collate
from rlhf_bench.runtime.pool import Pool
from trainers.config.optimizer import LoraConfig
from trainers.engine.lora import adapt
from trainers.engine.models import checkpoint_layers
from trainers.pipeline import train

from .conftest import TOY, FirstStep, llama

ROWS = [Encoded([11, 12, 13], [14, 15, 0]), Encoded([16], [17, 18, 0]), Encoded([19, 20], [21, 22, 23, 0])]
BATCH = collate(ROWS, pad_id=0)


def opt() -> Any:
    """Its layers apply dropout themselves, where they are in training mode."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=64, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32,
        max_position_embeddings=64, dropout=0.5, init_std=0.3,
    )  # fmt: skip
    return OPTForCausalLM(config).double().eval()


@pytest.fixture(params=["gpt2", "gpt2-lora", "llama", "opt"])
def make(request: pytest.FixtureRequest, policy_folder: Path) -> Callable[[], Any]:
    """The same model at every call, in float64 and evaluation mode."""

    def gpt2() -> Any:
        model = load_policy(policy_folder, dtype=torch.float64)[0]
        if request.param == "gpt2-lora":
            adapt(model, LoraConfig(r=3), policy_folder, seed=0)
            torch.manual_seed(1)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:  # at B = 0 A has no gradient
                    nn.init.normal_(parameter)
            return model.double()
        return model

    return {"llama": llama, "opt": opt}.get(request.param, gpt2)


def trained(model: Any) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def gradients(model: Any, batch: Batch = BATCH) -> tuple[Tensor, ...]:
    """Of all that is trained, by the call that the workers make. Gradients of 0 would be alike, too."""
    grads = torch.autograd.grad(LogprobModel(model)(batch).logps.sum(), trained(model), allow_unused=True)
    assert sum(grad is not None and bool(grad.any()) for grad in grads) > 0.9 * len(grads)
    return tuple(torch.zeros(()) if grad is None else grad for grad in grads)


def close(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm()) <= 1e-12 * float(b.norm())


def kept(model: Any) -> int:
    """Bytes that a forward leaves behind for its backward, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = LogprobModel(model)(BATCH)
    assert out.logps.requires_grad
    return sum(saved.values())


def test_gradients_are_the_same_and_less_is_kept(make: Callable[[], Any]) -> None:
    plain, ours = make(), make()
    checkpoint_layers(ours, "sft")
    close(gradients(ours), gradients(plain))
    assert kept(ours) < 0.7 * kept(plain)
    assert not any(module.training for module in ours.modules())  # dropout stays off


def test_each_layer_runs_twice_with_gradients_and_once_without(make: Callable[[], Any]) -> None:
    model = make()
    LogprobModel(model)(BATCH)  # which tries once what the model can do, by passes of its own
    norms = [module for name, module in model.named_modules() if name.endswith(("ln_1", "input_layernorm"))]
    norms += [module for name, module in model.named_modules() if name.endswith("self_attn_layer_norm")]
    calls: list[int] = []
    for norm in norms:
        norm.register_forward_hook(lambda *_: calls.append(1))
    checkpoint_layers(model, "sft")
    with torch.no_grad():
        LogprobModel(model)(BATCH)
    assert len(calls) == len(norms) == 2
    gradients(model)
    assert len(calls) == 2 + 2 * 2


def test_workers_in_threads_have_the_same_gradients(make: Callable[[], Any]) -> None:
    """Six micro-batches on two threads, against their plain sum."""
    plain, ours = make(), make()
    checkpoint_layers(ours, "sft")
    batches = [collate(ROWS[i:], pad_id=0) for i in (0, 1, 2)] * 2
    expected = [sum(grads) for grads in zip(*(gradients(plain, batch) for batch in batches), strict=True)]
    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(2) as executor:
        parameters = trained(ours)
        Pool(executor, 2).accumulate(lambda b: (LogprobModel(ours)(b).logps.sum(), {}), batches, parameters)
    for parameter, grad in zip(parameters, expected, strict=True):
        if parameter.grad is not None:
            assert isinstance(grad, Tensor)
            assert float((parameter.grad - grad).norm()) <= 1e-12 * float(grad.norm())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_second_forward_is_in_the_precision_of_the_first(policy_folder: Path) -> None:
    """Autocast ends with the forward, before the backward pass computes the layers again."""

    def graded(recompute: bool) -> tuple[Tensor, ...]:
        model = load_policy(policy_folder)[0]
        if recompute:
            checkpoint_layers(model, "sft")
        with autocast("bf16", torch.device("cpu")):
            logps = LogprobModel(model)(BATCH).logps
        return torch.autograd.grad(logps.sum(), trained(model))

    for ours, plain in zip(graded(True), graded(False), strict=True):
        assert torch.equal(ours, plain)


def test_a_cache_is_filled_once(make: Callable[[], Any]) -> None:
    """Sampling goes through the same layers."""
    plain, ours = make(), make()
    checkpoint_layers(ours, "sft")
    with torch.no_grad():
        outs = [model.base_model(BATCH.ids, use_cache=True) for model in (plain, ours)]
    assert [out[cache_argument(plain)].get_seq_length() for out in outs] == [BATCH.ids.shape[1]] * 2


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_step_in_float64(first_step: FirstStep, stage: str) -> None:
    plain, _ = first_step(stage, double=True)
    ours, _ = first_step(stage, double=True, gradient_checkpointing=True)
    assert ours.loss == pytest.approx(plain.loss, rel=1e-12)
    assert ours.gradients.keys() == plain.gradients.keys()
    close(tuple(ours.gradients.values()), tuple(plain.gradients.values()))


def test_a_model_without_such_layers_is_refused() -> None:
    class Bare(nn.Module):
        config = PretrainedConfig()

    Bare.config.model_type = "bare"
    model: Any = Bare()
    with pytest.raises(ModelError, match=r"^dpo\.gradient_checkpointing: a bare model has no layers that ") as error:
        checkpoint_layers(model, "dpo")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_same_weights_come_out(tmp_path: Path) -> None:
    short = ["base.max_steps=2", "base.eval_size=2"]
    for run, value in (("plain", "false"), ("recomputed", "true")):
        overrides = [*short, f"base.gradient_checkpointing={value}"]
        train(["base"], recipe=str(TOY), run=run, overrides=overrides, root=tmp_path)
    plain, recomputed = tmp_path / "plain" / "base", tmp_path / "recomputed" / "base"
    assert (plain / "model.safetensors").read_bytes() == (recomputed / "model.safetensors").read_bytes()
