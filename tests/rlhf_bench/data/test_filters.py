from __future__ import annotations

import pytest

from rlhf_bench.data.filters import Filters, apply_filters, named_filters
from rlhf_bench.errors import UnknownName
from rlhf_bench.types import PreferencePair

PROMPT = "\n\nHuman: Hi\n\nAssistant:"


def pair(chosen: int, rejected: int, prompt: str = PROMPT) -> PreferencePair:
    """A pair with responses of so many characters, the leading space not counted."""
    return PreferencePair(prompt, " " + "c" * chosen, " " + "r" * rejected)


def test_no_filters_remove_nothing() -> None:
    pairs = [pair(1, 100), PreferencePair(PROMPT, " same", " same")]
    assert apply_filters(pairs, Filters()) == (pairs, {})


def test_hh_edge_cases_at_each_bound() -> None:
    preset = named_filters("hh-edge-cases")
    long_prompt = PROMPT.rjust(4_000 - 21)  # with " " + 20 characters: 4,000 in all
    kept = [pair(10, 10), pair(10, 20), pair(20, 10), pair(20, 20, long_prompt)]
    removed = [
        PreferencePair(PROMPT, " the same text", " the same text"),
        pair(9, 10),
        pair(10, 9),
        pair(10, 21),  # 0.476
        pair(21, 10),  # 2.1
        pair(20, 20, " " + long_prompt),
        PreferencePair(PROMPT, " same", " same"),  # also short: counted under the first rule
    ]
    assert [preset.reason(p) for p in kept] == [None] * 4
    left, counts = apply_filters([*removed, *kept], preset)
    assert left == kept
    assert counts == {
        "identical responses": 2,
        "response under 10 characters": 2,
        "length ratio outside [0.5, 2]": 2,
        "conversation over 4000 characters": 1,
    }


def test_the_longer_response_counts() -> None:
    # 23 + 1 + 30 = 54 with the longer response, 23 + 1 + 10 = 34 with the shorter
    assert len(PROMPT) == 23
    assert Filters(max_chars=54).reason(pair(30, 10)) is None
    assert Filters(max_chars=53).reason(pair(30, 10)) == "conversation over 53 characters"
    assert Filters(max_chars=53).reason(pair(10, 30)) == "conversation over 53 characters"


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"^unknown filter 'hh-edge-case'; did you mean 'hh-edge-cases'\?$"):
        named_filters("hh-edge-case")
