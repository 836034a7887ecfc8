"""What a demo is made of, and its answers: as they are drawn, and their numbers as evaluation has them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from rlhf_bench.data.hh import form_prompt
from rlhf_bench.demo.session import Session, ShownAnswer
from rlhf_bench.demo.spec import DemoSpec, demo_spec
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.evaluate.request import Request
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling.sampling import stream
from rlhf_bench.progress import Progress
from rlhf_bench.types import Prompt, prompt_id

QUESTION = "How do I boil an egg?"
PROMPT = f"\n\nHuman: {QUESTION}\n\nAssistant:"


def answers(
    session: Session, prompt: str = QUESTION, *, tokens: int = 24, seed: int = 0
) -> list[dict[str, ShownAnswer]]:
    return list(session.answers(prompt, temperature=1.0, top_p=1.0, max_new_tokens=tokens, seed=seed))


def test_models_in_the_order_given_and_examples_as_one_would_type_them(spec: DemoSpec, checkpoints: Path) -> None:
    assert list(spec.models) == ["ppo", "sft"]
    assert (spec.reference, spec.max_new_tokens) == ("sft", 24)
    prompts = {pair["prompt"] for pair in read_jsonl(checkpoints.parent / "pairs.jsonl")}
    assert len(spec.examples) == 6
    assert {form_prompt(text) for text in spec.examples} <= prompts
    assert "Human:" not in min(spec.examples, key=len)  # a single turn has no marks
    with pytest.raises(UnknownName, match="did you mean 'ppo'"):
        demo_spec(Request.of(None, checkpoints=str(checkpoints)), ["pop"], Progress(quiet=True))


def test_answers_grow_token_by_token_and_repeat(session: Session) -> None:
    found = answers(session)
    for name in session.models:
        texts = [one[name].text for one in found]
        assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
        assert [one[name].n_tokens for one in found[:3]] == [1, 2, 3]
        assert found[-1][name].is_whole
        assert [one[name].numbers is None for one in found] == [True] * (len(found) - 1) + [False]
    assert answers(session) == found
    assert answers(session, seed=1)[-1] != found[-1]


@torch.no_grad()
def test_numbers_are_those_of_a_plain_forward(session: Session) -> None:
    """Of the reference: KL 0, and its perplexity exp(-mean log p) by transformers' own logits. Of the other: the mean
    over the vocabulary of log p - log q at each token, summed. Rewards: the reward model's, of the same text."""
    settings = session.spec.sampling()
    last = answers(session)[-1]
    assert last["sft"].numbers is not None
    assert last["ppo"].numbers is not None
    assert last["sft"].numbers.kl == 0
    start = session.reference.tokenizer(PROMPT).input_ids
    for name, answer in last.items():
        assert answer.numbers is not None
        model, tokenizer, _ = session.models[name]
        *_, whole = stream(model, tokenizer, Prompt(prompt_id(PROMPT), PROMPT), settings, seed=0)
        drawn = whole.drawn
        ids = torch.tensor([[*start, *drawn]])
        own, reference = (
            one(ids).logits[0, len(start) - 1 : -1].log_softmax(-1) for one in (model, session.reference.model)
        )
        logp = reference.gather(1, ids[0, len(start) :, None]).mean()
        assert answer.numbers.perplexity == pytest.approx(math.exp(-logp), rel=1e-3)
        assert answer.numbers.kl == pytest.approx(float((own.exp() * (own - reference)).sum()), rel=1e-3, abs=1e-6)
        (_, reward), *_ = session.reward_models
        plain = reward.score([PROMPT], [whole.text], [answer.ended])
        assert answer.numbers.reward == pytest.approx(float(plain), abs=1e-4)


def test_an_empty_prompt_is_refused(session: Session) -> None:
    with pytest.raises(BadValue, match="empty prompt"):
        answers(session, "  ")
