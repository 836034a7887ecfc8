"""One response rated by itself: by criteria on a Likert scale, or by a single grade.

    name: likert              parser: ratings-json
    low: 1                    high: 5
    criteria: {helpful: does what was asked, ...}
    system: ... {fence} ... {criteria} ...      user: ... {prompt} ... {response} ...

An answer is read only where it gives every criterion a whole number of the scale. A grade of 7.5, an 11 of 10, a "4"
in quotes, or a criterion that is left out make the whole answer unreadable; nothing is rounded or filled in."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from rlhf_bench.judge.analysis.scales import measure_ratings
from rlhf_bench.judge.forms.answers import Unreadable, answer_schema, bare_answer, json_object, read_answer
from rlhf_bench.judge.forms.base import BaseTemplate, FormRequest, JudgeForm, no_baseline
from rlhf_bench.judge.forms.builtin import coin, key_of, rate_by_rank, rule_of
from rlhf_bench.judge.questions import (
    RESPONSE,
    Order,
    Outcome,
    ParsedAnswer,
    Question,
    QuestionId,
    Single,
    items_of,
    singles_of,
)
from rlhf_bench.judge.results import WHO, FormSection, question_cells, typed, with_gold, write_section

_LINE = re.compile(r"(?:\*\*)?\[\[(\d{1,2})\]\](?:\*\*)?\.?")
_MARK = re.compile(r"\[\[\s*(\d+)\s*\]\]")
RATINGS = FormSection(
    "ratings",
    "ratings.parquet",
    WHO,
    (*WHO, *RESPONSE, "repeat", "status", "criterion", "rating", "note", "length", "key"),
    (*WHO, "criterion", *RESPONSE, "repeat"),
    {"rating": "float64", **dict.fromkeys(("seed", "sample", "repeat", "length"), "int64")},
)


class RatingTemplate(BaseTemplate):
    """The fields of a template of ratings."""

    places = ("prompt", "response")
    free = ("criteria", "low", "high")

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

    def schema_of_answer(self) -> dict[str, Any] | None:
        if self.parser != "ratings-json":
            return None
        # An enum, since not every server keeps to minimum and maximum.
        rating = {"type": "integer", "enum": list(range(self.low, self.high + 1))}
        return answer_schema({name: dict(rating) for name in self.criteria})

    def render(self, subject: Single, order: Order = "given", /, *, repeat: int = 0) -> Question:
        places = self.fenced(subject.prompt, {"response": ("RESPONSE", subject.response)}) | {
            "criteria": "\n".join(f"- {name}: {meaning}" for name, meaning in self.criteria.items()),
            "low": str(self.low),
            "high": str(self.high),
        }
        return Question(self.messages(places), self.answer_format, repeat)

    def form(self, request: FormRequest) -> RatingForm:
        """Every response by itself. Raises BadValue where a baseline is given."""
        no_baseline(request, self)
        singles = singles_of(request.responses, request.chosen)
        items = items_of(singles, request.again, orders=("given",))
        # a built-in judge gives a response one number
        template = self.model_copy(update={"criteria": {"overall": ""}}) if request.built_in else self
        return RatingForm(template, request.folder, singles, items)


def read_ratings(raw: Mapping[str, Any], template: RatingTemplate) -> ParsedAnswer:
    """The ratings in one raw answer (see `read_answer`), as `meta`: criterion -> rating."""
    of = _of_json if template.parser == "ratings-json" else _of_line
    return read_answer(raw, lambda answer, _: ParsedAnswer("read", meta=of(answer, template)))


def _of_json(answer: str, template: RatingTemplate) -> dict[str, int]:
    value = json_object(bare_answer(answer)[0], template.criteria)
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


@dataclass(frozen=True)
class RatingForm(JudgeForm):
    """The responses of one result, each rated by the template's criteria."""

    template: RatingTemplate
    subjects: Sequence[Single]

    version = "ratings-2"

    def read(self, raw: Mapping[str, Any], /) -> ParsedAnswer:
        return read_ratings(raw, self.template)

    def about(self) -> str:
        empty = sum(not single.response.strip() for single in self.subjects)
        scale = f"from {self.template.low} to {self.template.high}"
        text = f"responses: {len(self.subjects)}, each rated {scale} by {', '.join(self.template.criteria)}"
        return text + (f"; {empty} are empty, and rated as they are" if empty else "")

    def decide(self, judge: str) -> dict[QuestionId, Outcome]:
        rule, known = rule_of(judge, self.folder)
        of_seed: dict[tuple[int, int], list[QuestionId]] = defaultdict(list)  # raw rewards do not compare across seeds
        for item in self.items:
            of_seed[self.subjects[item.subject].seed, item.repeat].append(item)
        found = {}
        for (_, repeat), items in of_seed.items():
            singles = [self.subjects[item.subject] for item in items]
            scores = [rule.score(s, known.get(key_of(s), math.nan), coin(repeat)) for s in singles]
            ratings = rate_by_rank(np.array(scores), low=self.template.low, high=self.template.high)
            for item, rating in zip(items, ratings, strict=True):
                if math.isnan(rating):
                    reading = ParsedAnswer("unreadable", note=f"no {rule.column} for the response")
                else:
                    reading = ParsedAnswer("read", meta=dict.fromkeys(self.template.criteria, int(rating)))
                found[item] = Outcome("", reading, 1)
        return found

    def write(self, found: Mapping[QuestionId, Outcome], facts: Mapping[str, Any]) -> None:
        criteria = list(self.template.criteria)
        rows = pd.DataFrame(
            [
                question_cells(single := self.subjects[item.subject], item, outcome)
                | {"model": single.model, "length": len(single.response.strip())}
                | {"criterion": criterion, "rating": outcome.reading.meta.get(criterion, math.nan)}
                for criterion in criteria
                for item, outcome in sorted(found.items(), key=lambda pair: pair[0])
            ]
        ).assign(**{name: facts[name] for name in WHO})
        scale = {"low": self.template.low, "high": self.template.high}
        judging = {
            **facts,
            "parser": self.version,
            **scale,
            "criteria": criteria,
            "responses": len(self.subjects),
            **measure_ratings(with_gold(rows, self.folder), **scale),
        }
        write_section(self.folder, RATINGS, typed(rows, RATINGS), [judging])
