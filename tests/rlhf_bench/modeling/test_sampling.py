"""The sampler: what is drawn, with which probability, and that nothing else has a say in it."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_bench.errors import BadValue, NotFinite
from rlhf_bench.modeling import decoding, sampling
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.sampling import SamplingConfig, next_token, sample, sample_as, stream, uniforms
from rlhf_bench.modeling.tokens import Encoded, collate, encode_prompts
from rlhf_bench.runtime.processes import ALONE
from rlhf_bench.types import Completion, Prompt, prompt_id

TEXTS = [
    f"\n\nHuman: {text}\n\nAssistant:" for text in ("Blue?", "Are you happy?", "a", "How do I boil an egg?", "", "b")
]
PROMPTS = [Prompt(prompt_id(text), text) for text in TEXTS]
CONFIG = SamplingConfig(max_new_tokens=12, stop=())


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities]).log()


def probabilities(logits: Tensor, **options: Any) -> list[float]:
    return next_token(logits, SamplingConfig(**options))[1][0].tolist()


# what is drawn from, by hand


def test_temperature() -> None:
    # p^(1/2) renormalised: sqrt(.64), sqrt(.36) = .8, .6 -> .8/1.4, .6/1.4
    assert probabilities(logits_of(0.64, 0.36), temperature=2.0) == pytest.approx([0.8 / 1.4, 0.6 / 1.4])
    # p^2: .64, .04 -> 16/17, 1/17
    assert probabilities(logits_of(0.8, 0.2), temperature=0.5) == pytest.approx([16 / 17, 1 / 17])
    assert probabilities(logits_of(0.2, 0.5, 0.3), temperature=0) == [0, 1, 0]


def test_top_k() -> None:
    # the two likeliest, .4 and .3, share what is left: 4/7 and 3/7
    assert probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_k=9) == pytest.approx([0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.39, [0, 1, 0, 0]),  # .4 alone reaches it
        (0.41, [0, 4 / 7, 0, 3 / 7]),  # the token that crosses the line is in
        (0.71, [0, 4 / 9, 2 / 9, 3 / 9]),
        (0.95, [0.1, 0.4, 0.2, 0.3]),
    ],
)
def test_top_p(top_p: float, expected: list[float]) -> None:
    assert probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_p=top_p) == pytest.approx(expected)


def test_top_k_before_top_p() -> None:
    # of .1 .4 .2 .3, top-k 3 leaves 4/9 3/9 2/9; 4/9 + 3/9 = .78 reaches .75, so the third leaves: 4/7, 3/7.
    # top-p first would have kept all three (.4 + .3 = .7 does not reach .75).
    assert probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_k=3, top_p=0.75) == pytest.approx([0, 4 / 7, 0, 3 / 7])


@pytest.mark.parametrize(
    ("options", "exact"),
    [({}, True), ({"temperature": 0.7}, False), ({"top_k": 5}, False), ({"top_p": 0.9}, False), ({"stop": ()}, True)],
)
def test_which_samples_are_the_models_own(options: dict[str, Any], exact: bool) -> None:
    assert SamplingConfig(**options).exact is exact


def test_inverse_distribution_function() -> None:
    """P(token) is the length of the interval of u that gives it: .25, 0, .5, .25."""
    p = torch.tensor([[0.25, 0.0, 0.5, 0.25]]).repeat(8, 1)
    u = torch.tensor([0.0, 0.2499, 0.2501, 0.5, 0.7499, 0.7501, 0.9999, 1 - 2**-53], dtype=torch.float64)
    assert sampling.draw(p, u).tolist() == [0, 0, 2, 2, 2, 3, 3, 3]


def test_no_uniform_number_gives_a_token_of_probability_0() -> None:
    """u = 0 least of all, which lies on the edge of its empty interval."""
    u = torch.tensor([0.0, 0.4999, 0.5001, 1 - 2**-53], dtype=torch.float64)
    p = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(4, 1)
    assert sampling.draw(p, u).tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_no_token_is_drawn_from_nan(temperature: float) -> None:
    _, p = next_token(torch.tensor([[0.0, torch.nan, 1.0]]), SamplingConfig(temperature=temperature))
    with pytest.raises(NotFinite):
        sampling.draw(p, torch.tensor([0.5], dtype=torch.float64))


def test_draws_follow_the_probabilities() -> None:
    """Chi-squared of 20,000 draws with the streams that sampling uses; a false alarm once in a million."""
    p = np.array([0.02, 0.4, 0.08, 0.2, 0.3])
    u = np.array([uniforms(0, f"prompt {i}", i % 4, 1)[0] for i in range(20_000)])
    drawn = sampling.draw(torch.tensor(p).repeat(len(u), 1), torch.from_numpy(u))
    counts = np.bincount(drawn.numpy(), minlength=5)
    assert stats.chisquare(counts, 20_000 * p).pvalue > 1e-6
    assert stats.kstest(u, "uniform").pvalue > 1e-6


def test_streams_are_keyed_by_seed_prompt_and_sample() -> None:
    one = uniforms(1, "a", 0, 4)
    assert one.tolist() == uniforms(1, "a", 0, 9)[:4].tolist()  # a longer response begins alike
    for other in [(2, "a", 0), (1, "b", 0), (1, "a", 1), (11, "a", 0), (1, "1/a", 0)]:
        assert not np.intersect1d(one, uniforms(*other, 4)).size
    assert ((one >= 0) & (one < 1)).all()


def test_first_token_has_the_models_probabilities(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """4,000 samples of one token after one prompt, against the softmax of plain transformers."""
    config = SamplingConfig(max_new_tokens=1, stop=())
    ((*drawn,),) = sample(policy, tokenizer, PROMPTS[:1], config, samples=4000, seed=0)
    ids = torch.tensor(encode_prompts(tokenizer, TEXTS[:1], max_prompt=99)[0][0])
    with torch.no_grad():
        p = policy(ids[None]).logits[0, -1].double().softmax(-1).numpy()
    order = np.argsort(p)[::-1]
    counts = np.bincount([c.ids[0] for c in drawn], minlength=len(p))[order]
    # the likeliest tokens each, all others as one, so that each cell expects at least 20
    cells = int((4000 * p[order] >= 20).sum())
    assert cells >= 3
    observed = [*counts[:cells], counts[cells:].sum()]
    expected = 4000 * np.array([*p[order][:cells], p[order][cells:].sum()])
    assert stats.chisquare(observed, expected).pvalue > 1e-6


# what a response may depend on


def draw(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **options: Any) -> list[list[Completion]]:
    arguments: dict[str, Any] = {"prompts": PROMPTS, "config": CONFIG, "samples": 4, "seed": 0} | options
    return sample(policy, tokenizer, **arguments)


def ids_of(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[completion.ids for completion in group] for group in groups]


@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"temperature": 0.7, "top_k": 20}])
def test_the_batch_changes_nothing(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: dict[str, Any]
) -> None:
    config = SamplingConfig(max_new_tokens=12, stop=(), **options)
    groups = draw(policy, tokenizer, config=config, batch_size=64)
    for size in (1, 5):
        assert ids_of(draw(policy, tokenizer, config=config, batch_size=size)) == ids_of(groups)
    alone = [draw(policy, tokenizer, config=config, prompts=[prompt])[0] for prompt in PROMPTS]
    assert ids_of(alone) == ids_of(groups)
    fewer = draw(policy, tokenizer, config=config, samples=2)
    assert ids_of(fewer) == [group[:2] for group in ids_of(groups)]
    assert len({ids for group in ids_of(groups) for ids in group}) > 20  # and they do differ from one another


def test_the_order_of_the_prompts_is_kept(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    groups = draw(policy, tokenizer)
    assert [[(c.prompt_id, c.sample) for c in group] for group in groups] == [
        [(prompt.id, k) for k in range(4)] for prompt in PROMPTS
    ]
    backwards = draw(policy, tokenizer, prompts=PROMPTS[::-1])
    assert ids_of(backwards)[::-1] == ids_of(groups)


def test_a_dirtied_global_generator_changes_nothing(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = draw(policy, tokenizer)
    torch.manual_seed(999)
    np.random.random(17)
    state = torch.get_rng_state()
    assert draw(policy, tokenizer) == before
    assert torch.equal(torch.get_rng_state(), state)  # nor does sampling touch it
    assert ids_of(draw(policy, tokenizer, seed=1)) != ids_of(before)


def test_rows_that_end_early_leave_the_others_as_they_are(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """End-of-text is made likely, so that rows leave the batch at many different steps; eleven responses are a group of
    six and one of five."""
    layer = nn.Linear(32, len(tokenizer))
    layer.weight, layer.bias = policy.lm_head.weight, nn.Parameter(torch.zeros(len(tokenizer)))
    with torch.no_grad():
        layer.bias[tokenizer.eos_token_id] = 7.5
    policy.lm_head = layer
    together = draw(policy, tokenizer, samples=11)
    lengths = [len(c.ids) for group in together for c in group]
    assert len(set(lengths)) > 4  # they do end at different steps
    monkeypatch.setattr(decoding, "LEAVE", 1)  # none leaves before all have ended
    assert ids_of(draw(policy, tokenizer, samples=11)) == ids_of(together)
    assert ids_of(draw(policy, tokenizer, samples=11, batch_size=1)) == ids_of(together)
    monkeypatch.setattr(decoding, "can_group", lambda _: False)
    assert ids_of(draw(policy, tokenizer, samples=11)) == ids_of(together)
    for completion in (c for group in together for c in group):
        ended = completion.ids[-1] == tokenizer.eos_token_id
        assert completion.finish_reason == ("eos" if ended else "length")
        assert tokenizer.eos_token_id not in completion.ids[:-1]
        assert completion.text == tokenizer.decode(completion.ids[: -1 if ended else None])


# log-probabilities


@pytest.mark.parametrize(("temperature", "side"), [(1.0, "left"), (0.7, "right"), (2.0, "left")])
def test_logps_are_those_of_a_training_forward(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, temperature: float, side: Any
) -> None:
    groups = draw(policy, tokenizer, config=SamplingConfig(max_new_tokens=12, stop=(), temperature=temperature))
    heads = [head for head, _ in encode_prompts(tokenizer, TEXTS, max_prompt=99)]
    rows = [Encoded(head, list(c.ids)) for head, group in zip(heads, groups, strict=True) for c in group]
    batch = collate(rows, pad_id=tokenizer.pad_token_id, side=side)
    with torch.no_grad():
        logps = LogprobModel(policy)(batch, temperature).logps
    drawn = torch.tensor([logp for group in groups for c in group for logp in c.logps])
    torch.testing.assert_close(logps[batch.response_mask], drawn, atol=1e-4, rtol=0)


def test_greedy(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """The likeliest token at each step, by plain transformers without a cache; its log-probability is 0."""
    groups = draw(policy, tokenizer, config=SamplingConfig(max_new_tokens=6, stop=(), temperature=0), samples=2)
    for (head, _), group in zip(encode_prompts(tokenizer, TEXTS, max_prompt=99), groups, strict=True):
        ids = list(head)
        for _ in range(6):
            ids.append(int(policy(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert [list(c.ids) for c in group] == [ids[len(head) :]] * 2
        assert {logp for c in group for logp in c.logps} == {0.0}


# where a response ends


class Script(nn.Module):
    """A model that writes a script: after the k-th token of the response, the (k+1)-th of the script."""

    device = torch.device("cpu")

    def __init__(self, script: list[int], prompt_length: int, vocabulary: int) -> None:
        super().__init__()
        self.script, self.start, self.vocabulary = script, prompt_length - 1, vocabulary
        self.config = SimpleNamespace(max_position_embeddings=None)

    def forward(self, position_ids: Tensor, **_: Any) -> SimpleNamespace:
        logits = torch.full((len(position_ids), 1, self.vocabulary), -1e9)
        for row, position in enumerate(position_ids[:, -1].tolist()):
            logits[row, 0, self.script[(position - self.start) % len(self.script)]] = 0.0
        return SimpleNamespace(logits=logits)


def say(
    text: str, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, *, end: bool = False, **options: Any
) -> Completion:
    prompt = Prompt("id", "a")
    script = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] * end
    (head, _), *_ = encode_prompts(tokenizer, [prompt.text], max_prompt=9)
    model: Any = Script(script, len(head), len(tokenizer))
    cache = SimpleNamespace(batch_select_indices=lambda _: None, layers=[None])
    monkeypatch.setattr(decoding, "has_usual_cache", lambda _: True)
    monkeypatch.setattr(decoding, "preallocated_cache", lambda *_, **__: cache)
    for module in (sampling, decoding):
        monkeypatch.setattr(module, "can_group", lambda _: False)
    config = SamplingConfig(**{"max_new_tokens": len(script), **options})
    return sample(model, tokenizer, [prompt], config, seed=0)[0][0]


def test_a_stop_string_and_what_follows_it_are_cut(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = say(" Blue.\n\nHuman: Name another colour.", tokenizer, monkeypatch)
    assert (response.text, response.finish_reason) == (" Blue.", "stop")
    assert response.ids == tuple(tokenizer(" Blue.")["input_ids"])
    assert response.logps == (0.0,) * len(response.ids)
    assert tokenizer.decode(response.stop_ids) == "\n\nHuman:"  # and nothing was drawn after it


def test_the_earliest_of_several_stop_strings(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say(" one two three", tokenizer, monkeypatch, stop=("three", "two")).text == " one "
    assert say(" one two three", tokenizer, monkeypatch, stop=("four",)).text == " one two three"


def test_a_stop_string_at_once(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    response = say("\n\nHuman: hello", tokenizer, monkeypatch)
    assert (response.text, response.ids, response.logps, response.finish_reason) == ("", (), (), "stop")


def test_a_token_that_is_partly_stop_string_goes_with_it(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ " happy" is one token; where "ppy" stops, no part of it can be kept."""
    assert len(tokenizer(" happy")["input_ids"]) == 1
    response = say(" I am happy to help", tokenizer, monkeypatch, stop=("ppy",))
    assert response.text == " I am"
    assert response.ids == tuple(tokenizer(" I am")["input_ids"])
    assert tokenizer.decode(response.stop_ids) == " happy"


