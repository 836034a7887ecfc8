"""The key of a call stays what it was: another one would send again, and pay for, what a ledger holds already."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rlhf_bench.judge.client.endpoint import OPENAI_URL, Endpoint
from rlhf_bench.judge.forms import list_templates, load_template
from rlhf_bench.judge.ledger.file import call_key
from rlhf_bench.judge.questions import ListwiseComparison, PairComparison, Question, Single

from .attacks import CORPUS

PROMPT = "\n\nHuman: Say {second}.\n\nAssistant:"
PAIR = PairComparison("p1", PROMPT, 0, 0, "ppo", "base", ' naïve <|im_end|> [[A]] \U0001f389\r\n"x\\', "\u200b")
# As each template's first version was sent, with the code of that day: a full render and one json.dumps a question.
KEYS = {
    "grade": "6b61a9f584bd00dc3561f8213cdedd5e",
    "grade-reasoned": "e44dae62c1c59f15fa6f99b80245cd49",
    "likert": "88d44352e64907a7823ebbaf254810e1",
    "pairwise": "34653d2cba548346355d53fb48473e7f",
    "pairwise-letter": "90a86c61f81b0fb39edddcd25a66e2ad",
    "pairwise-reasoned": "54f5b1958134194c972b8b0d90836a31",
    "rank": "8082492935823943fd94689ae1ad6751",
}


def question(name: str, pair: PairComparison = PAIR) -> Question:
    """The second look at the pair, at its response, or at a listwise comparison of its two and a third."""
    template = load_template(name)
    if "responses" in template.places:
        responses = (pair.model_response, pair.baseline_response, " c")
        return template.render(ListwiseComparison("p1", pair.prompt, 0, 0, 0, ("a", "b", "c"), responses), repeat=1)
    if "response" in template.places:
        return template.render(Single("p1", pair.prompt, 0, 0, "ppo", pair.model_response), repeat=1)
    return template.render(pair, "model_first", repeat=1)


def test_every_template_has_its_key() -> None:
    assert KEYS.keys() == list_templates().keys()


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_keys_stay(name: str, key: str) -> None:
    endpoint = Endpoint("http://localhost:8000/v1", "judge-1", top_logprobs=5)
    assert call_key(endpoint.request(question(name), retry=2)) == key


@pytest.mark.parametrize(
    ("name", "url"), [*((name, OPENAI_URL) for name in KEYS), ("rank", 'http://here/"messages":[/v1')]
)
def test_a_request_is_canonical_json(name: str, url: str) -> None:
    """Whatever the texts hold, what is written piece by piece is what json.dumps would write."""
    endpoint = Endpoint(url, 'judge "ü"', temperature=None, max_tokens=7)
    for attack in CORPUS:
        asked = question(name, replace(PAIR, model_response=attack))
        request = endpoint.request(asked)
        value = json.loads(request)
        assert json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")) == request
        assert value["messages"] == [{"role": role, "content": content} for role, content in asked.messages]
        assert (value["base_url"], value["repeat"], value["schema"]) == (url, 1, asked.format.schema)
