"""Labelled responses: one response to a prompt that is desirable or not, as KTO learns from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from rlhf_bench.data.columns import Cells, Dropped, Layout, read_prompt, read_rows
from rlhf_bench.data.hh import clean_response
from rlhf_bench.data.pairs import Pairs, check_texts, split_side
from rlhf_bench.data.tabular import RawTable, Unusable
from rlhf_bench.types import PreferencePair

_GOOD = {"true", "1", "1.0", "yes", "good", "desirable", "chosen"}
_BAD = {"false", "0", "0.0", "-1", "-1.0", "no", "bad", "undesirable", "rejected"}


class LabelledResponse(NamedTuple):
    """One response to a prompt, and whether it is desirable: KTO's data (Ethayarajh et al. 2024, arXiv:2402.01306)."""

    prompt: str
    response: str
    desirable: bool
    category: str | None = None


def both_sides(pairs: Sequence[PreferencePair]) -> list[LabelledResponse]:
    """The chosen response of each pair, which is desirable, and the rejected one."""
    return [
        LabelledResponse(pair.prompt, text, desirable, pair.category)
        for pair in pairs
        for text, desirable in ((pair.chosen, True), (pair.rejected, False))
    ]


def read_labelled(part: RawTable, layout: Layout) -> tuple[list[LabelledResponse], dict[str, list[int]]]:
    """The labelled responses of a part's rows, and the rows left out by each rule."""
    found, dropped = read_rows(part, layout.names, _labelled)
    return [response for _, response in found], dropped


def _labelled(cells: Cells) -> LabelledResponse:
    label = cells.value("label") if "label" in cells.names else True  # a demonstration has no label
    given = str(label).strip().lower()
    if label is None or given == "":
        raise Dropped("no label")
    if given not in _GOOD | _BAD:
        raise Unusable(f"has {label!r} as {cells.names['label']!r}, expected true or false")
    head, text = split_side(cells.conversation("completion"))
    prompt, response = head or read_prompt(cells), clean_response(text)
    check_texts(prompt, response)
    return LabelledResponse(prompt, response, given in _GOOD, cells.category())


def pair_labelled(found: Sequence[LabelledResponse], name: str) -> Pairs:
    """Each desirable response to a prompt with each undesirable one; the others are in no pair."""
    by_prompt: dict[str, tuple[list[LabelledResponse], list[LabelledResponse]]] = defaultdict(lambda: ([], []))
    for one in found:
        by_prompt[one.prompt][not one.desirable].append(one)
    pairs = [
        PreferencePair(prompt, chosen.response, rejected.response, category=chosen.category)
        for prompt, (good, bad) in by_prompt.items()
        for chosen, rejected in product(good, bad)
    ]
    unpaired = sum(len(good) + len(bad) for good, bad in by_prompt.values() if not (good and bad))
    counts = {"read": len(pairs) + unpaired} | ({"unpaired response": unpaired} if unpaired else {})
    note = f"{name}: {len(found):,} labelled responses into {len(pairs):,} pairs"
    note += f"; {unpaired:,} have no response of the other label" if unpaired else ""
    return Pairs(pairs, counts, [note])
