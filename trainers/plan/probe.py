"""Measures how fast this machine is with a model of the recipe's shape: a few passes of random weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import fmean

import torch
from transformers import AutoModelForCausalLM, GPT2Config, PretrainedConfig, PreTrainedModel

from rlhf_bench.modeling.decoding import decode_steps
from rlhf_bench.modeling.model_files import root_config
from rlhf_bench.modeling.models import autocast
from trainers.config.recipe import NewModel
from trainers.plan.cost import Rates, Shape

ROWS, LENGTH, DRAWN = 4, 128, 16  # of a pass; tokens drawn by a row
# An A100's dense bf16 arithmetic (NVIDIA's data sheet); the share in use and the decode steps a second are assumptions.
GPU_FLOPS, GPU_SHARE, GPU_STEPS = 312e12, 0.3, 40.0


def model_config(model: NewModel | str) -> PretrainedConfig:
    """The configuration of a recipe's model; gpt2's without a look at the hub. Raises CheckpointError, ModelError."""
    if isinstance(model, NewModel):
        return GPT2Config(
            vocab_size=model.vocab_size, n_positions=model.n_positions, n_embd=model.n_embd, n_layer=model.n_layer,
            n_head=model.n_head,
        )  # fmt: skip
    if model in ("gpt2", "openai-community/gpt2"):
        return GPT2Config()
    config: PretrainedConfig = root_config(model)
    return config


def shape_of(config: PretrainedConfig) -> Shape:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = sum(p.numel() for p in model.parameters())  # tied weights count once
    return Shape(parameters, config.num_hidden_layers, config.hidden_size, config.vocab_size)


def measure(config: PretrainedConfig, device: torch.device, precision: str, *, seconds: float) -> Rates:
    """Tokens a second of training, reading and sampling, each measured for a third of `seconds`, or by one pass where
    that takes longer."""
    model = AutoModelForCausalLM.from_config(config).to(device).eval()
    ids = torch.arange(ROWS * LENGTH, device=device).view(ROWS, LENGTH) % config.vocab_size

    def train() -> None:
        with autocast(precision, device):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def read() -> None:
        with autocast(precision, device):
            model(input_ids=ids)

    passes: list[tuple[Callable[[], object], int]] = [
        (train, ids.numel()), (read, ids.numel()), (lambda: _draw(model, ids), ROWS * DRAWN),
    ]  # fmt: skip
    return Rates(*(tokens / _seconds_a_pass(work, device, seconds / 3) for work, tokens in passes))


@torch.no_grad()
def _draw(model: PreTrainedModel, ids: torch.Tensor) -> None:
    drawn = torch.zeros(ROWS, DRAWN, dtype=torch.long, device=ids.device)
    alive = torch.arange(ROWS, device=ids.device)
    for step, (logits, _) in enumerate(decode_steps(model, ids[:, : LENGTH // 2].tolist(), 1, DRAWN, drawn, alive)):
        drawn[:, step] = logits.argmax(-1)


def _seconds_a_pass(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Mean of the passes that fit into `seconds` after a first one, which alone counts where it takes that long."""

    def timed() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    first = timed()
    taken: list[float] = []
    while first + sum(taken) < seconds:
        taken.append(timed())
    return fmean(taken or [first])


def gpu_rates(shape: Shape, rows: int) -> Rates:
    """The rates of an A100: 6 operations a parameter and token to train, 2 to read (arXiv:2001.08361, section 2.1).

    `rows` responses are drawn at once.
    """
    usable = GPU_FLOPS * GPU_SHARE
    return Rates(usable / (6 * shape.parameters), usable / (2 * shape.parameters), GPU_STEPS * rows)
