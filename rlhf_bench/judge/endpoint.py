"""A judge behind an OpenAI-compatible server: what identifies a call to it, and what of it is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rlhf_bench.errors import BadValue, JudgeError
from rlhf_bench.judge.budget import Price, estimate_prompt_tokens, most_prompt_tokens
from rlhf_bench.judge.calls import Call, call_key
from rlhf_bench.judge.types import Question

__all__ = ["KEY_VARIABLE", "OPENAI_URL", "Endpoint", "api_key", "arguments", "canonical_url"]

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"


def canonical_url(given: str | None) -> str:
    """The base URL as the ledger knows it: `given`, else OPENAI_BASE_URL, else OpenAI's. Raises BadValue."""
    url = (given or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
    parts = urlsplit(url)
    # Never echoed: what stands before @ or after ? may be a password.
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
            f"{KEY_VARIABLE} is not set; export it, name a server that needs none with --base-url, or use a judge that "
            "asks nobody: reward, gold, length or random (what the ledger holds is read with --max-cost 0)"
        )
    return "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's model and the parameters it is asked with. `price` None: not known."""

    base_url: str
    model: str
    price: Price | None = None
    temperature: float | None = 0.0  # None: not sent, for models that refuse it
    structured: bool = True  # send the template's JSON schema
    top_logprobs: int = 0
    max_tokens: int | None = None  # instead of the template's
    seconds: float = 120.0  # the longest that one request may take

    def request(self, question: Question, retry: int = 0) -> str:
        """Canonical JSON of everything that can change the answer; its hash is the call's key.

        `retry` counts questions put again since their answer could not be read.
        """
        # OpenAI's newer models refuse `max_tokens`; other servers may not know its new name.
        limit = "max_completion_tokens" if self.base_url == OPENAI_URL else "max_tokens"
        parameters: dict[str, Any] = {limit: self.max_tokens or question.max_tokens}
        if self.temperature is not None:
            parameters["temperature"] = self.temperature
        if self.top_logprobs:
            parameters |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        request: dict[str, Any] = {
            "base_url": self.base_url,
            "messages": [dict(message) for message in question.messages],
            "model": self.model,
            "parameters": parameters,
            "repeat": question.repeat,
            "schema": question.schema if self.structured else None,
        }
        if retry:
            request["retry"] = retry
        return json.dumps(request, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def call(self, question: Question, retry: int = 0) -> Call:
        """The call with the most it can cost (0 where there is no price)."""
        request = self.request(question, retry)
        worst = 0
        if self.price is not None:
            most = most_prompt_tokens(question.messages, self._schema_text(question))
            worst = self.price.cost(most, self.max_tokens or question.max_tokens)
        return Call(
            call_key(request),
            self.model,
            self.base_url,
            request,
            question.template,
            question.template_hash,
            worst,
            self.seconds,
        )

    def estimate(self, question: Question) -> tuple[int, int]:
        """(prompt tokens, completion tokens at most) that one call is expected to take."""
        prompt = estimate_prompt_tokens(question.messages, self._schema_text(question))
        return prompt, self.max_tokens or question.max_tokens

    def _schema_text(self, question: Question) -> str:
        return json.dumps(question.schema) if self.structured and question.schema else ""


def arguments(request: str) -> Mapping[str, Any]:
    """What `chat.completions.create` is given for a stored request."""
    stored = json.loads(request)
    sent: dict[str, Any] = {"model": stored["model"], "messages": stored["messages"], **stored["parameters"]}
    if stored["schema"] is not None:
        schema = {"name": "verdict", "strict": True, "schema": stored["schema"]}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent
