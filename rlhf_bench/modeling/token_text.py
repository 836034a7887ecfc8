"""Where each token lies in the text that its response was decoded to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from transformers import PreTrainedTokenizerBase

_BROKEN = "\ufffd"  # what a tokenizer writes for a part of a character


def token_ends(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], texts: Sequence[str]
) -> list[list[int]]:
    """The end of each token of each row in its text, in characters.

    What was drawn after the text, an end-of-text token or a stop string, ends with it. A row is empty where its tokens
    do not decode to its text.
    """
    pieces = _pieces(tokenizer, sorted({token for row in rows for token in row}))
    return [
        _ends(tokenizer, row, [pieces[token] for token in row], text) for row, text in zip(rows, texts, strict=True)
    ]


def _pieces(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> dict[int, str]:
    """The text of each token after another one: some tokenizers drop the space of the first."""
    singles = [tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in tokens]
    doubles = [tokenizer.decode([token, token], clean_up_tokenization_spaces=False) for token in tokens]
    return {token: double[len(single) :] for token, single, double in zip(tokens, singles, doubles, strict=True)}


def _ends(tokenizer: PreTrainedTokenizerBase, row: Sequence[int], pieces: Sequence[str], text: str) -> list[int]:
    ends = list(accumulate(map(len, pieces)))
    whole, words = "".join(pieces), text.strip()
    if any(_BROKEN in piece for piece in pieces) or words not in whole:
        prefixes = [tokenizer.decode(row[: k + 1], clean_up_tokenization_spaces=False) for k in range(len(row))]
        ends = [len(prefix.rstrip(_BROKEN)) for prefix in prefixes]  # a character belongs to its last token
        whole = prefixes[-1] if prefixes else ""
        if words not in whole:
            return []
    before = len(text) - len(text.lstrip()) - whole.find(words)  # a template may have added a space
    return [min(max(end + before, 0), len(text)) for end in ends]
