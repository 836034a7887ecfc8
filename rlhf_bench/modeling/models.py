"""Making and loading models: plain transformers models, on the right device, with dropout off.

Dropout is off everywhere, in training too: policy and reference must be the same function of their weights, or KL at
initialisation is not 0 and the DPO loss not ln 2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.adapters import adapter_base, is_reward_adapter, merged
from rlhf_bench.modeling.folders import model_folder, stored_shapes, wrapped_names
from rlhf_bench.modeling.kernels import use_fused_kernels
from rlhf_bench.modeling.logits_check import check_logits
from rlhf_bench.modeling.model_files import (
    check_causal,
    check_loaded,
    of_adapter,
    pretrained_name,
    pretrained_options,
    readable,
    root_config,
)
from rlhf_bench.modeling.quantized import four_bit_options
from rlhf_bench.modeling.tokenizers import load_tokenizer

CPU = torch.device("cpu")
PAD = "<|pad|>"
WRAPPED_NAMES = {r"(^|\.)_orig_mod\.": r"\1", r"^module\.": ""}  # of torch.compile, of DataParallel


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_precision(device: torch.device) -> str:
    """`bf16` where it is multiplied faster than fp32 (AMX or AVX-512 bf16, a GPU since Ampere).

    The instructions have to be there and in use: ONEDNN_MAX_CPU_ISA can hold oneDNN, which multiplies, to older ones.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    there = any(getattr(torch.cpu, probe, bool)() for probe in probes)
    used = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if there and used else "fp32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Autocast for `bf16`, nothing for `fp32`."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator seeded inside the block and put back after it: initialisers take no generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def new_gpt2(
    tokenizer: PreTrainedTokenizerBase,
    *,
    layers: int,
    heads: int,
    width: int,
    positions: int,
    seed: int,
    device: torch.device = CPU,
) -> PreTrainedModel:
    """A GPT-2 with random weights.

    Weights start at width ** -0.5 (GPT-2's 0.02 suits a width of 2,500), positions at a tenth of it: a small model on
    little data learns what the words mean before it learns their positions. The activation is GPT-2's tanh
    approximation in its fused form.
    """
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        activation_function="gelu_pytorch_tanh",
        initializer_range=width**-0.5,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    config._attn_implementation = "eager"
    with seeded(seed):
        model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(0.1)
    use_fused_kernels(model, device)
    return _placed(model, device)


def load_policy(
    path: str | Path,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    load_in_4bit: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer, from a folder, an adapter's folder or the hub; dropout off.

    A hub name may end in @REVISION. An adapter comes merged into its base.
    `load_in_4bit`: see rlhf_bench/modeling/quantized.py.

    Raises:
        CheckpointError: nothing there, or it cannot be read.
        ModelError: it is no causal language model, the logits computed here are not those of its own forward, or it
            cannot be loaded in 4 bits.
    """
    path = model_folder(path)
    tokenizer = load_tokenizer(path)
    options = four_bit_options(path, device or default_device()) if load_in_4bit else {}
    check_causal(path)
    model = load_as(AutoModelForCausalLM, path, device, dtype, set(), options)
    if model.get_input_embeddings().weight.shape[0] < len(tokenizer):
        raise ModelError(
            f"{path}: its tokenizer has {len(tokenizer)} tokens, its embedding only "
            f"{model.get_input_embeddings().weight.shape[0]}; the two belong to different models"
        )
    placed = _placed(model, device)
    check_logits(placed, str(path))
    return placed, tokenizer


def load_as(
    kind: Any,
    path: str | Path,
    device: torch.device | None,
    dtype: torch.dtype,
    new: set[str],
    options: dict[str, Any],
) -> Any:
    """A model by transformers' class `kind`, all of it but `new` from its file; an adapter merged into its base."""
    base = adapter_base(path)
    if base is not None:
        with of_adapter(path):
            whole = load_as(kind, base, device, dtype, new, options)
        return merged(whole, path, base)
    path = model_folder(path)
    if wrapped_names(path):
        options = {**options, "key_mapping": WRAPPED_NAMES}
    with readable(path):
        model, loading = kind.from_pretrained(
            *pretrained_name(path), dtype=dtype, attn_implementation="eager", output_loading_info=True,
            **options, **pretrained_options(path),
        )  # fmt: skip
        check_loaded(path, loading, new)
    use_fused_kernels(model, device or default_device())
    return model


def _placed(model: Any, device: torch.device | None) -> PreTrainedModel:
    """The model on its device, in evaluation mode; a model in 4 bits stays where it was loaded."""
    if not getattr(model, "is_loaded_in_4bit", False):
        model = model.to(device or default_device())
    return cast(PreTrainedModel, model.eval())


def load_reward_model(
    path: str | Path, *, device: torch.device | None = None, load_in_4bit: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence classifier with one output and its tokenizer, from a folder, an adapter's folder or the hub.

    Raises:
        CheckpointError: nothing there, or it cannot be read.
        ModelError: it has more than one output, or is no sequence classifier; or it cannot be loaded in 4 bits.
    """
    path = model_folder(path)
    tokenizer = load_tokenizer(path)
    options = four_bit_options(path, device or default_device()) if load_in_4bit else {}
    if is_reward_adapter(path):
        with seeded(0):  # the base has no row for the pad token; nothing reads its embedding
            model = _load_classifier(path, tokenizer, device, options)
        return _placed(model, device), tokenizer
    config = root_config(path)
    if not any("SequenceClassification" in name for name in config.architectures or []):
        raise ModelError(
            f"{path} is no reward model ({', '.join(config.architectures or ['unknown'])}); expected a sequence "
            "classifier with one output such as checkpoints/RUN/reward"
        )
    heads = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
    stored = (shape[0] for name, shape in stored_shapes(path).items() if name.endswith(heads))
    outputs = next(stored, config.num_labels)  # a configuration need not name the number of its weights' outputs
    if outputs != 1:
        raise ModelError(f"{path} has {outputs} outputs; a reward model has 1: train one with num_labels=1")
    model = load_as(
        AutoModelForSequenceClassification, path, device, torch.float32, set(), {"num_labels": 1, **options}
    )
    return _placed(model, device), tokenizer


def to_reward_model(
    path: str | Path, *, seed: int, device: torch.device | None = None, load_in_4bit: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A policy's backbone under a new scalar head, with a pad token of its own.

    Transformers reads a classifier's score at the last id that is not the pad id; a pad that is also end-of-text would
    make it read one token early.
    """
    path = model_folder(path)
    tokenizer = load_tokenizer(path)
    root_config(path)
    options = four_bit_options(path, device or default_device()) if load_in_4bit else {}
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD})
    with seeded(seed):
        model = _load_classifier(path, tokenizer, device, options)
    return _placed(model, device), tokenizer


def _load_classifier(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, device: torch.device | None, options: dict[str, Any]
) -> Any:
    """A backbone under a scalar head that can read every token of `tokenizer`; what is new is drawn at random."""
    new = {"score.weight", "classifier.weight", "classifier.bias"}
    model = load_as(AutoModelForSequenceClassification, path, device, torch.float32, new, {"num_labels": 1, **options})
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model
