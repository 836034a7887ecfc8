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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator
from scipy.stats import rankdata

from rlhf_bench.judge.analysis.pairs import blocks, status_rates
from rlhf_bench.judge.forms.base import (
    BaseTemplate,
    FormRequest,
    Unreadable,
    after_thoughts,
    answer_schema,
    bare_answer,
    content_of,
    fence_token,
    fenced,
    json_object,
    no_baseline,
    refused,
)
from rlhf_bench.judge.forms.builtin import key_of, rate_by_rank, rule_of
from rlhf_bench.judge.questions import (
    AnswerFormat,
    Order,
    Outcome,
    ParsedAnswer,
    Question,
    QuestionId,
    Single,
    items_of,
    singles_of,
)
from rlhf_bench.judge.results import (
    RESPONSE,
    WHO,
    Section,
    typed,
    with_gold,
    write_section,
)
from rlhf_bench.stats import FloatArray, correlation_estimate, crossed_difference, holm
from rlhf_bench.stats.bounded import bounded_mean
from rlhf_bench.store import order_models
from rlhf_bench.types import Estimate

__all__ = [
    "RATING_PARSER",
    "RatingForm",
    "RatingTemplate",
    "measure_ratings",
    "rating_audit",
    "rating_differences",
    "rating_means",
    "read_ratings",
]

