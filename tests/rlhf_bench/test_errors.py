from __future__ import annotations

import pytest

from rlhf_bench.errors import UnknownName, nearest

KNOWN = ["base", "sft", "ppo", "grpo", "dpo", "reward", "kl_exact", "n_words", "hh-edge-cases"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sftt", "sft"),  # one letter too many
        ("bas", "base"),  # one too few
        ("pqo", "ppo"),  # another one
        ("rewrad", "reward"),  # two neighbours swapped
        ("SFT", "sft"),
        ("kl_exakkt", "kl_exact"),  # two slips in nine letters
        ("hh-egde-cass", "hh-edge-cases"),
        ("words", "n_words"),  # a whole word of it
        ("kl_mean", None),  # five letters differ
        ("xyz", None),
        ("a", None),
        ("", None),
        ("rewards_of_all", None),
    ],
)
def test_a_name_is_suggested_where_a_slip_or_two_explain_it(given: str, meant: str | None) -> None:
    assert nearest(given, KNOWN) == meant


def test_without_a_close_name_all_are_listed() -> None:
    assert str(UnknownName("stage", "rlhf", ["sft", "dpo"])) == "unknown stage 'rlhf'; known: dpo, sft"
    assert str(UnknownName("stage", "sftt", ["sft", "dpo"])) == "unknown stage 'sftt'; did you mean 'sft'?"
    assert str(UnknownName("key", "a.b", ["c"], meant="c")) == "unknown key 'a.b'; did you mean 'c'?"
