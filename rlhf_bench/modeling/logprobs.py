"""Log-probabilities of responses, exact KL and its estimates: the one implementation of training and evaluation.

Only response positions go through the output layer, in chunks, and the backward pass recomputes each chunk: neither
direction ever holds batch x length x vocabulary. All results are laid out like the batch, (B, T): the number at
[b, t] belongs to the token ids[b, t], given everything before it; where response_mask is False it is 0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf_bench.modeling.heads import backbone_of, first_position, is_linear, output_layer, own_logits
from rlhf_bench.modeling.kernels import product_dtype, remembers_shapes
from rlhf_bench.modeling.last_layer import reading
from rlhf_bench.modeling.tokens import ROUND_WIDTH, Batch
from rlhf_bench.modeling.tree_attention import cost_of_tree
from rlhf_bench.modeling.trees import can_pack, pack, packed_hidden_states

CHUNK_ELEMENTS = 1 << 22  # logits held at once: 16 MiB in fp32
# The numbers of tokens differ from batch to batch; rounded up, the matrix products come in few shapes, for each of
# which a CPU library prepares (and remembers) a kernel in low precision. With a large vocabulary a product costs more.
ROUND_ROWS = 256
LARGE_VOCABULARY, ROUND_ROWS_OF_LARGE = 1 << 14, 32


class TokenLogps(NamedTuple):
    logps: Tensor  # (B, T) nats, float32
    entropy: Tensor  # (B, T) nats, float32
    correct: Tensor  # (B, T) bool: no token is likelier


class TokenKL(NamedTuple):
    """Per-token terms for y ~ policy; sum over a row for the response's number."""

    policy_logps: Tensor  # (B, T)
    reference_logps: Tensor  # (B, T)
    exact: Tensor  # (B, T) full-vocabulary KL(policy || reference) at each prefix


class LogprobModel(nn.Module):
    """A causal language model with a forward that returns log-probabilities instead of logits.

    Everything happens inside `forward`, the output layer too, so that wrappers that hook a module's forward (DDP,
    FSDP) see all of it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, temperature: float = 1.0, whole_sequence: bool = False) -> TokenLogps:
        """Log-probability and entropy of each response token; of each token but the first with `whole_sequence`."""
        read = read_for(target_mask(batch, whole_sequence=whole_sequence))
        return self.of_hidden(hidden_states(self.model, batch, read), batch, temperature, whole_sequence)

    def of_hidden(
        self, hidden: Tensor, batch: Batch, temperature: float = 1.0, whole_sequence: bool = False
    ) -> TokenLogps:
        """The same from the backbone's last hidden state, (B, T, H), for a forward that reads it for more than this."""
        mask = target_mask(batch, whole_sequence=whole_sequence)
        before = hidden[read_for(mask)]  # (N, H), the position before each target
        if is_linear(self.model):
            weight, bias = output_layer(self.model)
            flat_logps, flat_entropy, correct = chunked_logps(before, weight, bias, batch.ids[mask], 1.0 / temperature)
        else:
            flat_logps, flat_entropy, correct = own_logps(self.model, before, batch.ids[mask], 1.0 / temperature)
        zeros = torch.zeros(mask.shape, dtype=flat_logps.dtype, device=mask.device)
        return TokenLogps(
            zeros.masked_scatter(mask, flat_logps),
            zeros.masked_scatter(mask, flat_entropy),
            torch.zeros_like(mask).masked_scatter(mask, correct),
        )


def target_mask(batch: Batch, *, whole_sequence: bool) -> Tensor:
    """Tokens to predict, (B, T) bool. The first token of a sequence has nothing before it and is never one."""
    mask = batch.attention_mask if whole_sequence else batch.response_mask
    return mask & (batch.position_ids > 0)


def read_for(targets: Tensor) -> Tensor:
    """The positions with the hidden states that predict the tokens `targets`: each one before a target. (B, T) bool."""
    return F.pad(targets[:, 1:], (0, 1))


def hidden_states(model: PreTrainedModel, batch: Batch, read: Tensor | None = None) -> Tensor:
    """The backbone's last hidden state, (B, T, H). With position_ids: GPT-2's positions are absolute.

    `read`, (B, T) bool, says which of them the caller reads; where it is False they may be anything (`last_layer`).
    A backbone that takes none (BLOOM, Mamba) has no positions, or reads them from the mask. Where the model allows it
    the pass is made without padding, with each distinct prompt once (`trees`).
    """
    if can_pack(model):
        multiple_of = ROUND_WIDTH if remembers_shapes(model.dtype, model.device) else 1
        hidden_size = model.config.get_text_config().hidden_size
        packing = pack(batch, hidden_size, multiple_of=multiple_of, cost_of_tree=cost_of_tree(model))
        if packing is not None:
            return packed_hidden_states(model, packing, read)
    with reading(model, read):
        return plain_hidden_states(model, batch)


