"""One response rated for itself: by criteria on a Likert scale, or by a single grade.

    name: likert              parser: ratings-json
    low: 1                    high: 5
    criteria: {helpful: does what was asked, ...}
    system: ... {fence} ... {criteria} ...      user: ... {prompt} ... {response} ...

An answer is read only where it gives every criterion a whole number of the scale. A grade of 7.5, an 11 of 10, a "4"
in quotes, or a criterion that is left out make the whole answer unreadable; nothing is rounded or filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rlhf_bench.judge.answers import Unreadable, after_thoughts, bare_answer, content_of, json_object, refused
from rlhf_bench.judge.fence import fence_token, fenced
from rlhf_bench.judge.template_base import BaseTemplate
from rlhf_bench.judge.types import Form, Order, Question, Reading, Single

__all__ = ["RATING_PARSER", "RatingTemplate", "read_ratings"]

RATING_PARSER = "ratings-1"  # changes when a stored answer would be read differently

_LINE = re.compile(r"(?:\*\*)?\[\[(\d{1,2})\]\](?:\*\*)?")
_MARK = re.compile(r"\[\[\s*(\d+)\s*\]\]")


class RatingTemplate(BaseTemplate):
    """What a template of ratings can say."""

    parser: Literal["ratings-json", "ratings-line"] = Field(description="how the answer is read")
    low: int = Field(1, ge=0, description="lowest rating")
    high: int = Field(ge=1, le=99, description="highest rating")
    criteria: dict[str, str] = Field(min_length=1, description="what is rated: a name and what it means, each")

    @field_validator("criteria")
    @classmethod
    def _names(cls, criteria: dict[str, str]) -> dict[str, str]:
        for name in criteria:
            if not re.fullmatch(r"[a-z][a-z_]{0,30}", name) or name == "reason":
                raise ValueError(f"the criterion {name!r} needs a name of small letters and _, other than reason")
        return criteria

    @model_validator(mode="after")
    def _scale(self) -> RatingTemplate:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; expected low below high")
        if self.parser == "ratings-line" and len(self.criteria) > 1:
            raise ValueError("parser ratings-line reads one number; expected one criterion, or parser ratings-json")
        return self

    def without_criteria(self) -> RatingTemplate:
        """The same scale for a judge that has one opinion of a response and no words for it."""
        return self.model_copy(update={"criteria": {"overall": ""}})

    @cached_property
    def form(self) -> Form:
        return self.form_with(self.schema_of_answer())

    def schema_of_answer(self) -> dict[str, Any] | None:
        """JSON schema of the answer; None where the answer is plain text."""
        if self.parser != "ratings-json":
            return None
        # An enum, since not every server keeps to minimum and maximum.
        rating = {"type": "integer", "enum": list(range(self.low, self.high + 1))}
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, **{name: dict(rating) for name in self.criteria}},
            "required": ["reason", *self.criteria],
            "additionalProperties": False,
        }

    def render(self, single: Single, order: Order = "given", *, repeat: int = 0) -> Question:
        """The question put to the judge."""
        prompt, response = self.shown_prompt(single.prompt), self.shown_response(single.response)
        token = fence_token(prompt.text, response.text)
        places = {
            "fence": token,
            "prompt": fenced("CONVERSATION", prompt, token),
            "response": fenced("RESPONSE", response, token),
            "criteria": "\n".join(f"- {name}: {meaning}" for name, meaning in self.criteria.items()),
            "low": str(self.low),
            "high": str(self.high),
        }
        return Question(self.messages(places), self.form, repeat)


def read_ratings(raw: Mapping[str, Any], template: RatingTemplate) -> Reading:
    """The ratings in one raw answer (as `parse.read_verdict` takes it), as `meta`: criterion -> rating."""
    held_back = refused(raw)
    if held_back is not None:
        return held_back
    try:
        content = content_of(raw, whole=True)
        answer = content[after_thoughts(content) :].strip()
        ratings = _of_json(answer, template) if template.parser == "ratings-json" else _of_line(answer, template)
    except Unreadable as why:
        return Reading("unreadable", note=str(why))
    return Reading("read", meta=ratings)


def _of_json(answer: str, template: RatingTemplate) -> dict[str, int]:
    value = json_object(bare_answer(answer)[0])
    if not set(template.criteria) <= value.keys() <= {*template.criteria, "reason"}:
        raise Unreadable("JSON of another shape")
    for name in template.criteria:
        rating = value[name]
        if isinstance(rating, bool) or not isinstance(rating, int) or not template.low <= rating <= template.high:
            raise Unreadable(f"{name} is no whole number from {template.low} to {template.high}")
    return {name: value[name] for name in template.criteria}


def _of_line(answer: str, template: RatingTemplate) -> dict[str, int]:
    match = _LINE.fullmatch(answer.rsplit("\n", 1)[-1].strip())
    if match is None:
        raise Unreadable("the last line is no rating")
    rating = int(match[1])
    if {int(mark) for mark in _MARK.findall(answer)} != {rating}:
        raise Unreadable("several ratings")
    if not template.low <= rating <= template.high:
        raise Unreadable(f"{rating} is no number from {template.low} to {template.high}")
    (name,) = template.criteria
    return {name: rating}
