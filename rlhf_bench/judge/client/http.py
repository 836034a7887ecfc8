"""One request to a judge, and what came of it.

| what happens | recorded as | charged | sent again in this run |
| --- | --- | --- | --- |
| an answer, a refusal, a filtered answer | answered | as reported, else worst case | no |
| no connection | failed | nothing | yes; the whole run stops where the server was never reached |
| HTTP 429, 408, 409, 500, 503 | failed | nothing | yes, after Retry-After or a growing, jittered wait |
| other HTTP 5xx: a gateway does not know the outcome | unknown | worst case | yes |
| time-out, connection dropped, body cut off | unknown | worst case | yes |
| a body that is no JSON, holds no choice, or an error inside | failed | as reported, else worst case | yes |
| HTTP 400, 403, 422, 500 or 501 that names an optional part | failed | nothing | yes, and all others too, without it |
| other HTTP 400, 413, 422 | failed | nothing | no |
| HTTP 401, 403, 404, no credit left | failed | nothing | the whole run stops |

The key is in the client and nowhere else: it is redacted in texts of the server before they are
stored or shown, after they were read, and only if it has 16 characters or more: shorter ones occur in plain text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlhf_bench.judge.client.budget import Price, charge, retry_after
from rlhf_bench.judge.client.endpoint import (
    KEY_VARIABLE,
    Endpoint,
    OptionalPart,
    arguments,
    is_completion,
    refused_part,
)
from rlhf_bench.judge.ledger.file import Attempt, Call, Failure

if TYPE_CHECKING:  # most of those who read answers send nothing: the SDK is imported where a request is made
    from openai import APIStatusError, Timeout

_BUSY = (408, 409, 429, 500, 503)
_REJECTED = (400, 413, 422)
SECRET_LENGTH = 16  # characters; no shorter key is a secret that could not be a part of an answer
CONNECT_SECONDS = 5.0
_KEPT = 20_000  # characters kept of a body that is no answer


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request. `again`: the same call may fare better; `wait`: seconds that the server requested.
    `fatal`: why no call can succeed, in one line. `refused`: the part of the request without which it may succeed.
    `connected`: whether the server was reached."""

    attempt: Attempt
    again: bool = False
    wait: float | None = None
    fatal: str | None = None
    refused: OptionalPart | None = None
    connected: bool = True


def timeout(endpoint: Endpoint) -> Timeout:
    """The time-out of a request: a connection is made soon or not at all, an answer may take the endpoint's seconds."""
    from openai import Timeout

    return Timeout(endpoint.seconds, connect=min(CONNECT_SECONDS, endpoint.seconds))


class ChatServer:
    """Sends requests, one HTTP request a call: retries are the run's, so that each is in the ledger."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        from openai import AsyncOpenAI

        self._endpoint = endpoint
        self._key = key
        self._openai = AsyncOpenAI(api_key=key, base_url=endpoint.base_url, max_retries=0, timeout=timeout(endpoint))

    async def close(self) -> None:
        await self._openai.close()

    async def ask(self, call: Call) -> Reply:
        """Send `call`, once. Raises nothing but what cancels it."""
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        # The SDK's time-out is between two bytes; a server that trickles would never meet it.
        api: Any = self._openai.completions if is_completion(call.request) else self._openai.chat.completions
        create = api.with_raw_response.create
        try:
            response = await asyncio.wait_for(create(**arguments(call.request)), self._endpoint.seconds)
        except (APITimeoutError, asyncio.TimeoutError) as error:
            if _never_connected(error):
                return Reply(Attempt("failed", "no connection"), again=True, connected=False)
            return Reply(_unknown("time-out", call), again=True)
        except APIStatusError as error:
            return self._refused(error, call)
        except APIConnectionError as error:
            if _never_connected(error):
                return Reply(Attempt("failed", "no connection"), again=True, connected=False)
            return Reply(_unknown("connection dropped, or the answer cut off", call), again=True)
        except APIError as error:
            return Reply(_unknown(self._clean(str(error)), call), again=True)
        http = response.http_response
        attempt = received(http.text, int(http.status_code), call, price=self._endpoint.price, key=self._key)
        return Reply(attempt, again=attempt.outcome != "answered")

    def _refused(self, error: APIStatusError, call: Call) -> Reply:
        status = int(error.status_code)
        details = error.body if isinstance(error.body, Mapping) else {}
        code = str(details.get("code") or "")
        message = self._clean(error_text(details))
        attempt = Attempt("failed", f"HTTP {status} {message}".strip(), http_status=status)
        url, model = self._endpoint.base_url, self._endpoint.model
        if status == 401:
            # The server's own message is left out: it may show a part of the key.
            return Reply(
                Attempt("failed", "HTTP 401", http_status=401),
                fatal=f"{url} does not accept the key in {KEY_VARIABLE} (HTTP 401); set the right one",
            )
        part = refused_part(Failure(call.request, status, message))
        if status == 403 and part is None:
            return Reply(attempt, fatal=f"{url} does not let this key use {model!r} (HTTP 403 {message})")
        if status == 404:
            return Reply(
                attempt,
                fatal=f"{url} knows no model {model!r} (HTTP 404 {message}); check the model's name, and --base-url, "
                "which mostly ends in /v1",
            )
        if code == "insufficient_quota":
            return Reply(
                attempt, fatal=f"the account at {url} has no credit left ({message}); what was answered is kept"
            )
        if status in _REJECTED and code == "content_filter":
            return Reply(filtered(status, message))
        if part is not None:
            return Reply(attempt, refused=part)
        if status in _BUSY:
            return Reply(attempt, again=True, wait=retry_after(error.response.headers))
        if status >= 500:
            return Reply(_unknown(attempt.reason, call), again=True, wait=retry_after(error.response.headers))
        return Reply(attempt)

    def _clean(self, text: str) -> str:
        return clean_line(text, self._key)


def received(text: str, status: int, call: Call, *, price: Price | None, key: str) -> Attempt:
    """What came of a call with the body `text`: answered, or failed where it holds no answer."""
    fault, data = _read_body(text)
    body = redacted(text, key)
    usage = _usage(data)
    return Attempt(
        "failed" if fault else "answered",
        fault,
        charged=True,
        cost=charge(price, call.worst, usage),
        http_status=status,
        answer=body[:_KEPT] if fault else body,
        model=_text(data.get("model")),
        fingerprint=_text(data.get("system_fingerprint")),
        finish=None if fault else _text(data["choices"][0].get("finish_reason")),
        prompt_tokens=usage["prompt"],
        cached_tokens=usage["cached"],
        completion_tokens=usage["completion"],
    )


def filtered(status: int, message: str) -> Attempt:
    """A filter's verdict on the question: the same question would get it again."""
    body = json.dumps({"error": {"code": "content_filter", "message": message}})
    return Attempt("answered", http_status=status, answer=body, finish="content_filter")


