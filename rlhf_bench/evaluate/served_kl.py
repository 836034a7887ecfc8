"""KL of a model behind a server to the reference, by log-probabilities of its responses' tokens that the server gives.

The text of prompt and response is sent to the completions API as a prompt, with `echo` and `logprobs`, as vLLM offers
it. The reference reads the same text: here, where its weights are, else by its own server. The tokens of the response
have to be the same under both. What ends a turn is no part of the text, and does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlhf_bench.errors import BenchError
from rlhf_bench.evaluate.models import SeedModels
from rlhf_bench.evaluate.served import Service, written
from rlhf_bench.evaluate.sources import ServerModel
from rlhf_bench.judge.client.endpoint import Endpoint
from rlhf_bench.judge.questions import AnswerFormat, ChatMessage, Outcome, ParsedAnswer, QuestionId
from rlhf_bench.runtime.writer import Writer
from rlhf_bench.scorers.base import LoadedModel, LogRatios, Missing, Values
from rlhf_bench.types import ResponseRow

PARSER = "echoed@1"
PROBES = 3  # texts that are sent before the others; one may be filtered
CHAT = Missing(
    "the chat API gives no log-probabilities of a prompt: name a template with --prompt-template, for the completions "
    "API, or give NAME=server:MODEL,weights=PATH"
)
SILENT = Missing(
    "the server gives no log-probabilities of a prompt (echo with logprobs): this needs the weights; give "
    "NAME=server:MODEL,weights=PATH"
)

Scored = tuple[list[int], Values]  # characters of each token of a response, and its log-probability


def log_ratios(rows: Sequence[ResponseRow], source: ServerModel, models: SeedModels, service: Service) -> LogRatios:
    """log pi - log ref of each row's tokens, or why there is none."""
    if source.template == "chat":
        return CHAT
    if source.name == models.plan.reference:
        return [np.zeros(1) for _ in rows]  # by definition, without a request
    own = Writer(models.processes).look(_by_server, rows, source, service)
    if isinstance(own, Missing):
        return own
    reference = _by_reference(rows, source, models, service)
    if isinstance(reference, Missing):
        return reference
    return [
        mine[1] - theirs[1] if mine and theirs and mine[0] == theirs[0] else None  # where their tokens are the same
        for mine, theirs in zip(own, reference, strict=True)
    ]


def _by_reference(
    rows: Sequence[ResponseRow], source: ServerModel, models: SeedModels, service: Service
) -> list[Scored | None] | Missing:
    plan = models.plan
    if models.reference is not None:
        if models.reference.template.name != source.template:
            return Missing("another prompt template than the reference's")
        return [under_reference(row, models.reference) for row in rows]
    other = next((m for m in plan.served if (m.name, m.seed) == (plan.reference, models.seed)), None)
    if other is None:
        return Missing("the reference is a response file")
    if other.template != source.template:
        return Missing("another prompt template than the reference's")
    return Writer(models.processes).look(_by_server, rows, other, service)


def _by_server(rows: Sequence[ResponseRow], source: ServerModel, service: Service) -> list[Scored | None] | Missing:
    """Score each response under the served model; a few are sent first, to see whether the server can do it."""
    form = AnswerFormat(1, None, PARSER, f"{PARSER} {source.template}")
    texts = (written(source.template, row.prompt) + _response(source.template, row.response) for row in rows)
    messages = [(ChatMessage("user", text),) for text in texts]
    endpoint = Endpoint(
        source.base_url, source.model, temperature=0.0, structured=False, completions=True, max_tokens=1, echo=True,
        price=service.price(source),
    )  # fmt: skip
    wanted = [QuestionId(i, "given", 0) for i, row in enumerate(rows) if row.response.strip()]
    found: dict[QuestionId, Outcome] = {}
    with service.client(source, messages, form, endpoint, _read) as client:
        for some in (wanted[:PROBES], wanted):
            try:
                found = service.answers(client, some, source)
            except BenchError as error:
                return Missing(f"the server gives no log-probabilities of a prompt: {error}")
            if not any(outcome.reading.status == "read" for outcome in found.values()):
                return SILENT
    read = {item.subject: outcome.reading.meta for item, outcome in found.items() if outcome.reading.status == "read"}
    return [response_tokens(read[i], _response(source.template, row.response)) if i in read else None
            for i, row in enumerate(rows)]  # fmt: skip


def _response(template: str, text: str) -> str:
    """A response of the data as the model wrote it: only the HH form has a space before it."""
    return text if template == "hh" else text.lstrip()


def _read(raw: Mapping[str, Any]) -> ParsedAnswer:
    echoed = raw["echoed"] or {}
    tokens, logps = echoed.get("tokens"), echoed.get("token_logprobs")
    if not tokens or not logps or len(tokens) != len(logps) or len(tokens) < 2:
        return ParsedAnswer("unreadable", note="no log-probabilities of the prompt's tokens")
    return ParsedAnswer("read", meta={"tokens": tokens, "logps": logps})


def response_tokens(meta: Mapping[str, Any], response: str) -> Scored | None:
    """The tokens of the text's end that are `response`; the last token of all is one that the server has drawn.

    None where no token begins with the response, or where tokens are no text of their own (parts of a character).
    """
    lengths: list[int] = []
    logps: list[float] = []
    left = len(response)
    for token, logp in zip(reversed(meta["tokens"][:-1]), reversed(meta["logps"][:-1]), strict=True):
        if left <= 0 or logp is None or response[max(0, left - len(token)) : left] != token:
            break
        lengths.append(len(token))
        logps.append(float(logp))
        left -= len(token)
    return None if left or not lengths else (lengths[::-1], np.array(logps[::-1]))


def under_reference(row: ResponseRow, reference: LoadedModel) -> Scored | None:
    """The response under a model that is here, by the tokens of the whole text, as a server reads it."""
    import torch

    from rlhf_bench.modeling.logprobs import LogprobModel
    from rlhf_bench.modeling.tokens import Encoded, collate

    template, tokenizer = reference.template, reference.tokenizer
    prompt, response = template.prompt(row.prompt), template.response(row.response)
    read = tokenizer(prompt + response, return_offsets_mapping=True)
    ids, spans = read["input_ids"], read["offset_mapping"]
    first = next((i for i, (start, end) in enumerate(spans) if start == len(prompt) and end > start), None)
    if first is None or first == 0 or not response:
        return None
    batch = collate([Encoded(ids[:first], ids[first:])], pad_id=tokenizer.pad_token_id).to(reference.model.device)
    with torch.no_grad():
        logps = LogprobModel(reference.model)(batch).logps[batch.response_mask]
    return [end - start for start, end in spans[first:]], logps.double().cpu().numpy()
