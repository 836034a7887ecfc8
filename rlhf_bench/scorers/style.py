"""What each response is like: the features of its text that a gain in reward is split by. No metric of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlhf_bench.scorers.base import Columns, EvalContext, ResponseRow, Scorer
from rlhf_bench.scorers.features import FEATURES, feature_table

PREFIX = "style_"

GROUPS: Mapping[str, tuple[str, ...]] = {
    "length": ("length",),
    "tone": ("hedging", "assertiveness", "politeness", "flattery", "exclamation", "first_person", "toxicity"),
    "refusal": ("refusal",),
    "form": ("list_form", "markdown", "question", "numbers"),
}
"""Each feature in one group; what a reward pays for one is hard to separate from the others of its group."""

STYLE_COLUMNS = [f"{PREFIX}{name}" for name in FEATURES]
COLUMNS_OF_GROUP = {
    group: [STYLE_COLUMNS.index(f"{PREFIX}{name}") for name in names] for group, names in GROUPS.items()
}


class StyleScorer(Scorer):
    order = 90

    def score(self, rows: Sequence[ResponseRow], context: EvalContext) -> Columns:
        table = feature_table([row.response for row in rows])
        return dict(zip(STYLE_COLUMNS, table.T, strict=True))


SCORER = StyleScorer()
