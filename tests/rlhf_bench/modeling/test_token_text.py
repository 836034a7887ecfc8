"""Each token's place in the decoded text, by hand, for tokenizers of bytes and of words with their spaces."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf_bench.modeling.token_text import token_ends


def texts_of(text: str, ends: list[int]) -> list[str]:
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    """Words with a mark in place of the space before them, which the first word of a text loses."""
    vocabulary = {"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3, "</s>": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def test_tokens_of_bytes(tokenizer: PreTrainedTokenizerBase) -> None:
    text = " Turn the tap."
    ids = tokenizer(text)["input_ids"]
    (ends,) = token_ends(tokenizer, [[*ids, tokenizer.eos_token_id]], [text])
    assert len(ends) == len(ids) + 1
    assert texts_of(text, ends) == [*(tokenizer.decode([token]) for token in ids), ""]  # end-of-text has no place


def test_a_character_belongs_to_the_last_of_its_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """The bundled tokenizer knows no emoji: each of its four bytes is a token."""
    text = "a\U0001f600b"
    ids = tokenizer(text)["input_ids"]
    (ends,) = token_ends(tokenizer, [ids], [text])
    assert len(ids) == 6
    assert texts_of(text, ends) == ["a", "", "", "", "\U0001f600", "b"]


def test_words_whose_first_space_is_lost_and_added_again(words: PreTrainedTokenizerFast) -> None:
    (ends,) = token_ends(words, [[1, 2, 3, 4]], [" the cats"])  # decoded "the cats</s>", read as " the cats"
    assert texts_of(" the cats", ends) == [" the", " cat", "s", ""]


def test_what_a_stop_string_cut_ends_with_the_text(words: PreTrainedTokenizerFast) -> None:
    assert token_ends(words, [[1, 2, 1, 2]], ["the cat"]) == [[3, 7, 7, 7]]


def test_tokens_of_another_text_have_no_place(words: PreTrainedTokenizerFast) -> None:
    assert token_ends(words, [[1, 2], []], ["a dog", ""]) == [[], []]
