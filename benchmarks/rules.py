"""How well the rules of the failure-mode suites agree with labels by hand: the tables of docs/suites.md.

    python benchmarks/rules.py

Intervals are over the labelled responses: Wilson for shares, percentile bootstrap for Cohen's kappa.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_bench.scorers.rules.claims import answer_given
from rlhf_bench.scorers.rules.degenerate import is_degenerate
from rlhf_bench.scorers.rules.refusal import complies, refuses, stance
from rlhf_bench.stats import share_estimate
from rlhf_bench.stats.agreement import cohen_kappa

LABELLED = Path(__file__).parent.parent / "tests" / "rlhf_bench" / "scorers" / "labelled"
Row = dict[str, Any]


class Check(NamedTuple):
    """A rule, the labelled responses that it is checked on, and what label and rule say of one: yes or no."""

    rule: str
    file: str
    label: Callable[[Row], bool]
    verdict: Callable[[Row], bool]
    applies: Callable[[Row], bool] = lambda row: True


def _answer(row: Row) -> str:
    return answer_given(row["response"], right=row["right"], wrong=row["wrong"], claimed=row["claimed"])


CHECKS = (
    Check("refused", "refusal", lambda row: row["label"] == "refuses", lambda row: refuses(row["response"])),
    Check(
        "complied", "refusal", lambda row: row["label"] == "complies", lambda row: complies(row["response"]),
        lambda row: row["category"] == "harmful",
    ),
    Check("right", "claims", lambda row: row["label"] == "right", lambda row: _answer(row) == "right"),
    Check("agreed", "claims", lambda row: row["label"] == "wrong", lambda row: _answer(row) == "wrong"),
    Check("degenerate", "degenerate", lambda row: bool(row["label"]), lambda row: is_degenerate(row["response"])),
)  # fmt: skip


def read(file: str) -> list[Row]:
    return [json.loads(line) for line in (LABELLED / f"{file}.jsonl").read_text(encoding="utf-8").split("\n") if line]


def counts(check: Check, rows: list[Row]) -> np.ndarray:
    """(N, 2): label and verdict of each response that the rule applies to, 0 or 1."""
    return np.array([[check.label(row), check.verdict(row)] for row in rows if check.applies(row)], dtype=int)


def kappa_interval(pairs: np.ndarray, *, resamples: int = 2_000) -> tuple[float, float, float]:
    """Cohen's kappa and its 95 % percentile interval over the responses."""
    rng = np.random.default_rng(0)
    cells = 2 * pairs[:, 0] + pairs[:, 1]
    drawn = rng.integers(len(cells), size=(resamples, len(cells)))
    kappas = [cohen_kappa(np.bincount(row, minlength=4).reshape(2, 2)) for row in cells[drawn]]
    value = cohen_kappa(np.bincount(cells, minlength=4).reshape(2, 2))
    return value, *(float(q) for q in np.nanquantile(kappas, (0.025, 0.975)))


def table() -> Iterator[str]:
    yield "| rule | responses | of which yes | misses | false alarms | kappa | accuracy | new, hh-mini | new, written |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for check in CHECKS:
        rows = read(check.file)
        pairs = counts(check, rows)
        kappa, low, high = kappa_interval(pairs)
        missed, false = ((pairs == kind).all(axis=1).sum() for kind in ((1, 0), (0, 1)))
        fresh = [[row for row in rows if row["fresh"] and row["source"] == source] for source in ("mini", "written")]
        shares = [accuracy(pairs), *(f"{accuracy(p)}, n = {len(p)}" for p in (counts(check, part) for part in fresh))]
        cells = [check.rule, len(pairs), pairs[:, 0].sum(), missed, false, f"{kappa:.2f} [{low:.2f}, {high:.2f}]"]
        yield f"| {' | '.join(map(str, [*cells, *shares]))} |"


NATURAL: dict[str, Callable[[Row], str | bool]] = {
    "safety": lambda row: stance(row["response"]),
    "sycophancy": _answer,
    "out-of-distribution": lambda row: is_degenerate(row["response"]),
}


def natural(name: str) -> dict[str, list[bool]]:
    """Suite -> whether its rule says what the label says, for each of the 20 natural responses of this set."""
    agrees: dict[str, list[bool]] = {suite: [] for suite in NATURAL}
    for row in read(f"natural-{name}"):
        agrees[row["suite"]].append(NATURAL[row["suite"]](row) == row["label"])
    return agrees


def natural_table() -> Iterator[str]:
    yield "| natural responses | the 60 that the rules were changed by | the 60 written afterwards |"
    yield "| --- | ---: | ---: |"
    first, second = natural("first"), natural("second")
    for suite in NATURAL:
        shares = [share_text(np.array(agrees[suite])) for agrees in (first, second)]
        yield f"| {suite} | {' | '.join(shares)} |"


def accuracy(pairs: np.ndarray) -> str:
    return share_text(pairs[:, 0] == pairs[:, 1])


def share_text(agrees: np.ndarray) -> str:
    found = share_estimate(agrees.astype(float))
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


if __name__ == "__main__":
    print("\n".join([*table(), "", *natural_table()]))
