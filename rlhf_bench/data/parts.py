"""One part of a source, by whatever layout its columns have, with the policy for rows that cannot be used."""

from __future__ import annotations

from rlhf_bench.data.columns import Layout
from rlhf_bench.data.files import Part
from rlhf_bench.data.labelled import LabelledResponse, pair_labelled, read_labelled
from rlhf_bench.data.pairs import Pairs, dropped_notes, read_pairs
from rlhf_bench.data.ranked import Which, read_ranked

_SKIP = "--skip-bad, in training with --set data.skip_bad=true"


def pairs_of_part(part: Part, layout: Layout, which: Which, *, skip_bad: bool) -> Pairs:
    """The pairs of a part. Raises DataError where rows cannot be used, unless `skip_bad`: they are counted then."""
    if layout.kind == "labelled":
        labelled, dropped = read_labelled(part, layout)
        found = pair_labelled(labelled, part.name)
        found.notes.extend(dropped_notes(part, dropped))
        for rule, numbers in dropped.items():
            found.counts[rule] = len(numbers)
            found.counts["read"] += len(numbers)
    else:
        found = read_ranked(part, layout, which) if layout.kind == "ranked" else read_pairs(part, layout)
    left_out = part.bad.settle(part.n_rows, skip=skip_bad, advice=_SKIP)
    if left_out:
        found.notes.append(left_out)
        found.counts["unusable row"] = len(part.bad.found)
        found.counts["read"] += len(part.bad.found)
    return found


def labelled_of_part(part: Part, layout: Layout, *, skip_bad: bool) -> tuple[list[LabelledResponse], list[str]]:
    """The labelled responses of a part, and notes for the log. Raises DataError as `pairs_of_part`."""
    found, dropped = read_labelled(part, layout)
    notes = dropped_notes(part, dropped)
    left_out = part.bad.settle(part.n_rows, skip=skip_bad, advice=_SKIP)
    return found, [*notes, left_out] if left_out else notes
