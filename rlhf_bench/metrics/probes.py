"""Rules under their former names, until their importers use rlhf_bench.scorers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlhf_bench.scorers.rules import CATEGORY, PAIRED, RULES, _column
from rlhf_bench.scorers.rules import check_suite_metrics as check_probes
from rlhf_bench.types import Item, ResponseRow

__all__ = ["CATEGORY", "PAIRED", "RULES", "Response", "check_probes", "probe_columns"]


class Response(NamedTuple):
    item: Item
    sample: int
    text: str


def probe_columns(names: Sequence[str], responses: Sequence[Response]) -> dict[str, list[float]]:
    rows = [
        ResponseRow("", 0, "", r.sample, r.item.prompt, r.text, category=r.item.category, probe=r.item.probe)
        for r in responses
    ]
    rules = dict.fromkeys(PAIRED.get(rule, rule) for rule in (name.partition(CATEGORY)[0] for name in names))
    verdicts = {rule: np.array([RULES[rule](row) for row in rows]) for rule in rules}
    return {name: _column(name, rows, verdicts).tolist() for name in names}
