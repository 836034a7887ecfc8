"""Judging by rankings, from the line-ups to what is stored: rankings, and the verdicts over pairs that they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from rlhf_bench.judge.asking import Item, Outcome
from rlhf_bench.judge.designs import key_of, labelled
from rlhf_bench.judge.measures import measure
from rlhf_bench.judge.ranking import RANKING_PARSER, Lineups, RankingTemplate
from rlhf_bench.judge.ranking_numbers import measure_rankings, pair_rows
from rlhf_bench.judge.scores import rule_of
from rlhf_bench.judge.sections import RANKINGS, VERDICTS, typed, write_section
from rlhf_bench.judge.types import Lineup, Reading, Single

__all__ = ["RankingDesign"]


@dataclass(frozen=True)
class RankingDesign:
    """Line-ups of several models' responses, each in a drawn order and in its reverse."""

    folder: Path
    found: Lineups
    items: Sequence[Item]
    template: RankingTemplate
    order_seed: int

    @property
    def names(self) -> Mapping[str, str]:
        return {"template": self.template.label}

    def about(self) -> str:
        text = f"line-ups: {len(self.found.lineups) // 2} of {', '.join(self.found.models)}, each in a drawn order and"
        text += " its reverse"
        return text + (
            f"; {self.found.short} that not every model has answered are left out" if self.found.short else ""
        )

    def decide(self, judge: str) -> dict[Item, Outcome]:
        rule, known = rule_of(judge, self.folder)
        found = {}
        for item in self.items:
            lineup = self.found.lineups[item.comparison]
            seed = 1_000_003 * item.repeat + lineup.draw  # a coin a question
            scores = np.array([rule.score(s, known.get(key_of(s), math.nan), seed) for s in _singles(lineup)])
            if np.isnan(scores).any():
                reading = Reading("unreadable", note=f"no {rule.column} for one of the responses")
            else:
                ranks = rankdata(-scores, method="min")
                reading = Reading("read", meta=dict(zip(ascii_uppercase, map(int, ranks), strict=False)))
            found[item] = Outcome("", reading, 1)
        return found

    def write(self, found: Mapping[Item, Outcome], facts: Mapping[str, Any]) -> None:
        who = {name: facts[name] for name in ("judge", "base_url", "template")}
        rows = typed(
            pd.DataFrame(
                [
                    {**who, **row}
                    for item, outcome in sorted(found.items(), key=lambda pair: pair[0])
                    for row in _rows(self.found.lineups[item.comparison], item, outcome)
                ]
            ),
            RANKINGS,
        )
        ranking = {
            **facts,
            "parser": RANKING_PARSER,
            "order_seed": self.order_seed,
            "lineups": len(self.found.lineups) // 2,
            "short": self.found.short,
            **measure_rankings(rows),
        }
        write_section(self.folder, RANKINGS, rows, [ranking])
        pairs = pair_rows(rows)
        judgings = [self._judging(part, str(baseline), facts) for baseline, part in pairs.groupby("baseline")]
        write_section(self.folder, VERDICTS, typed(pairs, VERDICTS), judgings, same=tuple(who))

    def _judging(self, rows: pd.DataFrame, baseline: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The pairs against one of the models. What was asked and paid stands with the rankings."""
        paid = ("cost_usd", "calls_charged", "reported_models")
        first = rows[rows["repeat"] == 0]
        shortest = first[["model_length", "baseline_length"]].min(axis=1)
        return {
            **{key: value for key, value in facts.items() if key not in paid},
            "baseline": baseline,
            "parser": RANKING_PARSER,
            "pairs": len(first) // 2,
            "alone": 0,
            "empty": int((shortest == 0).sum()) // 2,
            "questions": {str(status): int(n) for status, n in rows["status"].value_counts().items()},
            "ranked": True,
            **measure(labelled(rows, self.folder), baseline=baseline),
        }


def _singles(lineup: Lineup) -> list[Single]:
    return [
        Single(lineup.prompt_id, lineup.prompt, lineup.seed, lineup.sample, model, response)
        for model, response in zip(lineup.models, lineup.responses, strict=True)
    ]


def _rows(lineup: Lineup, item: Item, outcome: Outcome) -> list[dict[str, Any]]:
    """A row a place."""
    reading = outcome.reading
    return [
        {
            "model": model,
            "prompt_id": lineup.prompt_id,
            "seed": lineup.seed,
            "sample": lineup.sample,
            "draw": lineup.draw,
            "place": place,
            "repeat": item.repeat,
            "status": reading.status,
            "rank": reading.meta.get(label, math.nan),
            "note": reading.note,
            "length": len(response.strip()),
            "key": outcome.key,
        }
        for place, (label, model, response) in enumerate(
            zip(ascii_uppercase, lineup.models, lineup.responses, strict=False), 1
        )
    ]
