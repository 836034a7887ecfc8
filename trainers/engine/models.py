"""The models of a stage as its section of the recipe wants them: adapters, checkpointed and compiled layers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.last_layer import recomputing
from rlhf_bench.modeling.models import load_policy
from trainers.config.optimizer import OptimizerConfig, TunedConfig
from trainers.engine.compiling import compile_backbone
from trainers.engine.lora import Adapter, adapt
from trainers.engine.stage import Stage, Trained


def load_trained_policy(stage: Stage, config: TunedConfig, parent: Path) -> Trained:
    """The policy that the stage trains, from its parent's folder. Raises as `make_trainable`."""
    model, tokenizer = load_policy(parent, device=stage.machine.device, load_in_4bit=config.load_in_4bit)
    return Trained(model, tokenizer, make_trainable(stage, model, config, parent))


def load_reference(stage: Stage, config: TunedConfig, parent: Path) -> PreTrainedModel:
    """The parent as it is, with layers compiled as the policy's are: a policy that is still its reference would differ
    from it otherwise."""
    model, _ = load_policy(parent, device=stage.machine.device, load_in_4bit=config.load_in_4bit)
    compile_layers(stage, model, config)
    return model


def make_trainable(stage: Stage, model: PreTrainedModel, config: TunedConfig, base: str | Path) -> Adapter | None:
    """An adapter, checkpointed and compiled layers, in place, where `config` has them; `model` was loaded from `base`.

    Raises BadValue and ModelError as `adapt` and `checkpoint_layers` do.
    """
    adapter = adapt(model, config.lora, base, seed=stage.seed, section=stage.name)
    prepare(stage, model, config)
    return adapter


def prepare(stage: Stage, model: PreTrainedModel, config: OptimizerConfig) -> None:
    """Checkpointed and compiled layers, in place, where `config` wants them. Raises ModelError."""
    if config.gradient_checkpointing:
        checkpoint_layers(model, stage.name)
    compile_layers(stage, model, config)


def compile_layers(stage: Stage, model: PreTrainedModel, config: OptimizerConfig) -> None:
    """Compiled layers, in place, where `config` wants them."""
    if config.compile:
        data = stage.recipe.data
        width = data.max_prompt_tokens + data.max_response_tokens
        compile_backbone(model, rows=config.micro_batch_size, width=width)


def checkpoint_layers(model: PreTrainedModel, where: str) -> None:
    """Checkpoint each layer of `model`, in place: the same gradients, less memory, one more forward a step.

    Without gradients (sampling, evaluation) nothing changes.

    Raises:
        ModelError: the model has no layers that can be computed twice.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"{where}.gradient_checkpointing: a {model.config.model_type} model has no layers that transformers can "
            f"checkpoint; leave {where}.gradient_checkpointing out, and lower {where}.micro_batch_size to save memory"
        )
    for layer in layers:
        # Reentrant checkpoints know .backward() alone, not the workers' autograd.grad, and give an adapter's first
        # layer no gradient. Nothing is random in a layer; random states are the process's, and workers would mix them.
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, context_fn=recomputing
        )
