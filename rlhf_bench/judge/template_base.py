"""What every judge template has, whatever it asks for: its name, its words, its places, and how they are filled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field

from rlhf_bench.config import Config, config_hash
from rlhf_bench.errors import BadValue
from rlhf_bench.judge.fence import Shown, shown
from rlhf_bench.judge.types import Form, Message

__all__ = ["BaseTemplate", "check_places"]

_PLACE = re.compile(r"\{([a-z_]+)\}")


class BaseTemplate(Config):
    """The fields of every template file."""

    name: str = Field(min_length=1, description="name, as it stands in tables and in the ledger")
    version: int = Field(ge=1, description="goes up when the words change")
    description: str = Field("", description="what it asks for, in one line")
    system: str = Field(min_length=1, description="the instructions; {fence} is the code of the marks")
    user: str = Field(min_length=1, description="the question, with a place for each text")
    max_tokens: int = Field(300, ge=1, description="longest answer of the judge, in tokens")
    max_prompt_chars: int = Field(12_000, ge=100, description="longest prompt shown; the end is kept")
    max_response_chars: int = Field(12_000, ge=100, description="longest response shown; the start is kept")

    @cached_property
    def hash(self) -> str:
        """Of all fields: two templates with the same hash ask the same and are read the same."""
        return config_hash(self)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    def shown_prompt(self, text: str) -> Shown:
        return shown(text, limit=self.max_prompt_chars, keep="end")

    def shown_response(self, text: str) -> Shown:
        return shown(text, limit=self.max_response_chars, keep="start")

    def form_with(self, schema: Mapping[str, Any] | None) -> Form:
        return Form(self.max_tokens, schema, self.label, self.hash)

    @cached_property
    def _words(self) -> tuple[list[str], list[str]]:
        """System and user text cut at their places: words, place, words, ..., words."""
        return _PLACE.split(self.system), _PLACE.split(self.user)

    def messages(self, places: Mapping[str, str]) -> tuple[Message, Message]:
        """Both messages with their places filled in one pass: a text that says {second} stays a text that says so."""
        system, user = self._words
        return Message("system", _filled(system, places)), Message("user", _filled(user, places))


def _filled(words: Sequence[str], places: Mapping[str, str]) -> str:
    filled = list(words)
    filled[1::2] = [places[name] for name in words[1::2]]
    return "".join(filled)


def check_places(name: str, template: BaseTemplate, needed: Sequence[str], free: Sequence[str] = ()) -> None:
    """Every text of `needed` has its place, once, in `user`; the code of the marks is told; no other place is known.

    `free` are the places of what is no text under judgement. Raises BadValue.
    """
    places = {field: _PLACE.findall(text) for field, text in (("system", template.system), ("user", template.user))}
    known = (*needed, *free, "fence")
    for field, found in places.items():
        for place in found:
            if place not in known:
                listed = ", ".join(f"{{{one}}}" for one in known)
                raise BadValue(f"judge template {name}: {field} holds {{{place}}}; known: {listed}")
    for place in needed:
        if places["user"].count(place) != 1 or place in places["system"]:
            raise BadValue(f"judge template {name}: {{{place}}} must stand once in user and never in system")
    if "fence" not in [*places["system"], *places["user"]]:
        raise BadValue(f"judge template {name}: {{fence}} stands nowhere; say there what stands between the marks")
