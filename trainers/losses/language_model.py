"""Loss of language models, as a pure function of tensors."""

from __future__ import annotations

from torch import Tensor


def nll_loss(logps: Tensor, mask: Tensor, *, tokens: int | Tensor) -> Tensor:
    """Negative log-likelihood of the tokens where mask is True, divided by `tokens` (arXiv:2203.02155).

    logps, mask: (B, T). `tokens` is the count over the whole optimiser step, not over this micro-batch, so that
    accumulated micro-batches give the gradient of the whole.
    """
    return -(logps * mask).sum() / tokens
