"""Log-probabilities by a model's output layer, a chunk of positions at a time: all logits are never held at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf_bench.modeling.heads import own_logits
from rlhf_bench.modeling.kernels import product_dtype, remembers_shapes

CHUNK_ROWS = 256  # positions at once: their logits over a small vocabulary stay in a core's cache
KEPT_ELEMENTS = 1 << 24  # probabilities that are kept for the backward pass: 64 MiB in fp32
# The numbers of tokens differ from batch to batch; rounded up, the matrix products come in few shapes, for each of
# which a CPU library prepares (and remembers) a kernel in low precision.
ROUND_ROWS = 32


def chunked_logps(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, inverse_temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability and entropy of each target, and whether no other token is likelier (bool, no gradient).

    hidden (N, H), weight (V, H), targets (N,) -> (N,) each.
    """
    count = targets.shape[0]
    extra = -count % ROUND_ROWS if remembers_shapes(hidden.dtype, hidden.device) else 0
    hidden, targets = F.pad(hidden, (0, 0, 0, extra)), F.pad(targets, (0, extra))
    out = _ChunkedLogps.apply(hidden, weight, bias, targets, inverse_temperature)  # type: ignore[no-untyped-call]
    logps, entropy, correct = out
    return logps[:count], entropy[:count], correct[:count]


def log_and_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax, in the place of `logits`, and softmax over the last dimension, with one exponential for both."""
    z, p = _shifted_and_softmax(logits)
    # the likeliest token's logit is 0 now, so that its log-probability is what all logits lack
    return z.add_(p.amax(-1, keepdim=True).log_()), p


def _shifted_and_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits less the largest of each position, in the place of `logits`, and their softmax."""
    z = logits.sub_(logits.amax(-1, keepdim=True))
    return z, z.softmax(-1)


def linear_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.to(hidden.dtype).T
    return at_least_float32(logits if bias is None else logits + bias)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32, or as it is in float64: what a float64 model computes is not rounded on the way."""
    return x.to(wide(x.dtype))


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 for a float64 model."""
    return torch.promote_types(dtype, torch.float32)


def own_logps(
    model: PreTrainedModel, hidden: Tensor, targets: Tensor, inverse_temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `chunked_logps`, by the model's own head: each chunk's logits are computed again in the backward pass."""

    def of_chunk(rows: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_p = (at_least_float32(own_logits(model, rows)) * inverse_temperature).log_softmax(-1)
        logps = log_p.gather(1, wanted[:, None]).squeeze(1)
        return logps, -(log_p.exp() * log_p).sum(-1), logps.detach() >= log_p.detach().amax(-1)

    parts = _parts(len(targets)) or [slice(0, 0)]
    chunks = [checkpoint(of_chunk, hidden[part], targets[part], use_reentrant=False) for part in parts]
    logps, entropy, correct = (torch.cat(column) for column in zip(*chunks, strict=True))
    return logps, entropy, correct


class _ChunkedLogps(torch.autograd.Function):
    """log softmax(h W^T + b)[target] and the entropy, a chunk of positions at a time.

    The backward pass computes each chunk again; where the probabilities are few, or one chunk is all, they are kept
    instead.

    With z the logits less the largest of a position, p the softmax and Z the sum of exp z: log p = z - log Z, and the
    entropy is H = log Z - sum p z. Backward, with s the inverse temperature:
        d logp / d logits = s (onehot - p),     d H / d logits = -s p (log p + H).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, inverse_temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = product_dtype(hidden.dtype, hidden.device)
        ctx.inverse_temperature, ctx.dtype = inverse_temperature, dtype
        logps = torch.empty(targets.shape, dtype=wide(dtype), device=hidden.device)
        entropy = torch.empty_like(logps)
        correct = torch.empty_like(targets, dtype=torch.bool)
        parts = _parts(targets.shape[0])
        keeps = len(parts) == 1 or targets.shape[0] * weight.shape[0] <= KEPT_ELEMENTS
        kept = []
        with torch.autocast(hidden.device.type, enabled=False):
            low, small = hidden.to(dtype), weight.to(dtype)
            for part in parts:
                z, p = _shifted_and_softmax(_scaled_logits(low[part], small, bias, inverse_temperature))
                log_total = -p.amax(-1).log_()  # the likeliest token has z = 0
                chosen = z.gather(1, targets[part, None]).squeeze(1)
                logps[part] = chosen - log_total
                correct[part] = chosen >= 0  # many times faster than argmax
                entropy[part] = log_total - z.mul_(p).sum(-1)
                if keeps and any(ctx.needs_input_grad):
                    kept.append(p)
        ctx.save_for_backward(hidden, weight, small, bias, targets, *kept)
        ctx.mark_non_differentiable(correct)
        return logps, entropy, correct

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_logps, grad_entropy, _ = grads
        hidden, weight, small, bias, targets, *kept = ctx.saved_tensors
        low = hidden.to(ctx.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=wide(weight.dtype))
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=wide(bias.dtype))
        with_entropy = bool(grad_entropy.any())
        for i, part in enumerate(_parts(targets.shape[0])):
            p = kept[i] if kept else _scaled_logits(low[part], small, bias, ctx.inverse_temperature).softmax(-1)
            grad_logits = p * -grad_logps[part, None]
            grad_logits.scatter_add_(1, targets[part, None], grad_logps[part, None])
            if with_entropy:
                terms = torch.special.xlogy(p, p)  # a token of probability 0 adds nothing
                grad_logits -= grad_entropy[part, None] * (terms - p * terms.sum(-1, keepdim=True))
            if ctx.inverse_temperature != 1.0:
                grad_logits *= ctx.inverse_temperature
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            cast = grad_logits.to(ctx.dtype)
            grad_hidden[part] = cast @ small
            if cast.dtype == grad_weight.dtype:
                grad_weight.addmm_(cast.T, low[part])
            else:
                grad_weight += cast.T @ low[part]
        bias_out = None if bias is None or grad_bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight.to(weight.dtype), bias_out, None, None


def _scaled_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, inverse_temperature: float) -> Tensor:
    """(n, H) -> (n, V): the product in the hidden state's precision, everything after in float32 or wider."""
    logits = linear_logits(hidden, weight, bias)
    return logits if inverse_temperature == 1.0 else logits.mul_(inverse_temperature)


def _parts(rows: int) -> list[slice]:
    return [slice(start, start + CHUNK_ROWS) for start in range(0, rows, CHUNK_ROWS)]
