"""A published table of means: which of its differences are beyond chance.

model,mean,sd,n
sft,5.407,1.341,100
grpo,5.578,1.207,100
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from rlhf_bench.annotations.cells import as_number
from rlhf_bench.compare.compared import WIDTH
from rlhf_bench.data.tabular import Unusable, read_table
from rlhf_bench.errors import DataError
from rlhf_bench.report.render.terminal import text_of
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.stats import holm
from rlhf_bench.stats.published import PublishedMean, published_difference

_COLUMNS = ("model", "mean", "sd", "n")
_FEW = 30  # prompts, below which the normal approximation is too sure of itself
_NOTES = (
    "Unpaired, by the normal approximation: a table of means does not say how two models' scores of one prompt go "
    "together. p (Holm) corrects p over the pairs.",
    "Significant from r: the correlation of two models' scores over the prompts from which on a paired test at 0.05 "
    "would find the difference; 0 or less: it is found without any; above 1: by no correlation.",
)


def compare_published(path: Path) -> str:
    """Every pair of a published table's models, the later minus the earlier, as text. Raises DataError."""
    return text_of(published_table(read_published(path)), width=WIDTH)


def read_published(path: Path) -> list[PublishedMean]:
    """The rows of a table with the columns model, mean, sd and n, in any of the formats of data.

    Raises DataError for a missing column, a row that is not such a row, a model that is there twice, or a single one.
    """
    table = read_table(path)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"{str(path)!r} has the columns {', '.join(table.columns)} and lacks {', '.join(missing)}; expected "
            f"{', '.join(_COLUMNS)}: a model a row, its mean, standard deviation over prompts, and number of prompts"
        )
    found = [one for _, one in table.read(lambda _, row: _published(row))]
    table.settle(skip=False)
    names = [one.model for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or len(found) < 2:
        given = f"the model {twice!r} twice" if twice is not None else "one model"
        raise DataError(f"{str(path)!r} holds {given}; expected two or more models, each in one row")
    return found


def published_table(models: list[PublishedMean]) -> Table:
    """A row a pair."""
    pairs = [(b, a) for a, b in combinations(models, 2)]
    found = [published_difference(b, a) for b, a in pairs]
    corrected = holm([one.p for one in found])
    rows: list[list[Cell]] = [
        [f"{b.model} - {a.model}", one.estimate, one.se, one.p, p_holm, one.correlation]
        for (b, a), one, p_holm in zip(pairs, found, corrected, strict=True)
    ]
    columns = [
        Column("pair", "Pair"),
        Column("difference", "Difference", interval=True),
        Column("se", "SE"),
        Column("p", "p", 4, p_value=True),
        Column("p_holm", "p (Holm)", 4, p_value=True),
        Column("correlation", "Significant from r", 2),
    ]
    notes = list(_NOTES)
    few = min(model.n for model in models)
    if few < _FEW:
        notes.append(f"Of {few} prompts the normal approximation is too sure: intervals are too narrow, p too small.")
    return Table("published", "Published means, pair by pair", columns, rows, notes)


def _published(row: Mapping[str, Any]) -> PublishedMean:
    model = str(row.get("model") or "").strip()
    if not model:
        raise Unusable("has no model")
    mean, sd, n = (_number(row, name) for name in _COLUMNS[1:])
    if sd < 0:
        raise Unusable(f"has sd {sd:g}, expected 0 or more")
    if n < 2 or n != int(n):
        raise Unusable(f"has n {n:g}, expected a whole number of at least 2 prompts")
    return PublishedMean(model, mean, sd, int(n))


def _number(row: Mapping[str, Any], name: str) -> float:
    value = as_number(row.get(name))
    if not math.isfinite(value):
        raise Unusable(f"has {row.get(name)!r} as {name!r}, expected a number")
    return value
