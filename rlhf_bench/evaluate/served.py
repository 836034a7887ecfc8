"""Responses of a model behind a server of the OpenAI API: the judge's client requests them, its ledger keeps them.

What was received is in the ledger, so that no response is requested twice and a killed evaluation goes on. A server's
own template is used by its chat API; in a template that is named the prompt is written here, for its completions API.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from rlhf_bench.data.hh import split_turns
from rlhf_bench.errors import BadValue, JudgeError, ModelError
from rlhf_bench.evaluate.models import SeedModels
from rlhf_bench.evaluate.responses import response_row
from rlhf_bench.evaluate.sources import ServerModel
from rlhf_bench.judge.client import JudgeClient, Limits, ask
from rlhf_bench.judge.client.budget import Price, load_prices, nano_dollars
from rlhf_bench.judge.client.endpoint import Endpoint, api_key
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Cap
from rlhf_bench.judge.questions import AnswerFormat, ChatMessage, Outcome, ParsedAnswer, Question, QuestionId, Role
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.writer import Writer
from rlhf_bench.types import FinishReason, Item, ResponseRow

PARSER = "response@1"
LIMITS = Limits()


class Service(NamedTuple):
    """How servers are used: where answers are kept, what they may cost, and whether lost responses are left out."""

    ledger: Path
    skip_bad: bool
    progress: Progress
    max_cost: str | None = None  # US dollars of each model over all runs; None: no limit
    max_calls: int | None = None

    def price(self, source: ServerModel) -> Price | None:
        return load_prices().find(source.model, source.base_url)

    def cap(self, source: ServerModel) -> Cap:
        """Raises BadValue for a limit in dollars on a model without a price."""
        if self.max_cost is None:
            return Cap(None, self.max_calls)
        if self.price(source) is None:
            raise BadValue(
                f"--max-cost {self.max_cost}: the price of {source.model!r} at {source.base_url} is not known; limit "
                "it with --max-calls N"
            )
        return Cap(nano_dollars("--max-cost", self.max_cost), self.max_calls)

    @contextmanager
    def client(
        self,
        source: ServerModel,
        messages: Sequence[tuple[ChatMessage, ...]],
        form: AnswerFormat,
        endpoint: Endpoint,
        read: Callable[[Mapping[str, Any]], ParsedAnswer],
    ) -> Iterator[JudgeClient]:
        """A client that sends each of `messages` to the model's server, on the model's account."""
        with closing(Ledger(self.ledger)) as ledger:
            yield JudgeClient(
                messages, endpoint, lambda text, _order, repeat=0: Question(text, form, repeat), read, form.template,
                ledger, f"{source.base_url} {source.model}", self.cap(source),
            )  # fmt: skip

    def answers(
        self, client: JudgeClient, wanted: Sequence[QuestionId], source: ServerModel
    ) -> dict[QuestionId, Outcome]:  # fmt: skip
        """What the ledger has of `wanted`, and what the server answers to the rest."""
        key = partial(api_key, source.base_url)
        return ask(client, wanted, key, limits=LIMITS, rng=random.Random(), progress=self.progress)


class _Answer(NamedTuple):
    text: str
    finish: FinishReason
    n_tokens: float


def served_rows(
    source: ServerModel, models: SeedModels, items: Sequence[Item], *, samples: int, service: Service
) -> list[ResponseRow]:
    """`samples` responses to each prompt, in the order of the prompts, without those that the server filtered.

    Raises JudgeError where responses did not come, unless they are to be left out; ModelError where all are empty.
    """
    answers = Writer(models.processes).look(_answers, source, models, items, samples, service)
    rows = [
        response_row(source.name, source.seed, items[i], sample, answer.text, answer.finish, answer.n_tokens)
        for (i, sample), answer in answers.items()
    ]
    if not any(row.response.strip() for row in rows):
        raise ModelError(
            f"{source.name}: {source.base_url} gave {len(rows)} responses to {len(items)} prompts, none with text; "
            f"expected text: check that {source.model!r} is the model that is meant"
        )
    return rows if source.weights is None else _with_tokens(rows, source, models)


def _answers(
    source: ServerModel, models: SeedModels, items: Sequence[Item], samples: int, service: Service
) -> dict[tuple[int, int], _Answer]:
    """The answers by the prompt's index and the sample."""
    assert models.plan.sampling is not None
    form = AnswerFormat(models.plan.sampling.max_new_tokens, None, PARSER, f"{PARSER} {source.template}")
    wanted = [QuestionId(i, "given", k) for i in range(len(items)) for k in range(samples)]
    messages = [_messages(source, item.prompt) for item in items]
    with service.client(source, messages, form, _endpoint(source, models, service), _read) as client:
        client = client.adapted(form.template_hash)
        found = service.answers(client, wanted, source)
        _check(source, client, found, service)
    stop = models.plan.sampling.stop
    return {
        (item.subject, item.repeat): _answer(source, found[item].reading.meta, stop)
        for item in wanted
        if found[item].reading.status == "read"
    }