def plain_hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """`hidden_states` of the batch as it is laid out, padding included."""
    backbone: Any = backbone_of(model)
    positions = {"position_ids": batch.position_ids + first_position(model)} if takes(backbone, "position_ids") else {}
    out = backbone(input_ids=batch.ids, attention_mask=batch.attention_mask.long(), use_cache=False, **positions)
    return out.last_hidden_state  # type: ignore[no-any-return]


def takes(model: nn.Module, argument: str) -> bool:
    """True if the model's forward has an argument of this name."""
    return argument in _arguments(type(model).forward)


@lru_cache
def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """The model's logits for hidden states of its backbone, float32 or wider, (N, H) -> (N, V)."""
    if not is_linear(model):
        return at_least_float32(own_logits(model, hidden))
    weight, bias = output_layer(model)
    return _linear_logits(hidden, weight, bias)


@torch.no_grad()
def token_kl(policy: PreTrainedModel, reference: PreTrainedModel, batch: Batch) -> TokenKL:
    """KL terms of each response token at temperature 1, in nats; both models see the same batch in the same forward.

    A model against itself gives exactly 0 in every column. Where one output layer is padded beyond the other, both
    distributions are those over the tokens that both have; a token drawn beyond them counts as 0.
    """
    mask = target_mask(batch, whole_sequence=False)
    targets = batch.ids[mask]
    models, read = (policy, reference), read_for(mask)
    sides = [hidden_states(model, _known_to(model, batch), read)[read] for model in models]
    columns: tuple[list[Tensor], ...] = ([], [], [])
    rows = max(1, CHUNK_ELEMENTS // output_width(policy))
    for start in range(0, targets.shape[0], rows):
        part = slice(start, start + rows)
        logits = [logits_of(model, hidden[part]) for model, hidden in zip(models, sides, strict=True)]
        common = min(side.shape[-1] for side in logits)  # an output layer may be padded beyond the tokenizer
        (p, probability), (q, _) = (log_and_softmax(side[:, :common]) for side in logits)
        known = targets[part] < common
        picked = targets[part, None].clamp(max=common - 1)
        columns[0].append(torch.where(known, p.gather(1, picked).squeeze(1), 0.0))
        columns[1].append(torch.where(known, q.gather(1, picked).squeeze(1), 0.0))
        # a token that the policy cannot produce adds nothing, whatever the reference thinks of it
        columns[2].append((probability * torch.where(p.isneginf(), 0.0, p - q)).sum(-1))
    zeros = torch.zeros(mask.shape, dtype=_wide(sides[0].dtype), device=mask.device)
    return TokenKL(*(zeros.masked_scatter(mask, torch.cat(c)) if c else zeros for c in columns))


def _known_to(model: PreTrainedModel, batch: Batch) -> Batch:
    """The batch with tokens beyond the model's embedding, which only padding of another model's has, as its last."""
    return batch._replace(ids=batch.ids.clamp(max=model.get_input_embeddings().weight.shape[0] - 1))


def output_width(model: PreTrainedModel) -> int:
    """How many logits the model gives."""
    layer: Any = model.get_output_embeddings()
    return int(model.config.get_text_config().vocab_size if layer is None else layer.weight.shape[0])


# Estimates of KL(pi || ref) from samples of pi, of the log-ratio log pi - log ref of each, any shape
# (J. Schulman, "Approximating KL Divergence", 2020).


def kl_k1(log_ratio: Tensor) -> Tensor:
    """The log-ratio itself: unbiased, negative as often as not where the models are close."""
    return log_ratio


def kl_k2(log_ratio: Tensor) -> Tensor:
    """Half its square: biased, by a share that vanishes with the distance, and of low variance. Sees no direction."""
    return log_ratio**2 / 2


def kl_k3(log_ratio: Tensor) -> Tensor:
    """r - 1 - log r, r = ref / pi: never negative, and unbiased where pi can draw all that ref can."""
    return torch.expm1(-log_ratio) + log_ratio


def chunked_logps(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, inverse_temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability and entropy of each target, and whether no other token is likelier (bool, no gradient).

    hidden (N, H), weight (V, H), targets (N,) -> (N,) each.
    """
    count = targets.shape[0]
    extra = 0
    if remembers_shapes(hidden.dtype, hidden.device):
        extra = -count % (ROUND_ROWS_OF_LARGE if len(weight) > LARGE_VOCABULARY else ROUND_ROWS)
    hidden, targets = F.pad(hidden, (0, 0, 0, extra)), F.pad(targets, (0, extra))
    out = _ChunkedLogps.apply(hidden, weight, bias, targets, inverse_temperature)  # type: ignore[no-untyped-call]
    logps, entropy, correct = out
    return logps[:count], entropy[:count], correct[:count]


def _next_token(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, inverse_temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities of the next token, (n, H) -> (n, V) each: logits in the hidden state's
    precision, everything after in float32 or wider."""
    logits = _linear_logits(hidden, weight, bias)
    return log_and_softmax(logits if inverse_temperature == 1.0 else logits * inverse_temperature)


def log_and_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax, in the place of `logits`, and softmax over the last dimension, with one exponential for both."""
    logits.sub_(logits.amax(-1, keepdim=True))
    p = logits.softmax(-1)
    # the likeliest token's logit is 0 now, so that its log-probability is what all logits lack
    return logits.add_(p.amax(-1, keepdim=True).log_()), p


def _linear_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.to(hidden.dtype).T
    return at_least_float32(logits if bias is None else logits + bias)


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32, or as it is in float64: what a float64 model computes is not rounded on the way."""
    return x.to(_wide(x.dtype))


def _wide(dtype: torch.dtype) -> torch.dtype:
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

    parts = _parts(len(targets), output_width(model)) or [slice(0, 0)]
    chunks = [checkpoint(of_chunk, hidden[part], targets[part], use_reentrant=False) for part in parts]
    logps, entropy, correct = (torch.cat(column) for column in zip(*chunks, strict=True))
    return logps, entropy, correct


class _ChunkedLogps(torch.autograd.Function):
    """log softmax(h W^T + b)[target] and the entropy, a chunk of positions at a time.

    The backward pass computes each chunk again; where one chunk is all, it is kept instead.

    Backward, with p the softmax, l its log, H the entropy and s the inverse temperature:
        d logp / d logits = s (onehot - p),     d H / d logits = -s p (l + H).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, inverse_temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = product_dtype(hidden.dtype, hidden.device)
        ctx.inverse_temperature, ctx.dtype = inverse_temperature, dtype
        logps = torch.empty(targets.shape, dtype=_wide(dtype), device=hidden.device)
        entropy = torch.empty_like(logps)
        correct = torch.empty_like(targets, dtype=torch.bool)
        parts = _parts(targets.shape[0], weight.shape[0])
        with torch.autocast(hidden.device.type, enabled=False):
            low, small = hidden.to(dtype), weight.to(dtype)
            for part in parts:
                log_p, p = _next_token(low[part], small, bias, inverse_temperature)
                logps[part] = log_p.gather(1, targets[part, None]).squeeze(1)
                entropy[part] = -(p * log_p).sum(-1)
                correct[part] = logps[part] >= log_p.amax(-1)  # many times faster than argmax
        ctx.save_for_backward(hidden, weight, small, bias, targets)
        ctx.only_chunk = (log_p, p) if len(parts) == 1 and any(ctx.needs_input_grad) else None
        ctx.mark_non_differentiable(correct)
        return logps, entropy, correct

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_logps, grad_entropy, _ = grads
        hidden, weight, small, bias, targets = ctx.saved_tensors
        low = hidden.to(ctx.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight: Tensor | None = None
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=_wide(bias.dtype))
        with_entropy = bool(grad_entropy.any())
        for part in _parts(targets.shape[0], weight.shape[0]):
            if ctx.only_chunk is None:
                log_p, p = _next_token(low[part], small, bias, ctx.inverse_temperature)
            else:
                log_p, p = ctx.only_chunk
            if with_entropy:
                entropy = -(p * log_p).sum(-1, keepdim=True)
                extra = -grad_entropy[part, None] * p * (log_p + entropy)
            grad_logits = p * -grad_logps[part, None]
            grad_logits.scatter_add_(1, targets[part, None], grad_logps[part, None])
            if with_entropy:
                grad_logits += extra
            if ctx.inverse_temperature != 1.0:
                grad_logits *= ctx.inverse_temperature
            if grad_bias is not None:
                grad_bias += grad_logits.sum(0)
            cast = grad_logits.to(ctx.dtype)
            grad_hidden[part] = (cast @ small).to(hidden.dtype)
            product = (cast.T @ low[part]).to(_wide(weight.dtype))
            grad_weight = product if grad_weight is None else grad_weight.add_(product)
        bias_out = None if bias is None or grad_bias is None else grad_bias.to(bias.dtype)
        weight_out = torch.zeros_like(weight) if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden, weight_out, bias_out, None, None


def _parts(rows: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // vocabulary // ROUND_ROWS) * ROUND_ROWS
    return [slice(start, start + size) for start in range(0, rows, size)]
