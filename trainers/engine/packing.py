"""Several documents in one row, none of which sees another.

A document's positions begin at 0 wherever it stands, and transformers takes a step back to 0 for the border of its
block-diagonal attention mask. So log-probabilities and gradients are those of the documents one by one; what packing
saves is padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.heads import backbone_of
from rlhf_bench.modeling.logprobs import LogprobModel, TokenLogps, hidden_states
from rlhf_bench.modeling.tokens import ROUND_WIDTH, Batch, BatchWriter, Encoded, collate

__all__ = ["PackedLogprobs", "check_packing", "collate_packs", "pack"]

Pack = Sequence[Encoded]  # the documents of one row


def pack(rows: Sequence[Encoded], room: int) -> list[list[Encoded]]:
    """The rows in packs of at most `room` tokens: each, longest first, into the first pack that has room for it.

    Raises ValueError for a row longer than `room`.
    """
    packs: list[list[Encoded]] = []
    free: list[int] = []
    for row in sorted(rows, key=lambda row: -row.length):  # stable: the same rows give the same packs
        if row.length > room:
            raise ValueError(f"a row of {row.length} tokens does not fit into a pack of {room}")
        place = next((i for i, left in enumerate(free) if left >= row.length), None)
        if place is None:
            place = len(packs)
            packs.append([])
            free.append(room)
        packs[place].append(row)
        free[place] -= row.length
    return packs


def collate_packs(packs: Sequence[Pack], *, pad_id: int, multiple_of: int = ROUND_WIDTH) -> Batch:
    """One row a pack, padded on the right, (B, T). Positions count from 0 in each document, and again in the padding,
    which so is a block of its own. `attention_mask` is True where there is a document; who attends to whom is in the
    positions alone: only `PackedLogprobs` reads such a batch."""
    longest = max(sum(row.length for row in pack) for pack in packs)
    writer = BatchWriter(len(packs), longest, pad_id=pad_id, multiple_of=multiple_of)
    for i, documents in enumerate(packs):
        end = 0
        for row in documents:
            end = writer.write(i, end, row)
        writer.positions[i, end:] = np.arange(writer.width - end)
    return writer.batch()


class PackedLogprobs(LogprobModel):
    """Log-probabilities of packed documents, laid out like the batch of `collate_packs`."""

    def forward(self, batch: Batch, temperature: float = 1.0, whole_sequence: bool = False) -> TokenLogps:
        """As `LogprobModel`; the first token of each document is never a target."""
        return self.of_hidden(packed_hidden_states(self.model, batch), batch, temperature, whole_sequence)


def packed_hidden_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The backbone's last hidden state, (B, T, H). With a mask given, transformers would not look for borders."""
    backbone: Any = backbone_of(model)
    out = backbone(input_ids=batch.ids, attention_mask=None, position_ids=batch.position_ids, use_cache=False)
    return out.last_hidden_state  # type: ignore[no-any-return]


@torch.no_grad()
def check_packing(model: PreTrainedModel, where: str) -> None:
    """That a document in a row has the hidden states that it has alone.

    Raises:
        ModelError: the model's architecture does not keep documents apart.
    """
    documents = [Encoded([2, 1], [0, 1]), Encoded([1, 2], [1, 0, 2])]
    packed = packed_hidden_states(model, collate_packs([documents], pad_id=0).to(model.device))
    batch = collate(documents[1:], pad_id=0).to(model.device)
    alone, length = hidden_states(model, batch), documents[1].length
    begin = documents[0].length
    difference = (packed[0, begin : begin + length] - alone[0, :length]).abs().max()
    if not difference <= 1e-3 * alone[0, :length].abs().max():
        raise ModelError(
            f"{where}.packing: in a {model.config.model_type} model a document sees the others in its row; "
            f"expected one that keeps them apart: leave {where}.packing out"
        )
