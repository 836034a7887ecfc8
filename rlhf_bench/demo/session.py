"""The models of a demo: what each answers, token by token, and what evaluation measures of the answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rlhf_bench.data.hh import form_prompt
from rlhf_bench.demo.spec import DemoModel, DemoSpec
from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate.scoring import scored
from rlhf_bench.modeling.heads import max_positions
from rlhf_bench.modeling.models import default_device, load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import SamplingConfig, stream
from rlhf_bench.modeling.templates import Template
from rlhf_bench.scorers import kl, reward
from rlhf_bench.scorers.base import EvalContext, LoadedModel
from rlhf_bench.types import Completion, Prompt, ResponseRow, prompt_id

LONGEST = 1024  # tokens of an answer, where the models could read more


class Numbers(NamedTuple):
    """The numbers of one answer; NaN where there is none."""

    reward: float
    kl: float  # nats, to the reference: exact at each prefix, at temperature 1, summed
    perplexity: float  # of the answer, under the reference, by token
    why: str  # there is no KL; "" where there is one


class ShownAnswer(NamedTuple):
    text: str
    n_tokens: int
    is_whole: bool = False
    ended: bool = True  # False: cut at the limit
    numbers: Numbers | None = None  # when all answers are whole


class Session:
    """A demo's models, loaded. One prompt is answered at a time."""

    def __init__(self, spec: DemoSpec) -> None:
        """Raises CheckpointError and ModelError, as loading the models does."""
        self.spec = spec
        self.reference = _load(spec.reference, spec.reference_model)
        self.models = {
            name: self.reference if model == spec.reference_model else _load(name, model)
            for name, model in spec.models.items()
        }
        rooms = (max_positions(loaded.model) - spec.max_prompt_tokens for loaded in self.models.values())
        self.longest = max(1, min([LONGEST, *rooms]))
        self.reward_models = [("reward", self._load_reward(of)) for of in [spec.reward_model] if of is not None]

    def answers(
        self, prompt: str, *, temperature: float, top_p: float, max_new_tokens: int, seed: int
    ) -> Iterator[dict[str, ShownAnswer]]:
        """What each model has written so far, after each token; at last with the numbers of all.

        The same arguments give the same answers. Raises BadValue for an empty prompt.
        """
        text = form_prompt(prompt)
        if not text:
            raise BadValue("an empty prompt given; expected a question or a request")
        sampling = self.spec.sampling().model_copy(
            update={"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens}
        )
        question = Prompt(prompt_id(text), text)
        streams = {name: self._stream(name, question, sampling, seed) for name in self.models}
        rows: dict[str, ResponseRow] = {}
        answers = dict.fromkeys(self.models, ShownAnswer("", 0))
        while streams:  # a token of each in turn
            for name in list(streams):
                row = next(streams[name], None)
                if row is None:
                    del streams[name]
                    answers[name] = answers[name]._replace(is_whole=True, ended=rows[name].ended)
                else:
                    rows[name] = row
                    answers[name] = ShownAnswer(row.response.strip(), int(row.n_tokens))
            yield dict(answers)
        yield {name: answers[name]._replace(numbers=self._numbers(rows[name], sampling)) for name in self.models}

    def _stream(self, name: str, prompt: Prompt, sampling: SamplingConfig, seed: int) -> Iterator[ResponseRow]:
        model, tokenizer, template = self.models[name]
        (given,) = template.encoded([prompt], max_prompt=sampling.max_prompt_tokens)
        sampling = sampling.model_copy(update={"stop": (*sampling.stop, *template.stop)})
        prompt_ids = given.ids or (tokenizer.eos_token_id,)  # of an empty prompt
        for completion in stream(model, tokenizer, given, sampling, seed=seed):
            yield _row(name, prompt, prompt_ids, template.read(completion.text), completion)

    def _numbers(self, row: ResponseRow, sampling: SamplingConfig) -> Numbers:
        context = EvalContext(
            origin="model", source="demo", sampling=sampling, model=self.models[row.model], reference=self.reference,
            reward_models=self.reward_models,
        )  # fmt: skip
        table, missing = scored([row], context, [reward.SCORER, kl.SCORER])
        names = ("reward", "kl_exact", "reference_logprob")
        own, divergence, logprob = (float(table[name][0]) if name in table else math.nan for name in names)
        perplexity = math.exp(-logprob / max(1, len(row.token_ids)))
        return Numbers(own, divergence, perplexity, missing.get("kl_exact", ""))

    def _load_reward(self, model: DemoModel) -> RewardModel:
        limits = {"max_prompt": self.spec.max_prompt_tokens, "max_response": self.longest}  # as in an evaluation
        return RewardModel.load(model.path, device=default_device(), template=model.template, **limits)


def _row(model: str, prompt: Prompt, prompt_ids: Sequence[int], response: str, completion: Completion) -> ResponseRow:
    return ResponseRow(
        model, 0, prompt.id, 0, prompt.text, response, finish_reason=completion.finish_reason,
        n_tokens=float(len(completion.ids)), prompt_ids=prompt_ids, token_ids=completion.drawn,
    )  # fmt: skip


def _load(name: str, model: DemoModel) -> LoadedModel:
    loaded, tokenizer = load_policy(model.path, device=default_device())
    return LoadedModel(loaded, tokenizer, Template.of(model.template or "hh", tokenizer, name=name))
