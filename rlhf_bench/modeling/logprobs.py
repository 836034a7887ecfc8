"""Log-probabilities of responses, exact KL and its estimates: the one implementation of training and evaluation.

Only response positions go through the output layer, in chunks (`chunked_logps`): neither direction ever holds batch x
length x vocabulary. All results are laid out like the batch, (B, T): the number at
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
from transformers import PreTrainedModel

from rlhf_bench.modeling.chunked_logps import (
    CHUNK_ROWS,
    at_least_float32,
    chunked_logps,
    linear_logits,
    log_and_softmax,
    own_logps,
    wide,
)
from rlhf_bench.modeling.heads import backbone_of, first_position, is_linear, output_layer, own_logits
from rlhf_bench.modeling.kernels import remembers_shapes
from rlhf_bench.modeling.last_layer import reading
from rlhf_bench.modeling.tokens import ROUND_WIDTH, Batch
from rlhf_bench.modeling.tree_attention import cost_of_tree
from rlhf_bench.modeling.trees import can_pack, pack, packed_hidden_states

CHUNK_ELEMENTS = 1 << 22  # logits of a model that are held at once where two are compared: 16 MiB in fp32


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
        mask = target_mask(batch, whole_sequence=whole_sequence)
        return self.of_hidden(hidden_states(self.model, batch, read_for(mask)), batch, mask, temperature)

    def of_hidden(self, before: Tensor, batch: Batch, mask: Tensor, temperature: float = 1.0) -> TokenLogps:
        """The same from the hidden state before each of the tokens `mask`, (N, H), for a forward that reads it for more
        than this."""
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


def hidden_states(model: PreTrainedModel, batch: Batch, read: Tensor) -> Tensor:
    """The backbone's last hidden state where `read`, (B, T) bool, is True, row by row. (N, H)

    With position_ids: GPT-2's positions are absolute. A backbone that takes none (BLOOM, Mamba) has no positions, or
    reads them from the mask. Where the model allows it the pass is made without padding, with each distinct prompt once
    (`trees`), and leaves out work for what is not read (`last_layer`).
    """
    if can_pack(model):
        multiple_of = ROUND_WIDTH if remembers_shapes(model.dtype, model.device) else 1
        hidden_size = model.config.get_text_config().hidden_size
        packing = pack(batch, hidden_size, multiple_of=multiple_of, cost_of_tree=cost_of_tree(model))
        if packing is not None:
            return packed_hidden_states(model, packing, read)
    with reading(model, read):
        return plain_hidden_states(model, batch)[read]


def plain_hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The last hidden state of the batch as it is laid out, padding included. (B, T, H)"""
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
    return linear_logits(hidden, weight, bias)


@torch.no_grad()
def token_kl(policy: PreTrainedModel, reference: PreTrainedModel, batch: Batch) -> TokenKL:
    """KL terms of each response token at temperature 1, in nats; both models see the same batch in the same forward.

    A model against itself gives exactly 0 in every column. Where one output layer is padded beyond the other, both
    distributions are those over the tokens that both have; a token drawn beyond them counts as 0.
    """
    mask = target_mask(batch, whole_sequence=False)
    targets = batch.ids[mask]
    models, read = (policy, reference), read_for(mask)
    sides = [hidden_states(model, _known_to(model, batch), read) for model in models]
    columns: tuple[list[Tensor], ...] = ([], [], [])
    rows = max(1, min(CHUNK_ROWS, CHUNK_ELEMENTS // output_width(policy)))
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
    zeros = torch.zeros(mask.shape, dtype=wide(sides[0].dtype), device=mask.device)
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