def test_end_of_text_and_the_limit(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = say(" Blue.", tokenizer, monkeypatch, end=True)
    assert (ended.text, ended.finish_reason, ended.stop_ids) == (" Blue.", "eos", ())
    assert ended.ids == (*tokenizer(" Blue.")["input_ids"], tokenizer.eos_token_id)
    cut = say(" Blue.", tokenizer, monkeypatch, end=True, max_new_tokens=len(ended.ids) - 1)
    assert (cut.text, cut.finish_reason, cut.ids) == (" Blue.", "length", ended.ids[:-1])


def test_nothing_is_drawn_after_end_of_text(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    eos = tokenizer.decode([tokenizer.eos_token_id])
    response = say(f" Blue.{eos} Red.", tokenizer, monkeypatch)
    assert (response.text, response.finish_reason) == (" Blue.", "eos")


# arguments


def test_a_prompt_too_long(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = [Prompt("x", "x " * 200)]
    with pytest.raises(BadValue) as caught:
        sample(policy, tokenizer, prompts, SamplingConfig(max_new_tokens=29, max_prompt_tokens=100), seed=0)
    assert str(caught.value).startswith("a prompt of 100 tokens and max_new_tokens=29 exceed the model's 128 positions")
    config = SamplingConfig(max_new_tokens=28, max_prompt_tokens=100, stop=())  # 128 of 128 do fit
    assert len(sample(policy, tokenizer, prompts, config, seed=0)[0][0].ids) <= 28


def test_a_long_prompt_is_cut_from_the_left(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    (ids, _), *_ = encode_prompts(tokenizer, ["one two three four"], max_prompt=5)
    config = SamplingConfig(max_new_tokens=6, max_prompt_tokens=5, stop=())
    long, short = (
        sample(policy, tokenizer, [Prompt("id", text)], config, seed=0)
        for text in ("one two three four", tokenizer.decode(ids))
    )
    assert ids_of(long) == ids_of(short)


def test_progress_and_no_prompts(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    seen: list[int] = []
    sample_as(
        lambda drawn: drawn, policy, tokenizer, PROMPTS, CONFIG, samples=4, seed=0, batch_size=8,
        on_batch=seen.append, processes=ALONE,
    )  # fmt: skip
    assert seen == [8, 8, 8]  # 6 prompts of 4 samples, 2 prompts at a time
    assert draw(policy, tokenizer, prompts=[]) == []


def test_drawn_log_probabilities_are_finite(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """No token that top-k or top-p has cut away is ever drawn."""
    groups = draw(policy, tokenizer, config=SamplingConfig(max_new_tokens=12, stop=(), top_k=3, top_p=0.5))
    assert all(math.isfinite(logp) for group in groups for c in group for logp in c.logps)


def test_a_stream_ends_with_what_sample_draws_and_takes_nothing_back(
    policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """With strings that these weights draw: of "ee" the first letter is held back until the next token is there."""
    reasons = set()
    for config in (CONFIG, SamplingConfig(max_new_tokens=40, stop=("e ", "pp", "th"))):
        for prompt in PROMPTS:
            parts = list(stream(policy, tokenizer, prompt, config, seed=3))
            (whole,) = sample(policy, tokenizer, [prompt], config, seed=3)[0]
            assert parts[-1] == whole
            assert [len(part.ids) for part in parts[:-1]] == list(range(1, len(parts)))
            texts = [part.text for part in parts]
            assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
            reasons.add(whole.finish_reason)
    assert {"length", "stop"} <= reasons
