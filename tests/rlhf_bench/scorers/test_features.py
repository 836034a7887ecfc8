"""The features of a response, each by hand, and the tags of a pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlhf_bench.scorers.features import (
    FEATURES,
    feature_differences,
    feature_table,
    prompt_length,
    similarity,
    tags,
    turns,
)

LOG2, LOG3 = math.log(2), math.log(3)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("length", " Don't stop, 2 of us.", math.log(6)),  # five words
        ("hedging", " Perhaps it might work.", LOG3),
        ("hedging", " It works.", 0),
        ("assertiveness", " Of course. It is definitely so.", LOG3),
        ("politeness", " Thank you for asking. I am happy to help.", LOG3),
        ("flattery", " Great question! You are so smart.", LOG3),
        ("flattery", " The question is whether it works.", 0),
        ("exclamation", " Yes! Yes!", LOG3),
        ("refusal", " I can’t help with that.", 1),  # a curly apostrophe
        ("refusal", " It works." + " So it goes." * 20 + " I cannot say.", 0),  # beyond the first 200 characters
        ("list_form", " Do this:\n- one\n2. two", LOG3),
        ("list_form", " It is 5 - 2.", 0),
        ("markdown", " **Bold** and `code`.", LOG3),
        ("question", " Why? How?", LOG3),
        ("first_person", " I'd say that my cat is fine.", LOG3),
        ("numbers", " From 3 to 4.5.", LOG3),
        ("toxicity", " Shut up, that is silly.", LOG3),
    ],
)
def test_a_feature_by_hand(name: str, text: str, expected: float) -> None:
    assert FEATURES[name](text) == pytest.approx(expected)


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_says_what_it_counts_and_is_0_for_nothing(name: str) -> None:
    assert FEATURES[name].__doc__
    assert FEATURES[name]("") == 0


def test_features_of_a_pair() -> None:
    """One shared word, "tea", of three: 1/3."""
    assert similarity("Green tea.", "Black tea!") == pytest.approx(1 / 3)
    assert similarity("", "") == 1
    assert turns("\n\nHuman: Hi\n\nAssistant: Hi\n\nHuman: Tea?\n\nAssistant:") == 2
    assert turns("Tea?") == 1
    assert prompt_length("one two") == pytest.approx(LOG3)


def test_differences_change_sign_with_the_sides_and_tags_name_them() -> None:
    one, other = [" Yes!"], [" Perhaps."]
    assert np.array_equal(feature_differences(one, other), -feature_differences(other, one))
    assert feature_table([]).shape == (0, len(FEATURES))
    assert tags(feature_differences(one, other)[0]) == ["more hedging", "less exclamation"]
