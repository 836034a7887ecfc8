"""Gradient checkpointing (arXiv:1604.06174): a layer keeps its input alone; the backward pass computes the rest anew.

Transformers' own switch acts in training mode only, which would turn dropout on; here models stay in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
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
        layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`forward`, whose activations are not kept where there is a backward pass to come."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # Reentrant checkpoints know .backward() alone, not the workers' autograd.grad, and give an adapter's first layer no
    # gradient. Nothing is random in a layer; random states belong to the process, and workers would mix them up.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
