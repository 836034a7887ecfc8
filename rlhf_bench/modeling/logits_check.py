"""Checks that log-probabilities here are made of the logits that a model's own forward gives."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from rlhf_bench.errors import ModelError
from rlhf_bench.modeling.heads import close, max_positions
from rlhf_bench.modeling.logprobs import hidden_states, logits_of
from rlhf_bench.modeling.tokens import Encoded, collate


@torch.no_grad()
def check_logits(model: PreTrainedModel, name: str) -> None:
    """Compare the logits that log-probabilities are made of, in one small batch, with those of `model(...)` for each of
    its texts alone, without padding.

    Raises:
        ModelError: they differ by more than rounding, or the model cannot be called this way.
    """
    size = int(model.get_input_embeddings().weight.shape[0])
    longest = max_positions(model)
    rows = [Encoded([i % size for i in part][:longest], []) for part in ((4, 8, 5, 10, 6), (7, 9, 12))]
    batch = collate(rows, pad_id=0, multiple_of=1).to(model.device)
    try:
        alone = [torch.tensor([row.prompt], device=model.device) for row in rows]
        own = torch.cat([model(input_ids=ids, use_cache=False).logits[0] for ids in alone])
        ours = logits_of(model, hidden_states(model, batch, batch.attention_mask))
    except Exception as error:  # whatever an architecture raises that this project does not know
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{name}: a {model.config.model_type} model cannot be evaluated here ({first[0][:150]}); expected a causal "
            "language model of transformers with a backbone and a head"
        ) from error
    if not close(ours, own) and not bool(own.isnan().any()):  # NaN is of damaged weights, and an error where it is met
        worst = float((ours.float() - own.float()).abs().max())
        raise ModelError(
            f"{name}: the logits computed here differ from those of transformers' own forward by {worst:.2g}; expected "
            "equal ones: this architecture is not supported"
        )
