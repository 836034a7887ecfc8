"""What is read in a judge's answer: a verdict where there is one and nothing else, and never what a response says."""

from __future__ import annotations

import json
import math

import pytest

from rlhf_bench.judge.forms import load_template
from rlhf_bench.judge.forms.base import shown
from rlhf_bench.judge.forms.pairwise import read_verdict
from rlhf_bench.judge.questions import ParsedAnswer

from .attacks import CORPUS, FAKE_VERDICTS

JSON, LETTER, LINE = (load_template(name) for name in ("pairwise", "pairwise-letter", "pairwise-reasoned"))
ALL = (JSON, LETTER, LINE)


def answer(content, **other):
    return {"content": content, "refusal": None, "finish_reason": "stop", "logprobs": None} | other


def token(text, **alternatives):
    """One entry of the API's log-probabilities; alternatives by probability."""
    top = [{"token": t.replace("_", " "), "logprob": math.log(p)} for t, p in alternatives.items()]
    return {"token": text, "logprob": math.log(max([*alternatives.values(), 1e-9])), "top_logprobs": top}


@pytest.mark.parametrize(
    ("template", "content", "winner"),
    [
        (JSON, '{"reason": "It answers.", "winner": "A"}', "first"),
        (JSON, '  {"winner": "B", "reason": ""}\n', "second"),
        (JSON, '```json\n{"reason": "x", "winner": "tie"}\n```', "tie"),
        (JSON, '```\n{"winner": "tie"}\n```', "tie"),
        (JSON, '{"reason": "It says \\"winner\\": \\"A\\", as an attack.", "winner": "B"}', "second"),
        (JSON, "A", "first"),  # a server without structured output
        (JSON, "Winner: B.", "second"),
        (LETTER, "A", "first"),
        (LETTER, " B\n", "second"),
        (LETTER, "**A**", "first"),
        (LETTER, "Response B", "second"),
        (LETTER, "[[B]]", "second"),
        (LETTER, '"A".', "first"),
        (LETTER, "<think>B looks good. A is right.</think>\nA", "first"),
        (JSON, '{"winner": "a"}', "first"),
        (JSON, '{"Winner": "TIE", "Reason": "x", "confidence": 1}', "tie"),
        (JSON, '```json {"winner": "B"} ```', "second"),
        (JSON, '{"winner": "B"}.', "second"),
        (JSON, '```json\n{"winner": "B."}\n```.', "second"),
        (JSON, 'I lean to {"winner": "A"}, but no.</think>\n{"winner": "B"}', "second"),
        (JSON, '{"reason": "A ends with </think>", "winner": "B"}', "second"),
        (LETTER, "B looks good. A is right.\n</think>\n\nA", "first"),
        (LINE, "[[A]] or so.</think>It is B.\n[[b]].", "second"),
        (LINE, "Response A says [ [B]] to sway me.\n\n[[A]]", "first"),
        (LINE, "Both are wrong.\n**[[tie]]**", "tie"),
        (LINE, "See [[Paris]]. I lean to [[B]].\n[[B]]\n", "second"),
    ],
)
def test_a_verdict_is_read(template, content, winner):
    assert read_verdict(answer(content), template) == ParsedAnswer("read", winner=winner)


@pytest.mark.parametrize("template", ALL, ids=lambda template: template.name)
@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        " \n",
        "INCORRECT",
        "CORRECT",
        "Response A is INCORRECT",
        "Response A is not better than B",
        "A better answer would be B",
        "As an AI, I cannot choose",
        "a",
        "b.",
        "C",
        "А",  # Cyrillic
        "Ａ",  # full width
        "AB",
        "A or B",
        "A\nB",
        "A, but the response says B",
        "not A",
        "Winner: A or B",
        "**A",
        "[[A",
        "(A**",
        "[[C]]",
        "Tiers",
        "I would say [[A]], but",
        "Verdict [[A]] is what response B asks for.",
        '{"winner": "A"',
        '{"winner": "A", "Winner": "B"}',
        "B looks good.</think> A</think> B",
        '{"winner": "AB"}',
        '{"winner": null}',
        '{"winner": ["A"]}',
        '{"winner": "A", "winner": "B"}',
        '{"verdict": "A"}',
        '["A"]',
        '"A" "B"',
        '{"winner": "A"} {"winner": "B"}',
        'The response says {"winner": "A"}',
        '{"winner": "A"} says the response',
        "{" * 100_000,
        '{"a":' * 100_000,
        "[" * 100_000,
        "<think>A",
        '<think>It says "</think>A".</think>\nB, then',
        "<think>x</think>y</think>\nA",
        "0.7",
        "model_1",
    ],
)
def test_what_is_no_verdict_is_unreadable(template, content):
    found = read_verdict(answer(content), template)
    assert (found.status, found.winner, found.soft) == ("unreadable", None, None)
    assert found.note


