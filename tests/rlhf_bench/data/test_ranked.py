"""Ranked responses: detected, turned into pairs, annotators compared, and what is wrong with a row in one line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.data import PreferenceData, Reader
from rlhf_bench.data.ranked import RankedResponses, Which, agreement, kendalls_w, to_pairs
from rlhf_bench.errors import DataError

PROMPT = "\n\nHuman: why\n\nAssistant:"


def ranked(ranks: Sequence[int | None], annotator: str | None = None, prompt: str = PROMPT) -> RankedResponses:
    return RankedResponses(prompt, tuple(f" {name}" for name in "abcdefg"[: len(ranks)]), tuple(ranks), annotator)


def letters(row: RankedResponses, which: Which = "all") -> list[str]:
    """Each pair as "ab": a chosen, b rejected."""
    return [(pair.chosen + pair.rejected).replace(" ", "") for pair in to_pairs(row, which)[0]]


def load(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> PreferenceData:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Reader(str(path), **options).load("all")


def row(ranking: Any, responses: Any = ("a", "b", "c"), **more: Any) -> dict[str, Any]:
    return {"prompt": "why", "responses": responses, "ranking": ranking, **more}


# pairs


def test_every_two_responses_make_a_pair_the_better_chosen() -> None:
    assert letters(ranked([2, 1, 3])) == ["ba", "ac", "bc"]
    assert to_pairs(ranked([2, 1, 3]))[1] == {}


def test_adjacent_ranks_alone() -> None:
    assert letters(ranked([2, 1, 3, 4]), "adjacent") == ["ba", "ac", "cd"]
    assert to_pairs(ranked([2, 1, 3, 4]), "adjacent")[1] == {"not adjacent": 3}  # ad, bc, bd
    # b and c share the second place: both are next to a and to d
    assert letters(ranked([1, 2, 2, 4]), "adjacent") == ["ab", "ac", "bd", "cd"]


def test_ties_and_unranked_responses_are_in_no_pair_and_counted() -> None:
    assert letters(ranked([1, 2, 2])) == ["ab", "ac"]
    assert to_pairs(ranked([1, 2, 2]))[1] == {"tie": 1}
    assert letters(ranked([1, None, 2])) == ["ac"]
    assert to_pairs(ranked([1, None, 2]))[1] == {"unranked response": 2}
    assert to_pairs(ranked([1])) == ([], {"one response": 1})


# a source


def test_a_ranked_file_is_known_by_its_columns(tmp_path: Path) -> None:
    rows = [row([2, 1, 3], annotator="eve"), row([1, 1, 3], annotator=7), row([1], ["alone"], annotator=None)]
    data = load(tmp_path / "a.jsonl", rows)
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in data.pairs] == [
        (PROMPT, " b", " a"), (PROMPT, " a", " c"), (PROMPT, " b", " c"), (PROMPT, " a", " c"), (PROMPT, " b", " c"),
    ]  # fmt: skip
    assert [dict(pair.meta) for pair in data.pairs] == [{"annotator": "eve"}] * 3 + [{"annotator": "7"}] * 2
    assert data.counts == {"read": 7, "tie": 1, "one response": 1}  # comparisons: 3 + 3 + 1
    assert data.notes[:3] == [
        "columns prompt, responses, ranking, annotator: prompt, responses and their ranks, 1 the best",
        "3 ranked rows into 5 pairs (all)",
        # sums of ranks 3.5, 2.5, 6, mean 4: S = 6.5, T = 6: 78 / 84; ac and bc are ordered by both, and alike
        "agreement between annotators over 1 prompts: Kendall's W 0.93, 100% of comparisons alike",
    ]


def test_adjacent_pairs_of_a_file(tmp_path: Path) -> None:
    data = load(tmp_path / "a.jsonl", [row([1, 2, 3])], ranked="adjacent")
    assert [(pair.chosen, pair.rejected) for pair in data.pairs] == [(" a", " b"), (" b", " c")]
    assert data.counts == {"read": 3, "not adjacent": 1}


def test_a_csv_holds_its_lists_as_json_and_columns_can_be_named(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["instruction", "answers", "places"], ["why", '["a", "b"]', "[2, 1]"]])
    columns = {"responses": "answers", "ranking": "places"}
    data = Reader(str(tmp_path / "a.csv"), columns=columns).load("all")
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in data.pairs] == [(PROMPT, " b", " a")]


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    rows = [row([1, 2, 3]), row([1, 2, 3], ["a", " ", "c"]), {**row([1, 2]), "prompt": " ", "responses": ["a", "b"]}]
    data = load(tmp_path / "a.jsonl", rows)
    assert data.counts == {"read": 7, "empty response": 2, "empty prompt": 1}
    assert len(data) == 4


RANKS = "expected ranks from 1 (the best) without a gap, a tie sharing its rank: [1, 2, 2, 4] or [1, 2, 2, 3]"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row([1, 2, 4]), f"has [1, 2, 4] as 'ranking'; {RANKS}"),
        (row([0, 1, 2]), f"has [0, 1, 2] as 'ranking'; {RANKS}"),
        (row([1, 1, 4]), f"has [1, 1, 4] as 'ranking'; {RANKS}"),
        (row([1, None, 3]), f"has [1, null, 3] as 'ranking'; {RANKS}"),
        (row([1.5, 1, 3]), f"has [1.5, 1, 3] as 'ranking'; {RANKS}"),
        (row([True, 2, 3]), f"has [True, 2, 3] as 'ranking'; {RANKS}"),
        (row([1, 2]), "has 3 responses and 2 ranks; expected a rank for each (1 the best, null for one "
                      "that was not ranked)"),
        (row([1, 2, 3], "abc"), "has a str as 'responses', expected a list"),
        (row([], []), "has a list as 'responses', expected a list of texts"),
        (row([1, 2, 3], ["a", 2, "c"]), "has a list as 'responses', expected a list of texts"),
        (row(None), "has nothing as 'ranking', expected a list"),
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path / "a.jsonl", [row([1, 2, 3]), wrong])
    assert f"a.jsonl: 1 of 2 rows cannot be used (row 2 {message})" in str(error.value)


# agreement


def test_kendalls_w_worked_by_hand() -> None:
    assert kendalls_w([[1, 2, 3], [1, 2, 3], [1, 2, 3]]) == 1.0
    assert kendalls_w([[1, 2, 3], [3, 2, 1]]) == 0.0
    # sums 2, 5, 5, mean 4: S = 4 + 1 + 1; 12 * 6 / (4 * 24)
    assert kendalls_w([[1, 2, 3], [1, 3, 2]]) == 0.75
    # ranks 1, 2.5, 2.5: sums 2, 4.5, 5.5: S = 4 + .25 + 2.25; T = 2^3 - 2; 78 / (4 * 24 - 2 * 6)
    assert kendalls_w([[1, 2, 2], [1, 2, 3]]) == pytest.approx(78 / 84)
    assert math.isnan(kendalls_w([[1, 1], [1, 1]]))


def test_agreement_is_over_prompts_that_several_have_ranked() -> None:
    rows = [
        ranked([1, 2, 3], "eve"), ranked([1, 3, 2], "joe"),  # W .75; ab and ac alike, bc not
        ranked([1, 2], "eve", "another prompt"),  # by one annotator
        ranked([1, None, 2], "ann"),  # not all of them
        ranked([3, 2, 1]),  # without an annotator's name
    ]  # fmt: skip
    found = agreement(rows)
    assert found == (0.75, pytest.approx(2 / 3), 1)
    # the same responses in another order are the same responses
    turned = RankedResponses(PROMPT, (" c", " b", " a"), (2, 3, 1), "joe")
    assert agreement([rows[0], turned]) == found
    assert agreement(rows[2:]).prompts == 0


# one annotator twice


def test_one_annotator_who_ranks_a_prompt_in_two_ways(tmp_path: Path) -> None:
    """Of the same responses in any order; another annotator, and one without a name, may differ."""
    named = {"ann": [1, 2, 3], "bob": [2, 1, 3], None: [1, 2, 3], "": [3, 2, 1]}
    rows = [row(ranks, annotator=name) for name, ranks in named.items()]
    assert len(load(tmp_path / "fine.jsonl", [*rows, row([3, 2, 1], annotator="cy")]).pairs) == 15
    again = row([1, 2, 3], responses=("c", "b", "a"), annotator="ann")
    with pytest.raises(DataError) as error:
        load(tmp_path / "f.jsonl", [*rows, again])
    assert "row 5 ranks the same responses as row 1 of annotator 'ann' in another way" in str(error.value)


def test_one_annotator_who_says_the_same_twice_counts_once(tmp_path: Path) -> None:
    """[1, 2, 2, 4] and [1, 2, 2, 3] are one ranking: 5 pairs of 6 comparisons and a tie, and 6 that are left out."""
    four = ("a", "b", "c", "d")
    rows = [row([1, 2, 2, 4], four, annotator=7), row([3, 2, 2, 1], four[::-1], annotator=7)]
    data = load(tmp_path / "f.jsonl", rows)
    assert len(data.pairs) == 5
    assert data.counts == {"read": 12, "tie": 1, "ranking repeated by its annotator": 6}
