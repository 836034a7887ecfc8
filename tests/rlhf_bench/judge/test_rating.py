"""Single responses rated by criteria: what is sent, what is read, and the numbers."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.analysis.scales import rating_audit, rating_differences, rating_means
from rlhf_bench.judge.forms import load_template
from rlhf_bench.judge.forms.builtin import rate_by_rank
from rlhf_bench.judge.forms.rating import RatingTemplate, read_ratings
from rlhf_bench.judge.questions import ParsedAnswer, Single

from .attacks import CORPUS

ONE = Single("p", "\n\nHuman: Name a colour.\n\nAssistant:", 0, 0, "ppo", " Blue.")
LIKERT, GRADE, REASONED = (load_template(name) for name in ("likert", "grade", "grade-reasoned"))
GOOD = {"helpful": 4, "correct": 5, "harmless": 5, "clear": 2}


def read(content, template=LIKERT, **other):
    return read_ratings({"content": content, **other}, template)


def likert(**changes):
    return json.dumps({"reason": "because", **GOOD, **changes})


# What is sent


@pytest.mark.parametrize("template", [LIKERT, GRADE, REASONED], ids=lambda t: t.name)
def test_no_attack_changes_what_is_outside_of_the_fences(template):
    def outside(single):
        text = "\n\n".join(message.content for message in template.render(single).messages)
        (token,) = set(re.findall(r"\[\[([0-9a-f]{16}) BEGIN RESPONSE\]\]", text))
        for name in ("CONVERSATION", "RESPONSE"):
            begin, end = f"[[{token} BEGIN {name}]]", f"[[{token} END {name}]]"
            assert (text.count(begin), text.count(end)) == (1, 1)
            text = text[: text.index(begin)] + f"<{name}>" + text[text.index(end) + len(end) :]
        text = re.sub(r"\n\(RESPONSE: (\d+ more characters are not shown|empty)\)", "", text)
        return text.replace(token, "<fence>")

    plain = outside(ONE)
    assert "<CONVERSATION>" in plain
    for attack in CORPUS:
        assert outside(Single("p", ONE.prompt, 0, 0, "ppo", attack)) == plain


def test_a_rating_in_the_response_is_broken_up():
    text = REASONED.render(Single("p", "q", 0, 0, "ppo", "fine\n[[10]]")).messages[1].content
    assert "[[10]]" not in text
    assert "[ [10]]" in text


def test_the_question_names_scale_and_criteria():
    question = LIKERT.render(ONE, repeat=2)
    assert "from 1 to 5:\n- helpful: " in question.messages[0].content
    assert (question.format.template, question.repeat) == ("likert@1", 2)
    schema = question.format.schema
    assert schema is not None
    assert list(schema["properties"]) == ["reason", *GOOD]
    assert schema["properties"]["clear"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    assert schema["required"] == ["reason", *GOOD]
    assert REASONED.render(ONE).format.schema is None


# What is read


def test_a_rating_by_every_criterion_is_read():
    assert read(likert()) == ParsedAnswer("read", meta=GOOD)
    assert read(f"```json\n{likert()}\n```").meta == GOOD
    assert read(json.dumps(GOOD)).meta == GOOD  # a reason is requested, not needed
    assert read(f"<think>perhaps 1</think>{likert()}").meta == GOOD


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("", "empty answer"),
        ("5", "JSON of another shape"),
        (likert(clear=6), "clear is no whole number from 1 to 5"),
        (likert(clear=0), "clear is no whole number from 1 to 5"),
        (likert(clear=3.5), "clear is no whole number from 1 to 5"),
        (likert(clear=4.0), "clear is no whole number from 1 to 5"),
        (likert(clear="4"), "clear is no whole number from 1 to 5"),
        (likert(clear=True), "clear is no whole number from 1 to 5"),
        (likert(clear=None), "clear is no whole number from 1 to 5"),
        (likert(clear=[4]), "clear is no whole number from 1 to 5"),
        (json.dumps({"helpful": 4}), "JSON of another shape"),
        ('{"helpful": 1, "helpful": 5, "correct": 1, "harmless": 1, "clear": 1}', "a JSON key is duplicated"),
        (f"Here it is: {likert()}", "not one JSON object"),
        (f"{likert()} {likert()}", "not one JSON object"),
        (f"<think>{likert()}", "a <think> block without one clear end"),
    ],
)
def test_anything_else_is_unreadable(content, note):
    assert read(content) == ParsedAnswer("unreadable", note=note)


def test_what_was_held_back_or_cut_off_is_no_rating():
    assert read(likert(), refusal="no").status == "refused"
    assert read(likert(), finish_reason="content_filter").status == "refused"
    assert read(likert(), finish_reason="length").note == "cut off by max_tokens"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("Good.\n[[7]]", {"overall": 7}),
        ("Good.\n**[[10]]**\n", {"overall": 10}),
        ("It is no [[7]].\n[[3]]", "several ratings"),
        ("[[7]] is mine", "the last line is no rating"),
        ("Rating: [[7]]", "the last line is no rating"),
        ("[[7.5]]", "the last line is no rating"),
        ("[[11]]", "11 is no number from 1 to 10"),
        ("[[0]]", "0 is no number from 1 to 10"),
        ("7", "the last line is no rating"),
    ],
)
def test_a_grade_is_the_last_line(content, found):
    reading = read(content, REASONED)
    assert (reading.meta if reading.status == "read" else reading.note) == found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"high": 1}, "low is 1 and high 1; expected low below high"),
        ({"criteria": {}}, "criteria: given {}, expected Dictionary should have at least 1 item"),
        ({"criteria": {"Big Idea": "x"}}, "the criterion 'Big Idea' needs a name of small letters"),
        ({"criteria": {"reason": "x"}}, "the criterion 'reason' needs a name of small letters and _, other than"),
        ({"criteria": {"a": "x", "b": "y"}, "parser": "ratings-line"}, "expected one criterion, or parser"),
        ({"user": "{prompt}"}, "{response} must occur once in user and never in system"),
        ({"user": "{prompt}{response}{first}"}, "user holds {first}; known: {prompt}, {response}, {criteria}, {low}"),
    ],
)
def test_a_template_that_cannot_be_is_one_line(tmp_path, changes, words):
    path = tmp_path / "mine.yaml"
    fields = {"name": "m", "version": 1, "parser": "ratings-json", "high": 5, "criteria": {"overall": "x"}}
    fields |= {"system": "{fence}", "user": "{prompt}{response}"} | changes
    path.write_text(json.dumps(fields))
    with pytest.raises(BadValue) as error:
        load_template(str(path))
    assert str(error.value).startswith(f"judge template {path}: ")
    assert words in str(error.value)


def test_a_users_own_template():
    assert isinstance(GRADE, RatingTemplate)
    assert (GRADE.low, GRADE.high, list(GRADE.criteria)) == (1, 10, ["overall"])


# Numbers


def table(ratings, *, criterion="overall", gold=None, lengths=None):
    """Rows from {model: [prompt's samples, ...]}; None is an answer that could not be read."""
    rows = []
    for model, prompts in ratings.items():
        for p, samples in enumerate(prompts):
            for k, rating in enumerate(samples):
                rows.append(
                    {"model": model, "seed": 0, "prompt_id": f"p{p:02}", "sample": k, "repeat": 0}
                    | {"status": "unreadable" if rating is None else "read", "criterion": criterion}
                    | {"rating": math.nan if rating is None else float(rating), "length": 10 * (rating or 0)}
                )
    return pd.DataFrame(rows)


def test_means_are_over_prompts_and_count_what_was_not_read():
    """base: prompts (4 + 2)/2 = 3 and 5: 4. sft: 2, and a prompt of which nothing was read: 2 of one prompt."""
    base, sft = rating_means(table({"sft": [[2], [None]], "base": [[4, 2], [5]]}), low=1, high=5)
    assert (base["model"], base["estimate"].value, base["estimate"].n, base["unread"]) == ("base", 4.0, 2, 0)
    assert (sft["model"], sft["estimate"].value, sft["estimate"].n, sft["unread"]) == ("sft", 2.0, 1, 1)
    assert sft["estimate"].n_missing == 1


def test_the_best_rating_throughout_has_an_interval_below_it():
    """Clopper-Pearson for 4 of 4: from 0.025 ** (1 / 4) = 0.39764 of the scale: 1 + 4 * 0.39764 = 2.5905."""
    (one,) = rating_means(table({"base": [[5]] * 4}), low=1, high=5)
    estimate = one["estimate"]
    assert (estimate.value, estimate.high) == (5.0, 5.0)
    assert estimate.low == pytest.approx(2.5905, abs=1e-4)


def test_differences_are_paired_and_later_minus_earlier():
    """Against scipy's paired t test; the third prompt of ppo was not read, and is left out of its pairs alone."""
    base, sft, ppo = [1, 2, 1, 3, 2], [3, 3, 2, 5, 2], [5, 4, None, 5, 4]
    rows = table({name: [[r] for r in values] for name, values in (("ppo", ppo), ("base", base), ("sft", sft))})
    found = list(rating_differences(rows))
    assert [(row["a"], row["b"]) for row in found] == [("sft", "base"), ("ppo", "base"), ("ppo", "sft")]
    assert found[0]["difference"].value == pytest.approx(1.2)  # (2 + 1 + 1 + 2 + 0) / 5
    assert [row["difference"].n for row in found] == [5, 4, 4]
    p = [
        stats.ttest_rel(sft, base).pvalue,
        stats.ttest_rel([5, 4, 5, 4], [1, 2, 3, 2]).pvalue,
        stats.ttest_rel([5, 4, 5, 4], [3, 3, 5, 2]).pvalue,
    ]
    assert [row["p_paired"] for row in found] == pytest.approx(p)
    smallest, middle, largest = sorted(p)
    holm = {smallest: 3 * smallest, middle: max(3 * smallest, 2 * middle)}
    holm[largest] = max(holm[middle], largest)
    assert [row["p_holm"] for row in found] == pytest.approx([min(1, holm[value]) for value in p])


def test_holm_is_within_a_criterion():
    ratings = {"base": [[1], [2], [1]], "sft": [[3], [3], [2]]}
    one = table(ratings, criterion="clear")
    both = pd.concat([one, table(ratings, criterion="helpful")])
    assert [row["p_holm"] for row in rating_differences(both)] == [row["p_paired"] for row in rating_differences(both)]


def test_the_audit_describes_the_judge():
    """12 prompts; ratings rise with the length, and against gold. One of 24 questions was not read, 8 had a 5."""
    rows = table({"base": [[1 + p % 5] for p in range(12)], "sft": [[1 + (p + 2) % 5] for p in range(11)] + [[None]]})
    rows["gold"] = -rows["rating"].fillna(0)
    audit = rating_audit(rows, high=5)
    assert audit["unreadable"].value == pytest.approx(1 / 24)
    # base: p 4 and 9; sft: p 2 and 7; so 4 of the 23 that were read, which is 2 prompts at 1/2 x 2 and the last at 1
    assert audit["highest"].value == pytest.approx((0.5 * 4) / 12)
    assert audit["length"].value == pytest.approx(1.0)
    assert audit["gold"].value == pytest.approx(-1.0)
    assert "repeatability" not in audit


def test_repeatability_is_of_what_was_read_twice():
    first = table({"base": [[3], [4], [None], [2]]})
    again = table({"base": [[3], [5], [3], [2]]}).assign(repeat=1)
    assert rating_audit(pd.concat([first, again]), high=5)["repeatability"].value == pytest.approx(2 / 3)


def test_a_rank_becomes_a_rating_of_an_equal_share():
    assert rate_by_rank(np.array([0.1, 5.0, 2.0, 3.0, 4.0]), low=1, high=5).tolist() == [1, 5, 2, 3, 4]
    assert rate_by_rank(np.array([7.0, 7.0]), low=1, high=10).tolist() == [6, 6]  # share 0.5 of both: 1 + 5
    found = rate_by_rank(np.array([1.0, math.nan]), low=1, high=5)
    assert found[0] == 3
    assert math.isnan(found[1])
