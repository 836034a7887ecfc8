"""A call to a judge, what came of a request, and what may be spent: the rows and numbers that the ledger keeps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rlhf_bench.types import stable_hash

__all__ = [
    "SCHEMA_REFUSALS",
    "Attempt",
    "Call",
    "Cap",
    "Claimed",
    "Spent",
    "answer_digest",
    "call_key",
    "has_schema",
    "refuses_schema",
]

# What servers answer with that cannot keep to a schema; some of them fail where they should refuse.
SCHEMA_REFUSALS = (400, 422, 500, 501)
_SCHEMA_WORDS = ("response_format", "response format", "json_schema", "json schema", "structured output", "grammar")
# answered: the ledger has the answer. busy: another process asks it, or what is in flight holds the money it needs:
# come back later. over: it does not fit under the cap.
Claimed = Literal["claimed", "answered", "busy", "over"]


def call_key(request: str) -> str:
    """The key of a request, which is canonical JSON of everything that can change the answer."""
    return stable_hash(request, length=32)


def answer_digest(answer: str) -> str:
    return hashlib.sha256(answer.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. `worst` is the most it can cost, in nano-dollars; `seconds` how long one request can take."""

    key: str
    judge: str
    base_url: str
    request: str
    template: str
    template_hash: str
    worst: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one request. `charged`: it may have been billed; `cost` in nano-dollars."""

    outcome: Literal["answered", "failed", "unknown"]
    reason: str = ""
    charged: bool = False
    cost: int = 0
    http_status: int | None = None
    answer: str | None = None  # the body, verbatim
    model: str | None = None  # as reported
    fingerprint: str | None = None
    finish: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


class Cap(NamedTuple):
    """The most that a scope may spend (nano-dollars) and the most calls it may be charged for; None is no limit."""

    cost: int | None
    calls: int | None


class Spent(NamedTuple):
    """Of one scope (a result and a judge), over all processes and restarts; money in nano-dollars."""

    cost: int
    calls: int
    reserved: int
    in_flight: int


def has_schema(request: str) -> bool:
    """Whether a stored request asks for an answer by a JSON schema."""
    return json.loads(request).get("schema") is not None


def refuses_schema(request: str, http_status: int | None, reason: str) -> bool:
    """Whether a server has refused `request` for the schema in it, by what it said.

    A word that stands in the question itself proves nothing, since servers repeat what they were sent.
    """
    if http_status not in SCHEMA_REFUSALS:
        return False
    said, asked = reason.lower(), request.lower()
    return any(word in said and word not in asked for word in _SCHEMA_WORDS) and has_schema(request)
