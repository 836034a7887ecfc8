"""A form of judging, from what is asked about to what is stored: pairs in both orders, or single responses."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from rlhf_bench.judge.asking import Item, Outcome
from rlhf_bench.judge.builtin import rate_by_rank
from rlhf_bench.judge.measures import measure
from rlhf_bench.judge.pairs import Pairs
from rlhf_bench.judge.parse import PARSER_VERSION
from rlhf_bench.judge.rating import RATING_PARSER, RatingTemplate
from rlhf_bench.judge.rating_numbers import measure_ratings
from rlhf_bench.judge.result import verdict_rows, write_judging
from rlhf_bench.judge.scores import ResponseKey, known_scores, rule_of
from rlhf_bench.judge.sections import RATINGS, typed, write_section
from rlhf_bench.judge.types import Reading, Single

__all__ = ["Design", "PairDesign", "RatingDesign", "key_of", "labelled"]


class Design(Protocol):
    """What a form adds to what all judgings share."""

    @property
    def items(self) -> Sequence[Item]:
        """The questions."""

    @property
    def names(self) -> Mapping[str, str]:
        """What names the judging in judge.json beside its judge and server."""

    def about(self) -> str:
        """What is asked about, in a line."""

    def decide(self, judge: str) -> dict[Item, Outcome]:
        """The readings of a judge that asks nobody. Raises StoreError where the result lacks its scores."""

    def write(self, found: Mapping[Item, Outcome], facts: Mapping[str, Any]) -> None:
        """Store rows and numbers; `facts` are who judged, what it cost, and how the questions ended."""


@dataclass(frozen=True)
class PairDesign:
    """Two responses, in both orders."""

    folder: Path
    pairs: Pairs
    items: Sequence[Item]
    baseline: str
    template: str

    @property
    def names(self) -> Mapping[str, str]:
        return {"template": self.template, "baseline": self.baseline}

    def about(self) -> str:
        alone, empty = self.pairs.alone, self.pairs.empty
        text = f"pairs: {len(self.pairs.comparisons)}, each in both orders"
        text += f"; {alone} responses have no counterpart" if alone else ""
        return text + (f"; {empty} pairs have an empty response, which is judged as it is" if empty else "")

    def decide(self, judge: str) -> dict[Item, Outcome]:
        rule, scores = rule_of(judge, self.folder)
        found = {}
        for item in self.items:
            c = self.pairs.comparisons[item.comparison]
            keys = [(name, c.seed, c.prompt_id, c.sample) for name in (c.model, c.baseline)]
            both = (scores.get(keys[0], math.nan), scores.get(keys[1], math.nan)) if rule.column else None
            reading = rule.decide(c, item.order, scores=both, repeat=item.repeat)
            found[item] = Outcome("", reading, 1)
        return found

    def write(self, found: Mapping[Item, Outcome], facts: Mapping[str, Any]) -> None:
        who = {name: str(facts[name]) for name in ("judge", "base_url", "template")}
        rows = verdict_rows(self.pairs.comparisons, found, **who)
        judging = {
            **facts,
            "parser": PARSER_VERSION,
            "pairs": len(self.pairs.comparisons),
            "alone": self.pairs.alone,
            "empty": self.pairs.empty,
            **measure(labelled(rows, self.folder), baseline=self.baseline),
        }
        write_judging(self.folder, rows, judging)


@dataclass(frozen=True)
class RatingDesign:
    """Single responses, each rated by the template's criteria."""

    folder: Path
    singles: Sequence[Single]
    items: Sequence[Item]
    template: RatingTemplate

    @property
    def names(self) -> Mapping[str, str]:
        return {"template": self.template.label}

    def about(self) -> str:
        empty = sum(not single.response.strip() for single in self.singles)
        scale = f"from {self.template.low} to {self.template.high}"
        text = f"responses: {len(self.singles)}, each rated {scale} by {', '.join(self.template.criteria)}"
        return text + (f"; {empty} are empty, and rated as they are" if empty else "")

    def decide(self, judge: str) -> dict[Item, Outcome]:
        rule, known = rule_of(judge, self.folder)
        of_seed: dict[tuple[int, int], list[Item]] = defaultdict(list)  # raw rewards do not compare across seeds
        for item in self.items:
            of_seed[self.singles[item.comparison].seed, item.repeat].append(item)
        found = {}
        for (_, repeat), items in of_seed.items():
            singles = [self.singles[item.comparison] for item in items]
            scores = [rule.score(s, known.get(key_of(s), math.nan), 1_000_003 * repeat) for s in singles]
            ratings = rate_by_rank(np.array(scores), low=self.template.low, high=self.template.high)
            for item, rating in zip(items, ratings, strict=True):
                if math.isnan(rating):
                    reading = Reading("unreadable", note=f"no {rule.column} for the response")
                else:
                    reading = Reading("read", meta=dict.fromkeys(self.template.criteria, int(rating)))
                found[item] = Outcome("", reading, 1)
        return found

    def write(self, found: Mapping[Item, Outcome], facts: Mapping[str, Any]) -> None:
        low, high = self.template.low, self.template.high
        criteria = list(self.template.criteria)
        who = {name: facts[name] for name in ("judge", "base_url", "template")}
        rows = pd.DataFrame(
            [
                {**who, **_rating_row(self.singles[item.comparison], item, outcome), "criterion": criterion}
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
            "responses": len(self.singles),
            **measure_ratings(_with_gold(rows, self.folder), low=low, high=high),
        }
        write_section(self.folder, RATINGS, typed(rows, RATINGS), [judging])


def labelled(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """With the column `gold`, 1, 0.5 or 0 for the model by the gold reward, NaN without one; as given if none has."""
    scores = known_scores(folder, "gold")

    def lead(row: Any) -> float:
        of = [scores.get((name, row.seed, row.prompt_id, row.sample), math.nan) for name in (row.model, row.baseline)]
        return float(np.sign(of[0] - of[1]))

    keys = rows[["model", "baseline", "seed", "prompt_id", "sample"]]
    gold = [(1 + lead(row)) / 2 for row in keys.itertuples(index=False)] if scores else []
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows


def _with_gold(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """With the column `gold`, the gold reward of the response; as given if none has one."""
    scores = known_scores(folder, "gold")
    keys = zip(rows["model"], rows["seed"], rows["prompt_id"], rows["sample"], strict=True)
    gold = [scores.get((str(model), int(seed), str(prompt), int(n)), math.nan) for model, seed, prompt, n in keys]
    return rows.assign(gold=gold) if np.isfinite(gold).any() else rows


def _rating_row(single: Single, item: Item, outcome: Outcome) -> dict[str, Any]:
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


def key_of(single: Single) -> ResponseKey:
    return single.model, single.seed, single.prompt_id, single.sample
