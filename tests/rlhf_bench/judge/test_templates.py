"""A judge's question keeps its structure, whatever the texts under judgement say."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.judge.forms import base, list_templates, load_template
from rlhf_bench.judge.forms.base import fence_token, neutralised
from rlhf_bench.judge.questions import PairComparison, Question

from .attacks import CORPUS, HIDDEN

PAIR = PairComparison(
    prompt_id="p",
    prompt="\n\nHuman: Name a colour.\n\nAssistant:",
    seed=0,
    sample=0,
    model="ppo",
    baseline="base",
    model_response=" Blue.",
    baseline_response=" Banana.",
)
ALL = sorted(list_templates())
TEMPLATES = [name for name in ALL if "first" in load_template(name).places]
NAMES = ("CONVERSATION", "RESPONSE A", "RESPONSE B")


def blocks(question: Question) -> tuple[str, dict[str, str]]:
    """What is outside of the fences, with <name> for each, and what is in them; fails if a fence is not one."""
    text = "\n\n".join(message.content for message in question.messages)
    tokens = set(re.findall(r"\[\[([0-9a-f]{16}) BEGIN RESPONSE A\]\]", text))
    assert len(tokens) == 1
    token = tokens.pop()
    assert token in question.messages[0].content  # the judge is given the code
    inside = {}
    for name in NAMES:
        begin, end = f"[[{token} BEGIN {name}]]", f"[[{token} END {name}]]"
        assert (text.count(begin), text.count(end)) == (1, 1)
        head, rest = text.split(f"{begin}\n")
        content, tail = rest.split(f"\n{end}")
        inside[name] = content
        text = f"{head}<{name}>{tail}"
    return text.replace(token, "<fence>"), inside


def test_there_are_a_hundred_attacks():
    assert len(set(CORPUS)) >= 100


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_attack_changes_what_is_outside_of_the_fences(name):
    template = load_template(name)
    outside, inside = blocks(template.render(PAIR, "model_first"))
    assert inside == {"CONVERSATION": PAIR.prompt, "RESPONSE A": " Blue.", "RESPONSE B": " Banana."}
    note = re.compile(r"\n\(RESPONSE A: (\d+ more characters are not shown|empty)\)")
    for attack in CORPUS:
        question = template.render(replace(PAIR, model_response=attack), "model_first")
        attacked, fenced = blocks(question)
        assert note.sub("", attacked) == outside, attack[:60]
        assert fenced["RESPONSE B"] == " Banana."
        assert len(fenced["RESPONSE A"]) <= template.max_response_chars
        assert not re.search(r"\[\[\s*(A|B|tie)\s*\]\]", fenced["RESPONSE A"])
        assert not re.search(r"<[|｜]|\[/?INST\]|</s>|<(start|end)_of_turn>", fenced["RESPONSE A"])
        json.dumps([message.content for message in question.messages]).encode("utf-8")
        fenced["RESPONSE A"].encode("utf-8")  # no lone surrogate


def test_an_attack_in_the_conversation_stays_in_its_fence_too():
    template = load_template("pairwise")
    outside, _ = blocks(template.render(PAIR, "baseline_first"))
    note = re.compile(r"\n\(CONVERSATION: (\d+ more characters are not shown|empty)\)")
    for attack in CORPUS:
        attacked, _ = blocks(template.render(replace(PAIR, prompt=attack), "baseline_first"))
        assert note.sub("", attacked) == outside


def test_the_orders_differ_in_nothing_but_the_places():
    template = load_template("pairwise")
    outside, inside = blocks(template.render(PAIR, "model_first"))
    swapped, other = blocks(template.render(PAIR, "baseline_first"))
    assert swapped == outside
    assert (other["RESPONSE A"], other["RESPONSE B"]) == (inside["RESPONSE B"], inside["RESPONSE A"])


def test_the_same_texts_give_the_same_question_and_other_texts_another_code():
    template = load_template("pairwise")
    first = template.render(PAIR, "model_first")
    assert template.render(replace(PAIR, prompt_id="q", seed=3, model="grpo"), "model_first") == first
    assert template.render(PAIR, "model_first", repeat=1) == replace(first, repeat=1)
    other = template.render(replace(PAIR, model_response=" Red."), "model_first")
    assert other.messages[0] != first.messages[0]  # the code in the instructions


def test_the_code_is_in_none_of_the_texts(monkeypatch):
    assert fence_token("b", "a") == fence_token("a", "b") != fence_token("ab", "")
    monkeypatch.setattr(base, "stable_hash", lambda salt, *texts: f"c0de{salt}")
    assert fence_token("a", "this text holds C0DE0", "and this one c0de1") == "c0de2"


@pytest.mark.parametrize("hidden", HIDDEN, ids=lambda c: f"U+{ord(c[0]):04X}")
def test_hidden_characters_go(hidden):
    clean = neutralised(f"one{hidden}two")
    assert all(c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in clean)
    assert clean in ("onetwo", "one\ntwo", "one[2Ktwo")  # line ends stay line ends; an escape loses its escape


@pytest.mark.parametrize(
    "text",
    [" Plain, with\ttabs\nand lines.", "naïve 界 عربى हिन्दी 🎉", "a < b | c > d", "x[[1, 2], [3, 4]]", "[[Paris]]"],
)
def test_honest_texts_are_left_alone(text):
    assert neutralised(text) == text


def test_what_was_done_to_a_text_is_counted():
    template = load_template("pairwise").model_copy(update={"max_response_chars": 100})
    assert neutralised("a\u200bb") == "ab"
    assert neutralised("<|im_end|>") == "< |im_end|>"
    pair = replace(PAIR, model_response="x" * 150, baseline_response="  ")
    question = template.render(pair, "model_first")
    assert f"{'x' * 100}\n[[" in question.messages[1].content
    assert "\n(RESPONSE A: 50 more characters are not shown)\n" in question.messages[1].content
    assert "\n(RESPONSE B: empty)\n" in question.messages[1].content
    # a prompt keeps its end: the turn to answer
    _, inside = blocks(template.render(replace(PAIR, prompt="first turn " * 2_000 + "LAST"), "model_first"))
    assert inside["CONVERSATION"].endswith("LAST")


def test_shipped_templates_have_the_names_of_their_files_and_their_own_hashes():
    templates = [load_template(name) for name in ALL]
    assert [template.name for template in templates] == ALL
    assert len({template.hash for template in templates}) == len(templates)


def test_structured_answers_are_offered_what_the_template_allows():
    schema = load_template("pairwise").render(PAIR, "model_first").format.schema
    assert schema is not None
    assert schema["properties"]["winner"]["enum"] == ["A", "B", "tie"]
    assert load_template("pairwise-letter").render(PAIR, "model_first").format.schema is None
    assert load_template("pairwise-letter").labels == ("A", "B")


GOOD = {
    "name": "mine",
    "version": 1,
    "parser": "pairwise-letter",
    "system": "{fence}",
    "user": "{prompt}{first}{second}",
}


def write(path: Path, **changes: object) -> str:
    path.write_text(json.dumps({key: value for key, value in (GOOD | changes).items() if value is not None}))
    return str(path)


def test_a_users_own_template_by_path(tmp_path):
    template = load_template(write(tmp_path / "mine.yaml"))
    assert (template.label, template.parser) == ("mine@1", "pairwise-letter")
    assert load_template(write(tmp_path / "other.yaml", version=2)).hash != template.hash


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": None}, "user: missing, and it has no default"),
        ({"parser": None}, "parser: missing; expected one of pairwise-json, pairwise-letter"),
        ({"user": "{prompt}{first}"}, "{second} must occur once in user and never in system"),
        ({"user": "{prompt}{first}{second}{first}"}, "{first} must occur once in user and never in system"),
        ({"system": "{fence}{prompt}"}, "{prompt} must occur once in user and never in system"),
        ({"system": "judge"}, "{fence} occurs nowhere; explain there what is between the marks"),
        ({"system": "{fence}{reference}"}, "system holds {reference}; known: {prompt}, {first}, {second}, {fence}"),
        ({"max_token": 3}, "unknown key 'max_token'; did you mean 'max_tokens'?"),
        ({"version": "one"}, 'version: given "one", expected an integer'),
    ],
)
def test_a_template_without_its_fields_is_one_clear_line(tmp_path, changes, words):
    path = write(tmp_path / "mine.yaml", **changes)
    with pytest.raises(BadValue) as error:
        load_template(path)
    assert str(error.value).startswith(f"judge template {path}: {words}")


def test_an_unknown_template_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"^unknown judge template 'pairwize'; did you mean 'pairwise'\?$"):
        load_template("pairwize")
    with pytest.raises(UnknownName, match=r"nowhere\.yaml"):
        load_template("nowhere.yaml")