def error_text(body: Mapping[str, Any]) -> str:
    """The error of a server: OpenAI's message and the parameter that it is about, or FastAPI's detail."""
    given = body.get("message") or body.get("detail") or body.get("code") or ""
    parameter = body.get("param")
    text = given if isinstance(given, str) else json.dumps(given)
    return f"{text} ({parameter})" if parameter and str(parameter) not in text else text


def redacted(text: str, key: str) -> str:
    """Take the key out, where it is long enough to be a secret: a short one (0, A, none) also occurs in plain text."""
    return text.replace(key, "[key]") if len(key) >= SECRET_LENGTH else text


def clean_line(text: str, key: str) -> str:
    """Make the text one line without the key, of a length that can be read."""
    line = " ".join(redacted(text, key).split())
    return line if len(line) <= 300 else line[:299] + "…"


def _unknown(reason: str, call: Call) -> Attempt:
    return Attempt("unknown", reason, charged=True, cost=call.worst)


def _never_connected(error: BaseException) -> bool:
    """True if no byte of the request was sent. By name: the SDK's HTTP library changed between its versions."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")


def _read_body(body: str) -> tuple[str, dict[str, Any]]:
    """(what is wrong with it, or nothing; the JSON object, empty where there is none)."""
    try:
        data = json.loads(body)
    except ValueError:
        return "the body is no JSON", {}
    if not isinstance(data, dict):
        return "the body is no JSON object", {}
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        error = data.get("error")
        return f"an error instead of an answer: {_message(error)}" if error else "the answer holds no choice", data
    choice = choices[0]
    if not isinstance(choice, dict) or not (isinstance(choice.get("message"), dict) or _is_text(choice)):
        return "the first choice holds no message", data
    if choice.get("error") or choice.get("finish_reason") == "error":
        return f"an error inside the answer: {_message(choice.get('error'))}", data
    return "", data


def _is_text(choice: Mapping[str, Any]) -> bool:
    """Whether a choice is one of the completions API."""
    return "message" not in choice and isinstance(choice.get("text"), str)


def _message(error: object) -> str:
    text = error_text(error) if isinstance(error, Mapping) else str(error or "no reason given")
    return " ".join(text.split())[:200]


def _content_text(content: object) -> object:
    """Some servers send the content as a list of parts: the texts of those that are no thoughts, joined."""
    if not isinstance(content, list):
        return content
    parts = [part for part in content if isinstance(part, dict) and part.get("type") in ("text", "output_text")]
    return "".join(str(part.get("text") or "") for part in parts)


def _usage(data: Mapping[str, Any]) -> dict[str, int | None]:
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return {
        "prompt": _count(usage.get("prompt_tokens")),
        "cached": _count(cached),
        "completion": _count(usage.get("completion_tokens")),
    }


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def raw_answer(body: str) -> dict[str, Any]:
    """What a parser reads, from a stored body: content, refusal, finish_reason, logprobs as a list, one a token, echoed
    (the completions API's tokens and token_logprobs), and completion_tokens, the number that the server counted."""
    data = json.loads(body)
    if "choices" not in data:  # stored for a question that a filter stopped
        nothing = dict.fromkeys(("content", "logprobs", "echoed", "completion_tokens"))
        return {**nothing, "refusal": data["error"]["message"], "finish_reason": "content_filter"}
    choice = data["choices"][0]
    message = {"content": choice["text"]} if _is_text(choice) else choice.get("message") or {}
    logprobs = choice.get("logprobs")
    return {
        "content": _content_text(message.get("content")),
        "refusal": message.get("refusal"),
        "finish_reason": choice.get("finish_reason"),
        "logprobs": logprobs.get("content") if isinstance(logprobs, dict) else None,
        "echoed": logprobs if isinstance(logprobs, dict) and "token_logprobs" in logprobs else None,
        "completion_tokens": _usage(data)["completion"],
    }
