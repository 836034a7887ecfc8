"""Ranked responses: one prompt, K responses, an annotator's ranking of them; into pairs.

A rank is 1 for the best; responses that tie share one. So [1, 2, 2, 4] and [1, 2, 2, 3] both say that the second and
the third tie. A response that was left unranked (null) is in no pair. How far annotators agree is logged, since no
reward model can agree with all of them more than they do with each other.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rlhf_bench.data.columns import Cells, Layout, read_prompt
from rlhf_bench.data.hh import clean_response
from rlhf_bench.data.messages import parse_cell
from rlhf_bench.data.pairs import Pairs, is_unicode
from rlhf_bench.data.tabular import RawTable, Unusable
from rlhf_bench.types import PreferencePair

Which = Literal["all", "adjacent"]


@dataclass(frozen=True, slots=True)
class RankedResponses:
    """Ranks in the order of the responses; None: not ranked."""

    prompt: str
    responses: tuple[str, ...]
    ranks: tuple[int | None, ...]
    annotator: str | None = None


class Agreement(NamedTuple):
    """How alike annotators rank the same responses to the same prompt; NaN where none were ranked twice."""

    kendalls_w: float  # mean over prompts; 0 no agreement, 1 the same ranking by all
    pairwise: float  # share of comparisons, by two annotators that both saw a difference, in which they agree
    prompts: int  # ranked by two annotators or more


def to_pairs(ranked: RankedResponses, which: Which = "all") -> tuple[list[PreferencePair], dict[str, int]]:
    """The better response of each pair chosen, and how many pairs were left out, by rule.

    "all": every two responses. "adjacent": only those between which no third response is ranked, K - 1 where nothing
    ties; they are the hardest pairs, and a response in the middle does not count K - 1 times.
    """
    pairs: list[PreferencePair] = []
    skipped: Counter[str] = Counter()
    if len(ranked.responses) == 1:
        return [], {"one response": 1}
    meta = {} if ranked.annotator is None else {"annotator": ranked.annotator}
    levels = sorted({rank for rank in ranked.ranks if rank is not None})
    for (a, rank_a), (b, rank_b) in itertools.combinations(zip(ranked.responses, ranked.ranks, strict=True), 2):
        if rank_a is None or rank_b is None:
            rule = "unranked response"
        elif rank_a == rank_b:
            rule = "tie"
        elif not (a and b):
            rule = "empty response"
        elif which == "adjacent" and abs(levels.index(rank_a) - levels.index(rank_b)) > 1:
            rule = "not adjacent"
        else:
            chosen, rejected = (a, b) if rank_a < rank_b else (b, a)
            pairs.append(PreferencePair(ranked.prompt, chosen, rejected, meta=meta))
            continue
        skipped[rule] += 1
    return pairs, skipped


def read_ranked(part: RawTable, layout: Layout, which: Which = "all") -> Pairs:
    """The pairs of ranked rows in their order, counts, and notes for the log.

    Counts are of comparisons, not of rows: a row of K responses is K (K - 1) / 2 of them, and a row that makes no pair
    at all is one. An annotator's ranking that repeats an earlier row of theirs is left out and counted. Rows that
    cannot be used go to `part.bad`: responses and ranks do not fit together, or an annotator ranks the same responses
    to a prompt in two ways.
    """
    pairs: list[PreferencePair] = []
    counts = Counter(read=0)
    kept: list[RankedResponses] = []
    earlier: dict[tuple[str, ...], tuple[int, RankedResponses]] = {}

    def read(number: int, row: Mapping[str, Any]) -> tuple[RankedResponses, list[PreferencePair], dict[str, int]]:
        ranked = _row(Cells(row, layout.names))
        return ranked, *_compare(ranked, earlier, number, which)

    for _, (ranked, found, skipped) in part.read(read):
        if not skipped.keys() & _ROW_RULES:
            kept.append(ranked)
        pairs += found
        counts["read"] += len(found) + sum(skipped.values())
        counts.update(skipped)
    notes = [f"{part.n_rows:,} ranked rows into {len(pairs):,} pairs ({which})"]
    alike = agreement(kept)
    if alike.prompts:
        notes.append(
            f"agreement between annotators over {alike.prompts:,} prompts: Kendall's W {alike.kendalls_w:.2f}, "
            f"{alike.pairwise:.0%} of comparisons alike"
        )
    return Pairs(pairs, counts, notes)


_ROW_RULES = {"empty prompt", "half a surrogate pair", "ranking repeated by its annotator"}


def _compare(
    ranked: RankedResponses, earlier: dict[tuple[str, ...], tuple[int, RankedResponses]], number: int, which: Which
) -> tuple[list[PreferencePair], dict[str, int]]:
    """The pairs of one row, and how many comparisons were left out, by rule."""
    if not ranked.prompt:
        return [], {"empty prompt": 1}
    if not is_unicode(ranked.prompt + "".join(ranked.responses)):
        return [], {"half a surrogate pair": 1}
    if _is_repeated(ranked, earlier, number):
        k = len(ranked.responses)
        return [], {"ranking repeated by its annotator": max(1, k * (k - 1) // 2)}
    return to_pairs(ranked, which)


def _is_repeated(
    ranked: RankedResponses, earlier: dict[tuple[str, ...], tuple[int, RankedResponses]], number: int
) -> bool:
    """True where the annotator ranked the same responses to the prompt so before; else the row is remembered.

    Rows without an annotator are never counted as the same person's. Raises Unusable for another ranking than before.
    """
    if ranked.annotator is None:
        return False
    first, before = earlier.setdefault(
        (ranked.annotator, ranked.prompt, *sorted(ranked.responses)), (number, ranked)
    )  # fmt: skip
    if first == number:
        return False
    if _order(before) != _order(ranked):
        raise Unusable(
            f"ranks the same responses as row {first} of annotator {ranked.annotator!r} in another way; expected one "
            "ranking by an annotator"
        )
    return True


def _order(ranked: RankedResponses) -> list[tuple[str, int]]:
    """Each response with the number of ranks above its own, 0 where it was not ranked: [1, 2, 2, 4] is [1, 2, 2, 3]."""
    levels = sorted({rank for rank in ranked.ranks if rank is not None})
    places = (0 if rank is None else levels.index(rank) + 1 for rank in ranked.ranks)
    return sorted(zip(ranked.responses, places, strict=True))


def agreement(rows: Iterable[RankedResponses]) -> Agreement:
    """Over prompts with the same responses, in any order, of which two annotators or more ranked all."""
    groups: dict[tuple[str, ...], dict[str, list[int]]] = {}
    for row in rows:
        if row.annotator is None or len(set(row.responses)) != len(row.responses) or len(row.responses) < 2:
            continue
        ranks = [rank for _, rank in sorted(zip(row.responses, row.ranks, strict=True)) if rank is not None]
        if len(ranks) == len(row.responses):
            groups.setdefault((row.prompt, *sorted(row.responses)), {})[row.annotator] = ranks
    several = [list(group.values()) for group in groups.values() if len(group) > 1]
    if not several:
        return Agreement(float("nan"), float("nan"), 0)
    alike = [
        (x[i] < x[j]) == (y[i] < y[j])
        for ranks in several
        for x, y in itertools.combinations(ranks, 2)
        for i, j in itertools.combinations(range(len(x)), 2)
        if x[i] != x[j] and y[i] != y[j]
    ]
    concordance = [w for ranks in several if not np.isnan(w := kendalls_w(ranks))]
    return Agreement(_mean(concordance), _mean(alike), len(several))


def kendalls_w(ranks: Sequence[Sequence[float]]) -> float:
    """Kendall's coefficient of concordance of m annotators over n items, corrected for ties (Kendall & Smith 1939;
    Siegel & Castellan 1988, 9.7).

        W = 12 S / (m^2 (n^3 - n) - m sum T),   S = sum of squared deviations of the items' rank sums,
        T = sum of t^3 - t over the groups of t tied items of an annotator

    ranks: (m, n), smaller is better, any numbers. NaN where every annotator ties everything.
    """
    from scipy.stats import rankdata

    table = np.array([rankdata(row) for row in ranks])  # (m, n), ties averaged
    m, n = table.shape
    sums = table.sum(0)
    ties = sum(int((t**3 - t).sum()) for row in table for t in [np.unique(row, return_counts=True)[1]])
    scale = m**2 * (n**3 - n) - m * ties
    return float(12 * ((sums - sums.mean()) ** 2).sum() / scale) if scale else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _row(cells: Cells) -> RankedResponses:
    responses, ranks = _list(cells, "responses"), _list(cells, "ranking")
    if not responses or not all(isinstance(text, str) for text in responses):
        raise cells.wrong("responses", "a list of texts")
    if len(ranks) != len(responses):
        raise Unusable(
            f"has {len(responses)} responses and {len(ranks)} ranks; expected a rank for each (1 the best, null for "
            "one that was not ranked)"
        )
    _check_ranks(cells, ranks)
    annotator = cells.value("annotator")
    return RankedResponses(
        read_prompt(cells), tuple(clean_response(text) for text in responses), tuple(ranks),
        None if annotator is None or annotator == "" else str(annotator),
    )  # fmt: skip


def _check_ranks(cells: Cells, ranks: Sequence[Any]) -> None:
    """Whole numbers from 1, without a gap but for the places that a tie takes up."""
    given = [rank for rank in ranks if rank is not None]
    whole = all(isinstance(rank, int) and not isinstance(rank, bool) for rank in given)
    dense = set(range(1, len(set(given)) + 1))
    competition = {1 + sum(other < rank for other in given) for rank in given} if whole else set()
    if whole and set(given) in (dense, competition):
        return
    shown = ", ".join("null" if rank is None else str(rank) for rank in ranks)
    raise Unusable(
        f"has [{shown}] as {cells.names['ranking']!r}; expected ranks from 1 (the best) without a gap, a tie sharing "
        "its rank: [1, 2, 2, 4] or [1, 2, 2, 3]"
    )


def _list(cells: Cells, field: str) -> list[Any]:
    """A list, or its text: a CSV can hold one only as text."""
    value = parse_cell(cells.value(field))
    if not isinstance(value, list):
        raise cells.wrong(field, "a list")
    return value
