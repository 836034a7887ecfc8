"""Dialogues to token ids and masks.

One convention throughout: a mask is True where something counts. Prompt and response are tokenised alone and joined,
so no token straddles the boundary. Masks are made here, once, and carried along; they are never rebuilt from
`ids != pad`, because GPT-2 has no pad token and pads with its end-of-text token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf_bench.modeling.special import LINE_END, line_end_ids, prefix_ids, text_pieces, without_special

ROUND_WIDTH = 16  # batches are padded to a multiple of this


class Encoded(NamedTuple):
    """Token ids of one prompt and one response; `response` ends with end-of-text unless it was cut or never ended."""

    prompt: list[int]
    response: list[int]
    prompt_cut: bool = False
    response_cut: bool = False

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.response)


class Batch(NamedTuple):
    """Padded sequences. Masks are True where a token counts."""

    ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, T) bool: real tokens, prompt and response
    response_mask: Tensor  # (B, T) bool: response tokens, end token included
    position_ids: Tensor  # (B, T) int64: 0 at the first real token, whatever the padding

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(tensor.to(device) for tensor in self))


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], *, max_prompt: int
) -> list[tuple[list[int], bool]]:
    """Ids of each prompt as it is written, cut from the left to `max_prompt` tokens, and whether it was cut.

    What the tokenizer puts in front of a text by itself stays there. A prompt of the data, which has known turns, is
    cut by `Template.encode_prompts`.
    """
    kept = len(prefix_ids(tokenizer))
    rows = prompt_ids(tokenizer, prompts)
    return [(cut_left(row, max_prompt, kept=kept), len(row) > max_prompt) for row in rows]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Ids of each prompt as it is written.

    What the tokenizer puts in front of a text by itself is there once, whether or not the prompt's template writes it.
    No end token is added.
    """
    prefix = prefix_ids(tokenizer)
    return [ids if ids[: len(prefix)] == prefix else [*prefix, *ids] for ids in token_ids(tokenizer, prompts)]


def cut_left(ids: list[int], room: int, *, kept: int) -> list[int]:
    """The first `kept` ids and as many of the last as `room` leaves."""
    if len(ids) <= room:
        return ids
    kept = min(kept, room)
    return ids[:kept] + ids[len(ids) - (room - kept) :]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    max_prompt: int,
    max_response: int,
    ended: Sequence[bool] | None = None,
    end_id: int | None = None,
) -> list[Encoded]:
    """Tokenise prompts and responses, as they are written, separately; cut prompts from the left and `join` them."""
    heads = encode_prompts(tokenizer, prompts, max_prompt=max_prompt)
    return join(tokenizer, heads, responses, max_response=max_response, ended=ended, end_id=end_id)


def join(
    tokenizer: PreTrainedTokenizerBase,
    heads: Sequence[tuple[list[int], bool]],
    responses: Sequence[str],
    *,
    max_response: int,
    ended: Sequence[bool] | None = None,
    end_id: int | None = None,
) -> list[Encoded]:
    """Prompts' ids, and whether each was cut, with the tokens of their responses and an end token each.

    The end token is `end_id`, the template's (`Template.end_id`); end-of-text where it is None. Responses are cut from
    the right; a cut response loses its end token. `ended[i]` False says that response i never ended, so that no end
    token is added. An empty prompt becomes one end-of-text token: a causal model needs a first token to predict from.
    """
    eos = tokenizer.eos_token_id
    end = eos if end_id is None else end_id
    encoded = []
    answers = continued_ids(tokenizer, responses)
    for i, ((prompt, prompt_cut), response) in enumerate(zip(heads, answers, strict=True)):
        if ended is None or ended[i]:
            response = [*response, end]
        encoded.append(
            Encoded(prompt or [eos], response[:max_response], prompt_cut, response_cut=len(response) > max_response)
        )
    return encoded


def count_truncated(rows: Iterable[Encoded]) -> dict[str, int]:
    """How many prompts and responses were cut, for the log."""
    rows = list(rows)
    return {
        "prompts_cut": sum(row.prompt_cut for row in rows),
        "responses_cut": sum(row.response_cut for row in rows),
    }


def collate(
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    side: Literal["left", "right"] = "right",
    multiple_of: int = ROUND_WIDTH,
) -> Batch:
    """Pad rows to one length, rounded up to `multiple_of` (few distinct shapes are fast)."""
    width = -(-max(row.length for row in rows) // multiple_of) * multiple_of
    shape = (len(rows), width)
    ids, positions = np.full(shape, pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    real, response = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for i, row in enumerate(rows):
        start = 0 if side == "right" else width - row.length
        end = start + row.length
        ids[i, start:end] = row.prompt + row.response
        real[i, start:end] = True
        response[i, start + len(row.prompt) : end] = True
        positions[i, start:end] = np.arange(row.length)
    return Batch(*(torch.from_numpy(array) for array in (ids, real, response, positions)))


def length_batches(
    lengths: Sequence[int], batch_size: int, *, rng: np.random.Generator | None = None, pool: int = 50
) -> Iterator[list[int]]:
    """Indices in batches of similar length.

    With `rng`: shuffled, then sorted within pools of `pool` batches, then the batches shuffled: little padding and an
    order that is still random. Without: sorted over everything, longest first. Every index appears exactly once.
    """
    if rng is None:
        order = np.argsort(np.asarray(lengths), kind="stable")[::-1]
        yield from (chunk.tolist() for chunk in _chunks(order, batch_size))
        return
    batches: list[list[int]] = []
    for group in _chunks(rng.permutation(len(lengths)), batch_size * pool):
        by_length = group[np.argsort(np.asarray(lengths)[group], kind="stable")]
        batches += [chunk.tolist() for chunk in _chunks(by_length, batch_size)]
    yield from (batches[i] for i in rng.permutation(len(batches)))


def _chunks(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[i : i + size] for i in range(0, len(array), size)]


def continued_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text as it goes on after another: without the space that some tokenizers put in front of a text."""
    before = line_end_ids(tokenizer)
    if not before:
        return token_ids(tokenizer, texts)
    rows = token_ids(tokenizer, [f"{LINE_END}{text}" for text in texts])
    # where a line end is one token with what follows, the text alone is read
    whole = [i for i, row in enumerate(rows) if row[: len(before)] != before]
    for i, row in zip(whole, token_ids(tokenizer, [texts[i] for i in whole]), strict=True):
        rows[i] = [*before, *row]
    return [row[len(before) :] for row in rows]


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text alone, nothing added; what `as_text` marked becomes no special token. Equal texts share a list:
    many rows have one prompt."""
    pieces = {text: list(text_pieces(text)) for text in texts}
    whole = [text for text, parts in pieces.items() if not any(marked for _, marked in parts)]
    ids: dict[str, list[int]] = {}
    if whole:
        found = tokenizer(whole, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        ids = dict(zip(whole, found, strict=True))
    for text in pieces.keys() - ids.keys():
        ids[text] = []
        for piece, marked in pieces[text]:
            reader = without_special(tokenizer) if marked else tokenizer
            ids[text] += reader(piece, add_special_tokens=False, verbose=False)["input_ids"]
    return [ids[text] for text in texts]
