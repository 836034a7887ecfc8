"""Strings that end a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase


class Stops:
    """Finds stop strings in what has been drawn.

    Decoding every row at every step would be slow: only a token with the string's last character can complete a stop
    string, so only rows that just drew such a token are decoded.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(s for s in stop if s)
        last = {s[-1] for s in self.stop}
        texts = _token_texts(tokenizer) if last else []
        self.closing = torch.tensor([not last.isdisjoint(text) for text in texts] or [False])

    def candidates(self, tokens: Tensor, running: Tensor) -> list[int]:
        """The running rows that have just drawn a token which may complete a stop string."""
        if not self.stop:
            return []
        closing = self.closing.to(tokens.device)
        known = tokens < closing.shape[0]  # an output layer may be padded beyond the tokenizer
        return (closing[tokens.clamp(max=closing.shape[0] - 1)] & known & running).nonzero().squeeze(1).tolist()

    def find(self, ids: list[int]) -> int | None:
        """How many leading tokens lie wholly before the first stop string, or None if there is none."""
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        found = [i for i in (text.find(s) for s in self.stop) if i >= 0]
        if not found:
            return None
        before = text[: min(found)]
        for kept in range(len(ids), -1, -1):
            if before.startswith(self.tokenizer.decode(ids[:kept], clean_up_tokenization_spaces=False)):
                return kept
        return 0


_texts: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()


def _token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of each token alone; decoded once a tokenizer, which takes seconds where it has 100,000."""
    known = _texts.get(tokenizer)
    if known is None or len(known) != len(tokenizer):
        known = _texts[tokenizer] = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return known
