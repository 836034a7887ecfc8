"""Gradient checkpointing (arXiv:1604.06174): a layer keeps its input alone; the backward pass computes the rest anew.

Transformers' own switch acts in training mode only, which would turn dropout on; here models stay in evaluation mode.
"""

from __future__ import annotations

from functools import partial

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_bench.errors import ModelError

__all__ = ["checkpoint_layers"]


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
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
