"""Several models' responses to one prompt ranked in one call, in a drawn order and in its reverse.

    name: rank                parser: ranking-json
    system: ... {fence} ... {labels} ...      user: ... {prompt} ... {responses} ...

An answer is read only where it names every response once, the best first; a response that is left out, named twice or
unknown makes it unreadable. The reverse shows every two responses in their other order as well, so that a ranking
counts as pairs do: a pair is won only where both listwise comparisons agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.stats import rankdata

from rlhf_bench.errors import BadValue, StoreError
from rlhf_bench.judge.analysis.scales import COMPARISON, measure_rankings
from rlhf_bench.judge.forms.answers import Unreadable, answer_schema, bare_answer, json_object, read_answer
from rlhf_bench.judge.forms.base import BaseTemplate, FormRequest, JudgeForm, no_baseline
from rlhf_bench.judge.forms.builtin import coin, key_of, rule_of
from rlhf_bench.judge.questions import (
    EVERY,
    RESPONSE,
    AnswerFormat,
    ListwiseComparison,
    Order,
    Outcome,
    ParsedAnswer,
    Question,
    QuestionId,
    Selection,
    Single,
    items_of,
    texts_of,
)
from rlhf_bench.judge.results import WHO, FormSection, question_cells, typed, write_section, write_verdicts
from rlhf_bench.store import order_models
from rlhf_bench.types import stable_hash

MOST = len(ascii_uppercase)


RANKINGS = FormSection(
    "rankings",
    "rankings.parquet",
    WHO,
    (*WHO, *RESPONSE, "draw", "place", "repeat", "status", "rank", "note", "length", "key"),
    (*WHO, "prompt_id", "seed", "sample", "draw", "repeat", "place"),
    {"rank": "float64", **dict.fromkeys(("draw", "place", "seed", "sample", "repeat", "length"), "int64")},
)


class RankingTemplate(BaseTemplate):
    """The fields of a template of rankings."""

    places = ("prompt", "responses")
    free = ("labels",)

    parser: Literal["ranking-json"] = Field(description="how the answer is read")

    def format_of(self, labels: str) -> AnswerFormat:
        """The answer's format for a listwise comparison with these labels."""
        if labels not in self._formats:
            # That no label occurs twice is left to the parser: few servers keep to such a schema.
            ranking = {"type": "array", "items": {"type": "string", "enum": list(labels)}}
            self._formats[labels] = self.format_with(answer_schema({"ranking": ranking}))
        return self._formats[labels]

    @cached_property
    def _formats(self) -> dict[str, AnswerFormat]:
        return {}

    def render(self, subject: ListwiseComparison, order: Order = "given", /, *, repeat: int = 0) -> Question:
        """The question with the responses as A, B, C, ... in the order of the listwise comparison."""
        labels = ascii_uppercase[: len(subject.responses)]
        texts = {label: (f"RESPONSE {label}", text) for label, text in zip(labels, subject.responses, strict=True)}
        places = self.fenced(subject.prompt, texts)
        places |= {"responses": "\n\n".join(places[label] for label in labels), "labels": ", ".join(labels)}
        return Question(self.messages(places), self.format_of(labels), repeat)

    def form(self, request: FormRequest) -> RankingForm:
        """All models' responses to each prompt. Raises BadValue where a baseline is given."""
        no_baseline(request, self)
        found = listwise_of(request.responses, request.chosen, seed=request.order_seed)
        items = items_of(found.comparisons, request.again, orders=("given",))
        return RankingForm(self, request.folder, found.comparisons, items, found, request.order_seed)


