"""A model behind an OpenAI-compatible server: the key of a call, what is sent, and what the server refuses."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any
from urllib.parse import urlsplit

from rlhf_bench.errors import BadValue, JudgeError
from rlhf_bench.judge.client.budget import Price, estimate_prompt_tokens, most_prompt_tokens
from rlhf_bench.judge.ledger.file import Call, Failure, call_key
from rlhf_bench.judge.questions import AnswerFormat, ChatMessage, Question

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"


def canonical_url(given: str | None) -> str:
    """The base URL as the ledger knows it: `given`, else OPENAI_BASE_URL, else OpenAI's. Raises BadValue."""
    url = (given or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
    parts = urlsplit(url)
    # Never echoed: the part before @ or after ? may be a password.
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadValue(
            f"--base-url: given a URL with a user, password or query; put the key into {KEY_VARIABLE} instead"
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadValue(f"--base-url: given {url!r}, expected a URL such as http://localhost:8000/v1")
    return url


def api_key(base_url: str) -> str:
    """The key from the environment. A server of one's own often wants none: then any word will do."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key:
        return key
    if base_url == OPENAI_URL:
        raise JudgeError(
            f"{KEY_VARIABLE} is not set; export it, name a server that needs none with --base-url, or use a built-in "
            "judge: reward, gold, length or random (what the ledger holds is read with --max-cost 0)"
        )
    return "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's model and the parameters of its requests. `price` None: not known."""

    base_url: str
    model: str
    price: Price | None = None
    temperature: float | None = 0.0  # None: not sent, for models that refuse it
    structured: bool = True  # send the template's JSON schema
    new_limit: bool = False  # send max_completion_tokens, which OpenAI wants, and which other servers may not know
    system_role: bool = True  # send the instructions as a system message
    top_logprobs: int = 0
    max_tokens: int | None = None  # instead of the template's
    seconds: float = 120.0  # the longest that one request may take
    completions: bool = False  # the completions API: the one message of a question is its prompt
    top_p: float | None = None
    top_k: int | None = None  # sent as an extra field, which vLLM and SGLang know
    stop: tuple[str, ...] = ()
    seed: int | None = None  # of the question's first repeat
    echo: bool = False  # of the completions API: the log-probability of each token of the prompt comes back

    def request(self, question: Question, retry: int = 0) -> str:
        """Canonical JSON of everything that can change the answer; its hash is the call's key.

        `retry` counts repeats of a question with an answer that could not be read.
        """
        before, after = _around_messages(self, question.format, question.repeat, retry)
        sent = question.messages
        if not self.system_role:
            sent = _without_system(sent)
        messages = [f'{{"content":{quoted(content)},"role":"{role}"}}' for role, content in sent]
        return f"{before}{','.join(messages)}{after}"

    def call(self, question: Question, retry: int = 0) -> Call:
        """The call with the most it can cost (0 where there is no price)."""
        request, form = self.request(question, retry), question.format
        worst = 0
        if self.price is not None:
            most = most_prompt_tokens([m.content for m in question.messages], self._schema_text(form))
            worst = self.price.cost(most, self.max_tokens or form.max_tokens)
        return Call(
            call_key(request),
            self.model,
            self.base_url,
            request,
            form.template,
            form.template_hash,
            worst,
            self.seconds,
        )

    def estimate(self, question: Question) -> tuple[int, int]:
        """(prompt tokens, completion tokens at most) that one call is expected to take."""
        prompt = estimate_prompt_tokens([m.content for m in question.messages], self._schema_text(question.format))
        return prompt, self.max_tokens or question.format.max_tokens

    def _schema_text(self, form: AnswerFormat) -> str:
        return json.dumps(form.schema) if self.structured and form.schema else ""


def _without_system(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The system's text before that of the message after it."""
    text = [message.content for message in messages if message.role == "system"]
    first, *others = (message for message in messages if message.role != "system")
    return (first._replace(content="\n\n".join([*text, first.content])), *others)


@lru_cache(maxsize=64)
def _around_messages(endpoint: Endpoint, form: AnswerFormat, repeat: int, retry: int) -> tuple[str, str]:
    """The parts before and after the messages in a request's canonical JSON: the same for all questions of a run."""
    new_limit = endpoint.new_limit or (endpoint.base_url == OPENAI_URL and not endpoint.completions)
    limit = "max_completion_tokens" if new_limit else "max_tokens"
    parameters: dict[str, Any] = {limit: endpoint.max_tokens or form.max_tokens}
    if endpoint.temperature is not None:
        parameters["temperature"] = endpoint.temperature
    if endpoint.top_logprobs:
        parameters |= {"logprobs": True, "top_logprobs": endpoint.top_logprobs}
    if endpoint.echo:
        parameters |= {"echo": True, "logprobs": 1}
    optional = {"top_p": endpoint.top_p, "top_k": endpoint.top_k, "stop": list(endpoint.stop) or None}
    optional["seed"] = None if endpoint.seed is None else endpoint.seed + repeat
    parameters |= {name: value for name, value in optional.items() if value is not None}
    request: dict[str, Any] = {
        "base_url": endpoint.base_url,
        "messages": [],
        "model": endpoint.model,
        "parameters": parameters,
        "repeat": repeat,
        "schema": form.schema if endpoint.structured else None,
    }
    if retry:
        request["retry"] = retry
    if endpoint.completions:
        request["api"] = "completions"
    text = json.dumps(request, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    # Unescaped, these characters occur nowhere else: api and base_url, the keys before it, hold strings.
    before, mark, after = text.partition('"messages":[')
    return before + mark, after


def arguments(request: str) -> Mapping[str, Any]:
    """What the client's `chat.completions.create`, or `completions.create`, is given for a stored request."""
    stored = json.loads(request)
    sent: dict[str, Any] = {"model": stored["model"], **stored["parameters"]}
    if is_completion(request):
        sent["prompt"] = stored["messages"][0]["content"]
    else:
        sent["messages"] = stored["messages"]
    if "top_k" in sent:
        sent["extra_body"] = {"top_k": sent.pop("top_k")}
    if stored["schema"] is not None:
        schema = {"name": "verdict", "strict": True, "schema": stored["schema"]}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent


def is_completion(request: str) -> bool:
    """Whether a stored request is one of the completions API."""
    return bool(json.loads(request).get("api") == "completions")


@dataclass(frozen=True)
class OptionalPart:
    """A part of a request that some servers refuse, and how the requests are made without it."""

    name: str
    refusal: re.Pattern[str]  # in the server's message
    is_sent: Callable[[Mapping[str, Any]], bool]  # in a stored request
    left_out: Callable[[Endpoint], Endpoint]
    instead: str  # what is done, for the log

    def sends(self, request: str) -> bool:
        return self.is_sent(json.loads(request))

    def refuses(self, failure: Failure) -> bool:
        """Whether the server refused the request for this part.

        A word of the question itself proves nothing, since servers repeat what they were sent.
        """
        words = {match[0].lower() for match in self.refusal.finditer(failure.reason)}
        if failure.http_status not in _REFUSALS or not words:
            return False
        stored = json.loads(failure.request)
        question = " ".join(message["content"] for message in stored["messages"]).lower()
        return self.is_sent(stored) and any(word not in question for word in words)


# Statuses of servers that cannot take a part of a request; some of them fail where they should refuse.
_REFUSALS = (400, 403, 422, 500, 501)


def _parameter(name: str, refusal: str, key: str, instead: str, **left_out: Any) -> OptionalPart:
    """A part that is one parameter of the stored request; `left_out`: the fields of an endpoint without it."""
    return OptionalPart(
        name,
        re.compile(f"(?i){refusal}"),
        lambda stored: key in stored["parameters"],
        lambda endpoint: replace(endpoint, **left_out),
        instead,
    )


SCHEMA = OptionalPart(
    "the JSON schema",
    re.compile(r"(?i)response.format|json.schema|structured output|grammar"),
    lambda stored: stored["schema"] is not None,
    lambda endpoint: replace(endpoint, structured=False),
    "sent without it, and the answers are read as text",
)
SYSTEM_ROLE = OptionalPart(
    "the system role",
    re.compile(
        r"(?i)system.{0,3}(?:role|message|prompt|instruction)s?.{0,40}(?:not|n't|unsupported)"
        r"|(?:not support|unsupported|unexpected|invalid).{0,40}\bsystem\b|roles must alternate"
    ),
    lambda stored: any(message["role"] == "system" for message in stored["messages"]),
    lambda endpoint: replace(endpoint, system_role=False),
    "putting the instructions before the question",
)
OLD_LIMIT = _parameter(
    "max_tokens",
    r"max_completion_tokens|max_tokens\W.{0,60}(?:not supported|unsupported|not permitted|deprecated)",
    "max_tokens",
    "sending max_completion_tokens instead",
    new_limit=True,
)
SEED = _parameter("the seed", r"\bseed\b", "seed", "sampling without it", seed=None)
STOP = _parameter("stop strings", r"\bstop\b", "stop", "cutting the responses at them here", stop=())
TEMPERATURE = _parameter(
    "the temperature", r"\btemperature\b", "temperature", "sampling at the server's own", temperature=None
)
LOGPROBS = _parameter(
    "log-probabilities", r"\b(?:top_)?logprobs\b", "logprobs", "reading the verdicts alone", top_logprobs=0
)
OPTIONAL_PARTS = (SCHEMA, OLD_LIMIT, SYSTEM_ROLE, SEED, STOP, TEMPERATURE, LOGPROBS)


def refused_part(failure: Failure) -> OptionalPart | None:
    return next((part for part in OPTIONAL_PARTS if part.refuses(failure)), None)