def _messages(source: ServerModel, prompt: str) -> tuple[ChatMessage, ...]:
    """The turns of a prompt; for the completions API one message, the prompt as its template writes it."""
    if source.template != "chat":
        return (ChatMessage("user", written(source.template, prompt)),)
    return tuple(ChatMessage(cast(Role, turn.role), turn.content) for turn in split_turns(prompt))


def written(template: str, prompt: str) -> str:
    """A prompt in the HH form as the template writes it."""
    from rlhf_bench.modeling.templates import Template

    return Template.of(template, SimpleNamespace(bos_token="", eos_token="")).prompt(prompt)


def _endpoint(source: ServerModel, models: SeedModels, service: Service) -> Endpoint:
    sampling = models.plan.sampling
    assert sampling is not None
    return Endpoint(
        source.base_url, source.model, temperature=sampling.temperature, structured=False,
        completions=source.template != "chat", max_tokens=sampling.max_new_tokens,
        top_p=None if sampling.top_p == 1 else sampling.top_p, top_k=sampling.top_k or None,
        stop=tuple(sampling.stop), seed=models.plan.sampling_seed(source.seed) % 2**31, price=service.price(source),
    )  # fmt: skip


def _read(raw: Mapping[str, Any]) -> ParsedAnswer:
    """The text of an answer; a refusal is a response as well. A filter's verdict is none."""
    if raw["finish_reason"] == "content_filter":
        return ParsedAnswer("refused", note="filtered by the server")
    meta = {
        "text": raw["content"] or raw["refusal"] or "",
        "finish": raw["finish_reason"],
        "n": raw["completion_tokens"],
    }
    return ParsedAnswer("read", meta=meta)


def _answer(source: ServerModel, meta: Mapping[str, Any], stop: Sequence[str]) -> _Answer:
    """The answer as a response of the data, cut at the first stop string: some servers take none."""
    text = str(meta["text"])
    finish: FinishReason = "length" if meta["finish"] == "length" else "eos"
    at = min((i for string in stop if (i := text.find(string)) >= 0), default=None)
    if at is not None:
        text, finish = text[:at], "stop"
    if source.template != "hh" and text.strip():
        text = f" {text.lstrip()}"
    known = meta["n"] is not None and at is None
    return _Answer(text, finish, float(meta["n"]) if known else math.nan)


def _check(source: ServerModel, client: JudgeClient, found: Mapping[QuestionId, Outcome], service: Service) -> None:
    """Raise JudgeError where responses did not come; log how many are left out."""
    lost = [outcome for outcome in found.values() if outcome.reading.status in ("failed", "missing")]
    filtered = sum(outcome.reading.status == "refused" for outcome in found.values())
    if lost and not service.skip_bad:
        failed = [outcome.key for outcome in lost if outcome.reading.status == "failed"]
        reasons = [failure.reason for failure in client.ledger.failures(failed)]
        reason = reasons[-1] if reasons else "beyond --max-cost or --max-calls"
        raise JudgeError(
            f"{source.name}: {len(lost)} of {len(found)} responses did not come from {source.base_url} ({reason}); "
            "what came is kept, and the same command requests the rest; --skip-bad leaves them out"
        )
    if lost or filtered:
        service.progress.log(
            f"{source.name}: {len(lost) + filtered} of {len(found)} responses are left out: {filtered} filtered by the "
            f"server, {len(lost)} that did not come"
        )


def _with_tokens(rows: Sequence[ResponseRow], source: ServerModel, models: SeedModels) -> list[ResponseRow]:
    """Rows with the tokens that the model's own tokenizer makes of each text: a server does not return those drawn."""
    from rlhf_bench.modeling.heads import max_positions

    assert source.weights is not None
    assert models.plan.sampling is not None
    loaded, most = models.policy(source.weights), models.plan.sampling.max_prompt_tokens
    encoded = loaded.template.encode(
        [row.prompt for row in rows], [row.response for row in rows], max_prompt=most,
        max_response=max_positions(loaded.model) - most, ended=[row.ended for row in rows],
    )  # fmt: skip
    return [
        row._replace(prompt_ids=tuple(one.prompt), token_ids=tuple(one.response))
        for row, one in zip(rows, encoded, strict=True)
    ]
