"""Tokens and masks, drawn as matrices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from rlhf_bench.modeling.tokens import Batch, Encoded, collate, count_truncated, encode, encode_prompts, length_batches

ROWS = [Encoded([11, 12], [13, 0]), Encoded([21], [22])]  # 0 is end-of-text and pad, as in GPT-2


def as_lists(batch: Batch) -> list[list[list[int]]]:
    return [tensor.int().tolist() for tensor in batch]


def test_collate_right() -> None:
    ids, attention, response, positions = as_lists(collate(ROWS, pad_id=0, multiple_of=5))
    assert ids == [
        [11, 12, 13, 0, 0],  # two prompt tokens, a response that ends, one pad
        [21, 22, 0, 0, 0],  # one prompt token, a response of one token that was cut, three pads
    ]
    assert attention == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
    assert response == [[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]]
    assert [row[:n] for row, n in zip(positions, (4, 2), strict=True)] == [[0, 1, 2, 3], [0, 1]]


def test_collate_left() -> None:
    ids, attention, response, positions = as_lists(collate(ROWS, pad_id=0, side="left", multiple_of=5))
    assert ids == [[0, 11, 12, 13, 0], [0, 0, 0, 21, 22]]
    assert attention == [[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert response == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
    # positions count from the first real token, wherever it is
    assert [row[-n:] for row, n in zip(positions, (4, 2), strict=True)] == [[0, 1, 2, 3], [0, 1]]


@pytest.mark.parametrize(("longest", "width"), [(1, 16), (16, 16), (17, 32)])
def test_width_is_rounded_up(longest: int, width: int) -> None:
    assert collate([Encoded([1], [2] * (longest - 1))], pad_id=0).ids.shape == (1, width)


@pytest.mark.parametrize("side", ["left", "right"])
def test_end_of_text_has_a_label(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    """Pad is end-of-text here, so a mask made from `ids != pad` would hide the label that teaches to stop."""
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = encode(
        tokenizer,
        ["\n\nHuman: a\n\nAssistant:"] * 2,
        [" Blue.", " A much longer answer."],
        max_prompt=64,
        max_response=64,
    )
    batch = collate(rows, pad_id=tokenizer.pad_token_id, side=side)  # type: ignore[arg-type]
    for row, ids, mask in zip(rows, batch.ids, batch.response_mask, strict=True):
        assert ids[mask].tolist() == row.response
        assert row.response[-1] == tokenizer.eos_token_id
        assert row.response.count(tokenizer.eos_token_id) == 1


def test_no_token_straddles_the_boundary(tokenizer: PreTrainedTokenizerBase) -> None:
    """ "hap" + "py" joined would be the one token "happy", half prompt and half response."""
    prompt, response = "\n\nHuman: Are you?\n\nAssistant: I am hap", "py to help."
    ids = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, response)}
    together = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
    assert together != ids[prompt] + ids[response]  # or this test would show nothing
    (row,) = encode(tokenizer, [prompt], [response], max_prompt=64, max_response=64)
    assert row == Encoded(ids[prompt], [*ids[response], tokenizer.eos_token_id])


def test_prompts_are_cut_left_and_responses_right(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, response = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("a b c d e", " x y z"))
    eos = tokenizer.eos_token_id
    n, m = len(prompt), len(response)

    def one(max_prompt: int, max_response: int) -> Encoded:
        return encode(tokenizer, ["a b c d e"], [" x y z"], max_prompt=max_prompt, max_response=max_response)[0]

    assert one(n, m + 1) == Encoded(prompt, [*response, eos], False, False)  # fits to the last token
    assert one(n - 1, m + 1) == Encoded(prompt[1:], [*response, eos], True, False)
    assert one(n, m) == Encoded(prompt, response, False, True)  # only end-of-text is lost, and that is a cut
    assert one(n, 2) == Encoded(prompt, response[:2], False, True)
    assert encode_prompts(tokenizer, ["a b c d e"], max_prompt=2) == [(prompt[-2:], True)]
    assert count_truncated([one(n, m), one(1, 2), one(n, m + 1)]) == {"prompts_cut": 1, "responses_cut": 2}


def test_a_response_that_never_ended_gets_no_end_of_text(tokenizer: PreTrainedTokenizerBase) -> None:
    ended, cut = encode(tokenizer, ["a"] * 2, [" x"] * 2, ended=[True, False], max_prompt=9, max_response=9)
    assert ended.response == [*cut.response, tokenizer.eos_token_id]
    assert not cut.response_cut


def test_an_empty_prompt_is_one_end_of_text(tokenizer: PreTrainedTokenizerBase) -> None:
    eos = tokenizer.eos_token_id
    assert encode(tokenizer, [""], [""], max_prompt=9, max_response=9) == [Encoded([eos], [eos])]
    assert encode(tokenizer, [], [], max_prompt=9, max_response=9) == []


def test_end_of_text_is_never_left_to_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """No special token in front, as some tokenizers add one by default."""
    ((ids, cut),) = encode_prompts(tokenizer, ["Blue."], max_prompt=64)
    assert tokenizer.decode(ids) == "Blue."
    assert not cut


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(0, 4), (1, 4), (23, 4), (24, 4), (5, 1)])
def test_each_row_is_in_one_batch(rows: int, size: int, shuffled: bool) -> None:
    lengths = [(7 * i) % 13 for i in range(rows)]
    rng = np.random.default_rng(0) if shuffled else None
    batches = list(length_batches(lengths, size, rng=rng, pool=2))
    assert sorted(itertools.chain(*batches)) == list(range(rows))
    assert all(len(batch) <= size for batch in batches)


def test_batches_are_of_similar_length() -> None:
    # longest first; equal lengths in either order
    assert [[(5, 9, 1, 8)[i] for i in batch] for batch in length_batches([5, 9, 1, 8], 2)] == [[9, 8], [5, 1]]


def test_shuffling_depends_on_the_generator_alone() -> None:
    np.random.seed(1)
    first = list(length_batches(list(range(40)), 4, rng=np.random.default_rng(3)))
    np.random.random(7)
    assert list(length_batches(list(range(40)), 4, rng=np.random.default_rng(3))) == first
    assert list(length_batches(list(range(40)), 4, rng=np.random.default_rng(4))) != first
