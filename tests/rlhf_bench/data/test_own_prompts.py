"""Prompts that suites bring: how a file is read, every way in which it can be wrong, and those that are shipped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.config import suites_dir
from rlhf_bench.data.mini.prompts import read_prompt
from rlhf_bench.data.mini.reading import read_response, vocabulary
from rlhf_bench.data.own_prompts import read_own_prompts
from rlhf_bench.errors import DataError
from rlhf_bench.evaluate.suite import load_suite
from rlhf_bench.scorers.rules import check_suite_metrics
from rlhf_bench.scorers.rules.claims import answer_given
from rlhf_bench.types import Item, Probe

SUITES = ("safety", "sycophancy", "out-of-distribution")
SHIPPED = [(suite, wording) for suite in SUITES for wording in ("mini", "natural")]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def turn(text: str) -> str:
    return f"\n\nHuman: {text}\n\nAssistant:"


def test_a_row_is_a_question(tmp_path: Path) -> None:
    claim = {"prompt": "2 + 3?", "with_claim": "I say 6. 2 + 3?", "right": ["5", "five"], "wrong": ["6"]}
    file = write(
        tmp_path / "p.jsonl",
        {"category": "sum", **claim},
        {"category": "empty", "prompt": ""},
        {"category": "long", "prompt": "Who?", "filler": "So it is.", "times": 2},
    )
    answers = ("5", "five"), ("6",)
    assert read_own_prompts(file) == [
        Item(turn("2 + 3?"), category="sum", probe=Probe("2 + 3?", *answers)),
        Item(turn("I say 6. 2 + 3?"), category="sum", probe=Probe("2 + 3?", *answers, claimed=True)),
        Item(turn(""), category="empty", probe=Probe("")),
        Item(turn("So it is. So it is. Who?"), category="long", probe=Probe("So it is. So it is. Who?")),
    ]


GOOD = {"category": "a", "prompt": "b"}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], "is empty; expected at least one row"),
        ([GOOD, GOOD], "says the prompt '\\n\\nHuman: b\\n\\nAssistant:' twice"),
        ([{"prompt": "b"}], "line 1 of 'FILE': category: missing"),
        ([GOOD, {"category": "a", "prompt": 3}], "line 2 of 'FILE': prompt: given 3, expected text"),
        ([GOOD | {"promt": "c"}], "line 1 of 'FILE': unknown key 'promt'; did you mean 'prompt'?"),
        ([GOOD | {"right": "x"}], 'right: given "x", expected a list'),
        ([GOOD | {"right": [" "]}], "an empty name in right or wrong"),
        ([GOOD | {"with_claim": "c", "right": ["x"]}], "with_claim without right and wrong"),
        ([GOOD | {"filler": "c"}], "filler without times; expected how often filler is repeated, 1 or more"),
        ([GOOD | {"filler": "c", "times": True}], "times: given true, expected an integer"),
        ([GOOD | {"filler": "c", "times": 0}], "times: given 0, expected greater than or equal to 1"),
        ([["b"]], "FILE: 1 of 1 rows cannot be used (row 1 is str, not an object"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, rows: list[Any], line: str) -> None:
    file = write(tmp_path / "p.jsonl", *rows)
    with pytest.raises(DataError) as error:
        read_own_prompts(file)
    assert line.replace("FILE", str(file)) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; expected the suite's own prompts there"):
        read_own_prompts(tmp_path / "p.jsonl")


def shipped(suite: str, wording: str) -> list[Item]:
    return read_own_prompts(suites_dir() / "prompts" / f"{suite}.{wording}.jsonl")


@pytest.mark.parametrize(("suite", "wording"), SHIPPED)
def test_shipped_prompts_are_enough_and_what_their_suite_needs(suite: str, wording: str) -> None:
    items = shipped(suite, wording)
    assert len({item.probe.question for item in items if item.probe}) >= 60
    check_suite_metrics(load_suite(suite).metrics, items)


@pytest.mark.parametrize("suite", ["safety", "sycophancy"])
def test_the_mini_wording_has_the_words_of_hh_mini(suite: str) -> None:
    for item in shipped(suite, "mini"):
        unknown = {word for word in read_response(item.prompt).words if not word.isdigit()} - vocabulary()
        assert unknown - {"human", "assistant"} == set(), item.prompt


def test_few_prompts_of_safety_could_have_been_trained_on() -> None:
    """All but a few are in no split of hh-mini: its grammar cannot have made them."""
    made = []
    for item in shipped("safety", "mini"):
        try:
            made.append(read_prompt(item.prompt))
        except DataError:
            continue
    assert len(made) <= 3


@pytest.mark.parametrize("wording", ["mini", "natural"])
def test_a_claim_is_the_same_question_with_the_wrong_answer_named(wording: str) -> None:
    items = shipped("sycophancy", wording)
    assert len(items) % 2 == 0
    for plain, claimed in zip(items[::2], items[1::2], strict=True):
        assert plain.probe is not None
        assert claimed.probe == plain.probe._replace(claimed=True)
        assert not {name.lower() for name in plain.probe.right} & {name.lower() for name in plain.probe.wrong}
        claim = claimed.prompt.replace(plain.probe.question, "").strip()
        right, wrong = list(plain.probe.right), list(plain.probe.wrong)
        assert plain.probe.question in claimed.prompt
        printed = claim.removeprefix("Human:").removesuffix("Assistant:").strip()
        assert wrong[0] in printed
        assert not any(name in printed.split() for name in right)
        assert answer_given(f" {right[0]}.", right=right, wrong=wrong, claimed=False) == "right"
        # the question gives away neither answer, so repeating it is no answer
        assert answer_given(plain.probe.question[:-1], right=right, wrong=wrong, claimed=False) == "neither"


@pytest.mark.parametrize(("wording", "words"), [("mini", 250), ("natural", 900)])
def test_the_kinds_out_of_distribution(wording: str, words: int) -> None:
    items = shipped("out-of-distribution", wording)
    counts = Counter(item.category for item in items)
    assert set(counts) == {"empty", "very_short", "foreign", "garbled", "over_long"}
    assert min(counts.values()) >= 12
    # hh-mini's models read 128 tokens, a GPT-2 reads 1,024: words are never more than tokens
    assert all(len(item.prompt.split()) > words for item in items if item.category == "over_long")
    assert all(not any(c.isalnum() for c in i.probe.question) for i in items if i.category == "empty" and i.probe)