def read_ranking(raw: Mapping[str, Any], shown: int) -> ParsedAnswer:
    """The ranking of so many responses in one raw answer (see `read_answer`); `meta` is label -> rank, 1 the best."""

    def parse(answer: str, _: int) -> ParsedAnswer:
        labels = json_object(bare_answer(answer)[0], ["ranking"])["ranking"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Unreadable("the ranking is no list of labels")
        labels = [label.strip().upper() for label in labels]
        if sorted(labels) != list(ascii_uppercase[:shown]):
            raise Unreadable("the ranking does not name each response once")
        return ParsedAnswer("read", meta={label: rank for rank, label in enumerate(labels, 1)})

    return read_answer(raw, parse)


class ListwiseSet(NamedTuple):
    """`short` counts prompts (of a seed and sample) that not every model has answered; they are left out."""

    comparisons: list[ListwiseComparison]
    models: list[str]
    short: int


def listwise_of(responses: Iterable[Mapping[str, Any]], chosen: Selection = EVERY, *, seed: int = 0) -> ListwiseSet:
    """Each prompt's responses in an order drawn by `seed`, and in its reverse (draw 0 and 1); sorted by prompt.

    Errors as in `questions.pairs_of`. Raises BadValue for fewer than two models or more than there are
    labels, StoreError where no prompt was answered by all of them.
    """
    texts, prompts = found = texts_of(responses)
    models = found.models(chosen)
    if not 2 <= len(models) <= MOST:
        raise BadValue(f"--model: {len(models)} models given to rank, expected 2 to {MOST}")
    comparisons, short = [], 0
    for prompt, run_seed, sample in sorted({key for name in models for key in found.keys(name, chosen)}):
        if not all((prompt, run_seed, sample) in texts[name] for name in models):
            short += 1
            continue
        where = (str(seed), prompt, str(run_seed), str(sample))
        drawn = sorted(models, key=lambda name, where=where: stable_hash(*where, name))  # type: ignore[misc]
        for draw, order in enumerate((drawn, drawn[::-1])):
            shown = tuple(texts[name][prompt, run_seed, sample] for name in order)
            comparisons.append(ListwiseComparison(prompt, prompts[prompt], run_seed, sample, draw, tuple(order), shown))
    if not comparisons:
        raise StoreError(f"no prompt was answered by each of {', '.join(models)}; name other models with --model")
    return ListwiseSet(comparisons, models, short)


@dataclass(frozen=True)
class RankingForm(JudgeForm):
    """The listwise comparisons of one result."""

    template: RankingTemplate
    subjects: Sequence[ListwiseComparison]
    found: ListwiseSet
    order_seed: int

    version = "ranking-2"

    @property
    def parser(self) -> str:
        return f"{self.version}/{len(self.found.models)}/{self.template.hash}"

    def read(self, raw: Mapping[str, Any], /) -> ParsedAnswer:
        return read_ranking(raw, len(self.found.models))

    def about(self) -> str:
        count, models = len(self.subjects) // 2, ", ".join(self.found.models)
        text = f"listwise comparisons: {count} of {models}, each in a drawn order and its reverse"
        short = self.found.short
        return text + (f"; {short} prompts that not every model has answered are left out" if short else "")

    def decide(self, judge: str) -> dict[QuestionId, Outcome]:
        rule, known = rule_of(judge, self.folder)
        found = {}
        for item in self.items:
            comparison = self.subjects[item.subject]
            seed = coin(item.repeat, comparison.draw)
            scores = np.array([rule.score(s, known.get(key_of(s), math.nan), seed) for s in _singles(comparison)])
            if np.isnan(scores).any():
                reading = ParsedAnswer("unreadable", note=f"no {rule.column} for one of the responses")
            else:
                ranks = rankdata(-scores, method="min")
                reading = ParsedAnswer("read", meta=dict(zip(ascii_uppercase, map(int, ranks), strict=False)))
            found[item] = Outcome("", reading, 1)
        return found

    def write(self, found: Mapping[QuestionId, Outcome], facts: Mapping[str, Any]) -> None:
        cells = [row for item, outcome in found.items() for row in _rows(self.subjects[item.subject], item, outcome)]
        rows = typed(pd.DataFrame(cells).assign(**{name: facts[name] for name in WHO}), RANKINGS)
        ranking = {
            **facts,
            "parser": self.version,
            "order_seed": self.order_seed,
            "comparisons": len(self.subjects) // 2,
            "short": self.found.short,
            **measure_rankings(rows),
        }
        write_section(self.folder, RANKINGS, rows, [ranking])
        paid = ("cost_usd", "calls_charged", "reported_models")  # they are with the rankings
        of_pairs = {key: value for key, value in facts.items() if key not in paid}
        write_verdicts(self.folder, pair_rows(rows), {**of_pairs, "parser": self.version, "ranked": True}, same=WHO)


def _singles(comparison: ListwiseComparison) -> list[Single]:
    return [
        Single(comparison.prompt_id, comparison.prompt, comparison.seed, comparison.sample, model, response)
        for model, response in zip(comparison.models, comparison.responses, strict=True)
    ]


def _rows(comparison: ListwiseComparison, item: QuestionId, outcome: Outcome) -> list[dict[str, Any]]:
    return [
        question_cells(comparison, item, outcome)
        | {"model": model, "draw": comparison.draw, "place": place, "length": len(response.strip())}
        | {"rank": outcome.reading.meta.get(label, math.nan)}
        for place, (label, model, response) in enumerate(
            zip(ascii_uppercase, comparison.models, comparison.responses, strict=False), 1
        )
    ]


def pair_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A verdict for every two responses of each listwise comparison, as `pairs.fold` takes them, from RANKINGS rows.

    The baseline of a pair is the model that tables name first. The drawn order and its reverse are the pair's two
    orders. All pairs of a call rest on one answer: they stay together in every resample, which is of prompts.
    """
    place = {model: i for i, model in enumerate(order_models(rows["model"]))}
    others = rows[[*COMPARISON, "model", "place", "rank", "length"]]
    pairs = rows.merge(others, on=COMPARISON, suffixes=("", "_other"))
    pairs = pairs[pairs["model"].map(place) > pairs["model_other"].map(place)]
    first = pairs["place"] < pairs["place_other"]
    lead = pairs["rank_other"] - pairs["rank"]  # above 0: the model is ranked better
    named = np.where(lead == 0, "tie", np.where((lead > 0) == first, "first", "second")).astype(object)
    winner = np.where(pairs["status"] == "read", named, np.array(None, dtype=object))
    return pairs.assign(
        baseline=pairs["model_other"],
        order=np.where(first, "model_first", "baseline_first"),
        winner=winner,
        soft=np.nan,
        model_length=pairs["length"],
        baseline_length=pairs["length_other"],
    )