def test_a_line_template_needs_one_clear_last_line():
    for content in ("[[A]]\n[[B]]", "[[A]] and [[B]]\n[[B]]", "[[A]]\nas said", "[[A]] or not", "A", "Winner: A"):
        assert read_verdict(answer(content), LINE).status == "unreadable", content


def test_a_tie_that_was_not_offered_is_unreadable():
    assert read_verdict(answer("tie"), LETTER).note == "answered tie, which was not offered"
    assert read_verdict(answer("tie"), JSON).winner == "tie"


def test_no_attack_that_a_judge_quotes_is_read_as_a_verdict():
    for attack, template in ((attack, template) for attack in CORPUS for template in ALL):
        text = shown(attack, limit=template.max_response_chars, keep="start").text
        for content in (
            f"Response A reads: {text}",
            f"Response A reads:\n{text}",
            f"{text}\nis what response A says.",
            f'"{text}"\n\nThat is an attempt to sway me. I cannot compare the two.',
            f"> {text}\n\nI refuse to be told.",
        ):
            if not text.strip() and "reads" in content:
                continue
            found = read_verdict(answer(content), template)
            assert found.status == "unreadable", (template.name, content[:80], found)


def test_a_verdict_beside_a_quoted_attack_is_the_judges_own():
    for attack in FAKE_VERDICTS:
        text = shown(attack, limit=LINE.max_response_chars, keep="start").text
        assert read_verdict(answer(f"It says: {text}\n{text}\n[[B]]"), LINE).winner == "second", attack
        quoted = json.dumps({"reason": f"It says: {text}", "winner": "B"})
        assert read_verdict(answer(quoted), JSON).winner == "second"


def test_a_refusal_is_refused_whatever_else_it_holds():
    assert read_verdict(answer("A", refusal="I cannot help with that."), LETTER).status == "refused"
    assert read_verdict(answer(None, refusal="No."), JSON).status == "refused"
    assert read_verdict(answer("A", finish_reason="content_filter"), LETTER).status == "refused"
    assert read_verdict(answer("A", refusal=""), LETTER).status == "read"


def test_an_answer_cut_off_gives_no_verdict_unless_it_is_whole():
    assert read_verdict(answer("I think\n[[A]]", finish_reason="length"), LINE).note == "cut off by max_tokens"
    assert read_verdict(answer('{"reason": "I th', finish_reason="length"), JSON).status == "unreadable"
    assert read_verdict(answer("A", finish_reason="length"), LETTER).winner == "first"


# soft preferences


def test_soft_preference_from_the_alternatives_of_the_letter():
    # P(A) = .6, P(B) = .1 + .1 (" B" is B too), the rest is no label: .6 / .8
    logprobs = [token("A", A=0.6, B=0.1, _B=0.1, The=0.2)]
    assert read_verdict(answer("A", logprobs=logprobs), LETTER).soft == pytest.approx(0.75)


def test_soft_preference_of_a_tie_counts_half():
    # (.2 + .5/2) / (.2 + .3 + .5) = .45
    logprobs = [token('{"'), token("winner"), token('": "'), token("tie", A=0.2, B=0.3, tie=0.5), token('"}')]
    found = read_verdict(answer('{"winner": "tie"}', logprobs=logprobs), JSON)
    assert (found.winner, found.soft) == ("tie", pytest.approx(0.45))


def test_soft_preference_is_read_at_the_verdict_not_at_an_earlier_letter():
    texts = ['{"reason": "', "A", " is", ' \\"winner\\"', '", "winner": "']
    logprobs = [*(token(text, A=0.99, B=0.01) for text in texts), token("B", A=0.1, B=0.9), token('"}')]
    found = read_verdict(answer('{"reason": "A is \\"winner\\"", "winner": "B"}', logprobs=logprobs), JSON)
    assert (found.winner, found.soft) == ("second", pytest.approx(0.1))
    lines = [token("A is [[B]]?\n[["), token("B", A=0.3, B=0.7), token("]]")]
    assert read_verdict(answer("A is [[B]]?\n[[B]]", logprobs=lines), LINE).soft == pytest.approx(0.3)


def test_a_label_outside_of_the_alternatives_counts_as_improbable():
    assert read_verdict(answer("B", logprobs=[token("B", B=0.9, The=0.1)]), LETTER).soft == 0.0


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        [{}],
        [{"token": "A"}],
        [{"token": "A", "logprob": None, "top_logprobs": []}],
        [{"token": "A", "logprob": -0.1, "top_logprobs": None}],
        [token("B", A=0.2, B=0.8)],  # not the tokens of this answer
        [token("Answer A", A=0.2, B=0.8)],
        "A",
    ],
)
def test_log_probabilities_that_do_not_fit_give_no_soft_preference(logprobs):
    assert read_verdict(answer("A", logprobs=logprobs), LETTER) == ParsedAnswer("read", winner="first")
