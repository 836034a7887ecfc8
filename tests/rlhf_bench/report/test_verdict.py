"""The verdict in words, by hand: chains where every pair is rejected, letters where that is not so, else pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlhf_bench.report.result import Result
from rlhf_bench.report.verdict import verdict
from rlhf_bench.types import Estimate


def result(wins: str, *, seeds: int = 3, models: str = "base sft ppo grpo dpo") -> Result:
    """`wins` is "dpo>sft grpo>sft": the pairs that are told apart; each other pair of the models is tested and is not.

    The difference that 80 % of repetitions show is 0.1 for a pair that is not told apart, and 0.4 for the others.
    """
    told = [tuple(pair.split(">")) for pair in wins.split()]
    pairwise: list[dict[str, Any]] = []
    for a, b in combinations(models.split(), 2):
        value = 1.0 if (a, b) in told else -1.0 if (b, a) in told else 0.01
        found = {a, b} in [set(pair) for pair in told]
        pairwise.append(
            {
                "metric": "gold", "a": a, "b": b, "difference": Estimate(value, value - 1, value + 1, 150).to_dict(),
                "p_paired": 0.001, "p_holm": 0.01 if found else 0.05, "detectable": 0.4 if found else 0.1,
            }
        )  # fmt: skip
    manifest = {
        "suite": "s", "run": "r", "models": {name: [] for name in models.split()}, "seeds": list(range(seeds)),
        "reference": "sft", "data": {"source": "d"},
    }  # fmt: skip
    return Result(Path(), manifest, {"models": {}, "pairwise": pairwise}, pd.DataFrame({"model": []}), {})


def test_a_chain_where_every_pair_of_it_is_rejected() -> None:
    wins = "dpo>ppo dpo>grpo dpo>sft dpo>base ppo>sft ppo>base grpo>sft grpo>base sft>base"
    assert verdict(result(wins)) == [
        "On gold: dpo > ppo, grpo > sft > base (Holm p < .05; 150 prompts, 3 training seeds); ppo and grpo cannot be "
        "told apart; 80 % power for a difference of 0.10."
    ]


def test_one_pair_of_a_chain_that_is_not_rejected_breaks_it() -> None:
    """a > c, but b is told apart from neither: "a > b > c" and "a, b > c" would both be untrue."""
    (text,) = verdict(result("a>c", models="a b c"))
    assert ": a > c (Holm" in text
    assert "no other pair can be told apart" in text


def test_letters_of_overlapping_groups() -> None:
    """Not told apart are ab, bc, bd, cd, de; so the largest sets are ab, bcd and de: letters a, b and c."""
    (text,) = verdict(result("a>c a>d a>e b>e c>e", models="a b c d e"))
    assert ": a (a), b (ab), c (b), d (bc), e (c) (Holm" in text
    assert "share a letter cannot be told apart" in text
    assert " > " not in text


def test_differences_without_an_order_are_pairs() -> None:
    (text,) = verdict(result("a>b b>c c>a", models="a b c d"))
    assert ": a > b, b > c, c > a (Holm" in text
    assert "no other pair can be told apart" in text


def test_no_pair_differs() -> None:
    (text,) = verdict(result("", models="sft ppo", seeds=1))
    assert text == (
        "On gold: no two of sft, ppo can be told apart (Holm p < .05; 150 prompts, 1 training seed); "
        "80 % power for a difference of 0.10."
    )


@pytest.mark.parametrize("wins", ["a>b", "b>a"])
def test_the_direction_of_a_pair(wins: str) -> None:
    assert f"On gold: {wins[0]} > {wins[2]} (" in verdict(result(wins, models="a b"))[0]


def test_without_a_reward_the_first_number_with_a_direction() -> None:
    found = result("a>b", models="a b")
    for row in found.metrics["pairwise"]:
        row["metric"] = "rougeL"
    assert verdict(found)[0].startswith("On ROUGE-L: a > b (Holm p < .05; 150 prompts, ")


def test_nothing_tested_no_verdict() -> None:
    assert verdict(result("", models="sft")) == []