RATING_PARSER = "ratings-2"  # changes when a stored answer would be read differently
_LINE = re.compile(r"(?:\*\*)?\[\[(\d{1,2})\]\](?:\*\*)?\.?")
_MARK = re.compile(r"\[\[\s*(\d+)\s*\]\]")
RATINGS = Section(
    "ratings",
    "ratings.parquet",
    WHO,
    (*WHO, *RESPONSE, "repeat", "status", "criterion", "rating", "note", "length", "key"),
    (*WHO, "criterion", *RESPONSE, "repeat"),
    {"rating": "float64", "seed": "int64", "sample": "int64", "repeat": "int64", "length": "int64"},
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

    def without_criteria(self) -> RatingTemplate:
        """The same scale for a judge that has one opinion of a response and no words for it."""
        return self.model_copy(update={"criteria": {"overall": ""}})

    @cached_property
    def answer_format(self) -> AnswerFormat:
        return self.format_with(self.schema_of_answer())

    def schema_of_answer(self) -> dict[str, Any] | None:
        """JSON schema of the answer; None where the answer is plain text."""
        if self.parser != "ratings-json":
            return None
        # An enum, since not every server keeps to minimum and maximum.
        rating = {"type": "integer", "enum": list(range(self.low, self.high + 1))}
        return answer_schema({name: dict(rating) for name in self.criteria})

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
        return Question(self.messages(places), self.answer_format, repeat)

    def form(self, request: FormRequest) -> RatingForm:
        """Every response by itself. Raises BadValue where a baseline is given."""
        no_baseline(request, self)
        singles = singles_of(request.responses, models=request.models, samples=request.samples, limit=request.limit)
        items = items_of(singles, request.again, orders=("given",))
        return RatingForm(self.without_criteria() if request.built_in else self, request.folder, singles, items)


def read_ratings(raw: Mapping[str, Any], template: RatingTemplate) -> ParsedAnswer:
    """The ratings in one raw answer (as `pairwise.read_verdict` takes it), as `meta`: criterion -> rating."""
    held_back = refused(raw)
    if held_back is not None:
        return held_back
    try:
        content = content_of(raw, whole=True)
        answer = content[after_thoughts(content) :].strip()
        ratings = _of_json(answer, template) if template.parser == "ratings-json" else _of_line(answer, template)
    except Unreadable as why:
        return ParsedAnswer("unreadable", note=str(why))
    return ParsedAnswer("read", meta=ratings)


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
class RatingForm:
    """The responses of one result, each rated by the template's criteria."""

    template: RatingTemplate
    folder: Path
    subjects: Sequence[Single]
    items: Sequence[QuestionId]

    @property
    def names(self) -> Mapping[str, str]:
        return {"template": self.template.label}

    @property
    def parser(self) -> str:
        return f"{RATING_PARSER}/{self.template.hash}"

    def render(self, subject: Single, order: Order, /, *, repeat: int = 0) -> Question:
        return self.template.render(subject, order, repeat=repeat)

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
            scores = [rule.score(s, known.get(key_of(s), math.nan), 1_000_003 * repeat) for s in singles]
            ratings = rate_by_rank(np.array(scores), low=self.template.low, high=self.template.high)
            for item, rating in zip(items, ratings, strict=True):
                if math.isnan(rating):
                    reading = ParsedAnswer("unreadable", note=f"no {rule.column} for the response")
                else:
                    reading = ParsedAnswer("read", meta=dict.fromkeys(self.template.criteria, int(rating)))
                found[item] = Outcome("", reading, 1)
        return found

    def write(self, found: Mapping[QuestionId, Outcome], facts: Mapping[str, Any]) -> None:
        low, high = self.template.low, self.template.high
        criteria = list(self.template.criteria)
        who = {name: facts[name] for name in ("judge", "base_url", "template")}
        rows = pd.DataFrame(
            [
                {**who, **_rating_row(self.subjects[item.subject], item, outcome), "criterion": criterion}
                | {"rating": outcome.reading.meta.get(criterion, math.nan)}
                for criterion in criteria
                for item, outcome in sorted(found.items(), key=lambda pair: pair[0])
            ]
        )
        judging = {
            **facts,
            "parser": RATING_PARSER,
            "low": low,
            "high": high,
            "criteria": criteria,
            "responses": len(self.subjects),
            **measure_ratings(with_gold(rows, self.folder), low=low, high=high),
        }
        write_section(self.folder, RATINGS, typed(rows, RATINGS), [judging])


def _rating_row(single: Single, item: QuestionId, outcome: Outcome) -> dict[str, Any]:
    return {
        "model": single.model,
        "prompt_id": single.prompt_id,
        "seed": single.seed,
        "sample": single.sample,
        "repeat": item.repeat,
        "status": outcome.reading.status,
        "note": outcome.reading.note,
        "length": len(single.response.strip()),
        "key": outcome.key,
    }


def measure_ratings(rows: pd.DataFrame, *, low: int, high: int) -> dict[str, Any]:
    """Of one judging's rows (RATINGS), with `gold` where it is known: means, differences and audit."""
    first = rows[rows["repeat"] == 0]
    return {
        "means": list(rating_means(first, low=low, high=high)),
        "differences": list(rating_differences(first)),
        "audit": rating_audit(rows, high=high),
    }


def rating_means(rows: pd.DataFrame, *, low: int, high: int, level: float = 0.95) -> Iterator[dict[str, Any]]:
    """Each model's mean rating by criterion, over all seeds and within each.

    Samples are averaged first; prompts are crossed with training seeds. Where nearly all prompts have the same rating
    the interval is that of a share of the scale (`bounded_mean`), so it has a width and stays on the scale.
    """

    def estimate(samples: FloatArray) -> Estimate:
        share = bounded_mean((samples - low) / (high - low), level=level)
        limits = {name: low + (high - low) * getattr(share, name) for name in ("value", "low", "high")}
        return replace(share, **limits)

    for criterion, model, group in _groups(rows):
        (block,) = blocks(group, ["rating"])
        seeds = sorted({int(seed) for seed in group["seed"]})
        within = {str(seed): estimate(block[i : i + 1]) for i, seed in enumerate(seeds)}
        yield {
            "model": model,
            "criterion": criterion,
            "estimate": estimate(block),
            "per_seed": {name: found for name, found in within.items() if found.n},
            "unread": int(group["rating"].isna().sum()),
        }


def rating_differences(rows: pd.DataFrame, *, level: float = 0.95) -> Iterator[dict[str, Any]]:
    """a minus b on the same seeds and prompts, for every two models; Holm over the pairs of a criterion."""
    for criterion, group in rows.groupby("criterion", sort=False):
        cells = _cells(group)
        pairs = list(combinations(order_models(cells), 2))
        found = [crossed_difference(cells[b], cells[a], level=level) for a, b in pairs]
        adjusted = holm([one.p_paired for one in found])
        for (a, b), one, p in zip(pairs, found, adjusted, strict=True):
            yield {
                "criterion": str(criterion),
                "a": b,  # the later model, as a trained one comes after its base
                "b": a,
                "difference": one.estimate,
                "p_paired": one.p_paired,
                "p_wilcoxon": one.p_wilcoxon,
                "p_holm": p,
                "effect": one.effect,
                "detectable": one.detectable,
            }


def rating_audit(rows: pd.DataFrame, *, high: int) -> dict[str, Estimate]:
    """What describes a judge that rates; no fault in itself.

    unreadable, refused, failed   of the questions that were asked
    highest                       ratings that are the best of the scale: a judge that gives little else does
                                  not separate models
    repeatability                 ratings that were the same when the question was asked again
    length, gold                  Spearman's correlation of a response's mean rating with its length, and with its gold
                                  reward where that is known
    """
    first = rows[rows["repeat"] == 0]
    criterion = first["criterion"].iloc[0]
    questions = first[first["criterion"] == criterion]
    audit = status_rates(questions)
    rating = first["rating"].to_numpy(dtype=np.float64)
    at_top = np.where(np.isfinite(rating), rating == high, np.nan)
    audit["highest"] = bounded_mean(blocks(first.assign(at_top=at_top), ["at_top"])[0])
    again = rows[(rows["repeat"] > 0) & rows["rating"].notna()]
    if len(again):
        key = [*RESPONSE, "criterion"]
        twice = again.merge(first.loc[first["rating"].notna(), [*key, "rating"]], on=key, suffixes=("", "_before"))
        same = (twice["rating"] == twice["rating_before"]).astype(np.float64)
        audit["repeatability"] = bounded_mean(blocks(twice.assign(same=same), ["same"])[0])
    known = [name for name in ("length", "gold") if name in first.columns]
    of_response = first.groupby(list(RESPONSE), sort=True)[["rating", *known]].mean().reset_index()
    for name in known:
        audit[name] = _spearman(of_response, name)
    return audit


def _spearman(responses: pd.DataFrame, column: str) -> Estimate:
    """Over all responses, prompts resampled with all of theirs; both columns as ranks, ties averaged."""
    both = responses[responses["rating"].notna() & responses[column].notna()]
    ranks = both.assign(x=rankdata(both["rating"]), y=rankdata(both[column]))
    x, y = (np.moveaxis(block, 1, 0).reshape(block.shape[1], -1) for block in blocks(ranks, ["x", "y"]))
    return correlation_estimate(x, y)


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(criterion, model, its rows), criteria in the order of their first rows, models in the order of tables."""
    for criterion, group in rows.groupby("criterion", sort=False):
        of_model: Mapping[str, pd.DataFrame] = {str(model): part for model, part in group.groupby("model")}
        for model in order_models(of_model):
            yield str(criterion), model, of_model[model]


def _cells(rows: pd.DataFrame) -> dict[str, FloatArray]:
    """Model -> (S, P) means over samples; the same seeds and prompts for all, NaN where there is no rating."""
    means = rows.pivot_table(index="seed", columns=["model", "prompt_id"], values="rating", dropna=False)
    seeds, prompts = sorted(set(rows["seed"])), sorted(set(rows["prompt_id"]))
    return {
        str(model): means.reindex(seeds)[model].reindex(columns=prompts).to_numpy(dtype=np.float64)
        for model in dict.fromkeys(rows["model"])
    }
