"""A tokenizer's special tokens: what precedes a text, what ends a response, what text may not become.

Text of the data that spells a special token is text. `as_text` marks such places, and tokenising (tokens.py) reads them
as ordinary characters; what a template writes between them are the tokens themselves.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

# Unicode noncharacters: reserved for such use inside a program, and in no text.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_prefixes: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()
_plain: WeakKeyDictionary[Any, PreTrainedTokenizerBase] = WeakKeyDictionary()
_line_ends: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()
LINE_END = "\n"


def prefix_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts in front of a text by itself: Llama's, Gemma's and Mistral's beginning of sequence."""
    known = _prefixes.get(tokenizer)
    if known is None:
        known = _prefixes[tokenizer] = _prefix(tokenizer)
    return known


def _prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    whole, bare = ([*tokenizer("a", add_special_tokens=add)["input_ids"]] for add in (True, False))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []


def line_end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of a line end alone, for a tokenizer that puts a space in front of a text by itself (SentencePiece's of
    Llama 2, Mistral, Phi-3); none for others.

    A text that goes on after another has no such space: it is tokenised, and decoded, after a line end, which is then
    left out.
    """
    known = _line_ends.get(tokenizer)
    if known is None:
        first = tokenizer.convert_ids_to_tokens([*tokenizer("a", add_special_tokens=False)["input_ids"]][:1])
        spaced = bool(first) and str(first[0]).startswith("\u2581")
        known = [*tokenizer(LINE_END, add_special_tokens=False)["input_ids"]] if spaced else []
        _line_ends[tokenizer] = known
    return known


def continued_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of tokens that go on after others; a decoder that drops a text's first space drops none of theirs."""

    def decoded(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    before = line_end_ids(tokenizer)
    return decoded([*before, *ids])[len(decoded(before)) :] if before else decoded(ids)


def as_text(tokenizer: Any, text: str) -> str:
    """`text` with what spells one of the tokenizer's special tokens marked as text."""
    special = _special(tokenizer)
    if not any(token in text for token in special):
        return text
    bare = text.replace(_OPEN, "").replace(_CLOSE, "")
    longest_first = sorted(map(re.escape, special), key=len, reverse=True)
    return re.sub("|".join(longest_first), lambda match: f"{_OPEN}{match[0]}{_CLOSE}", bare)


def _special(tokenizer: Any) -> dict[str, int]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).items()
    return {str(token): i for i, token in added if token.special and str(token)}


def text_pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and of each whether it was marked by `as_text`."""
    for i, piece in enumerate(re.split(f"{_OPEN}(.*?){_CLOSE}", text, flags=re.DOTALL)):
        if piece:
            yield piece, i % 2 == 1


def without_special(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer as it reads text that spells a special token: a copy, since the switch is a state that threads
    would share."""
    known = _plain.get(tokenizer)
    if known is None:
        known = _plain[tokenizer] = copy.deepcopy(tokenizer)
        known.split_special_tokens = True
    return known


def first_special(tokenizer: Any, text: str) -> int | None:
    """The id of the special token that `text` begins with; None where it begins with another."""
    starts = [(len(token), i) for token, i in _special(tokenizer).items() if text.startswith(token)]
    return max(starts)[1] if starts else None


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> list[int]:
    """Every token that ends a response: the tokenizer's end-of-text, those of generation_config.json, and those of
    `stop` that are one special token."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = named if isinstance(named, list) else [named]
    strings = _special(tokenizer)
    every = [tokenizer.eos_token_id, *listed, *(strings.get(text) for text in stop)]
    return list(dict.fromkeys(int(i) for i in every if i is not None))


def generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_id: int | None = None
) -> GenerationConfig:
    """What is saved as generation_config.json: what the model has, with what it lacks.

    Its ends of a response are kept; the tokenizer's and `end_id`, the one that it learned, are added.
    """
    config = GenerationConfig.from_dict(model.generation_config.to_dict())
    ends = list(dict.fromkeys([*end_ids(model, tokenizer), *([] if end_id is None else [end_id])]))
    config.eos_token_id = ends[0] if len(ends) == 1 else ends
    for name in ("bos_token_id", "pad_token_id"):
        if getattr(config, name) is None:
            setattr(config, name, getattr(tokenizer, name))
    if config.do_sample is None:
        config.do_sample = True
    return config
