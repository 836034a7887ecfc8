"""One reader for every source of preference pairs.

    hh-mini                         the embedded data set
    a file, a folder, a saved set   files.py
    org/name                        a data set of the hub, hub.py

Where a source has splits, they are used, and what it lacks is made of its train split by the prompts' hashes. Always a
prompt of a test split is in no other split, nor a prompt of validation in train: such rows are dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from rlhf_bench.data import hub
from rlhf_bench.data.columns import Layout, detect
from rlhf_bench.data.files import Source, read_path
from rlhf_bench.data.filters import Filters, apply_filters
from rlhf_bench.data.labelled import LabelledResponse, both_sides, pair_labelled, read_labelled
from rlhf_bench.data.pairs import Pairs, dropped_notes, read_pairs
from rlhf_bench.data.parsing import data_suffix
from rlhf_bench.data.ranked import Which, read_ranked
from rlhf_bench.data.splits import ALL, SPLITS, Fractions, default_fractions, order_key, split_of
from rlhf_bench.data.tabular import RawTable
from rlhf_bench.errors import BadValue, DataError, UnknownName, check_known
from rlhf_bench.types import HH_MINI, PreferencePair, Prompt, fingerprint, prompt_id

Row = TypeVar("Row", PreferencePair, LabelledResponse)
Rows = tuple[list[Row], Counter[str]]  # rows, and counts as in PreferenceData

_SKIP = "--skip-bad, in training with --set data.skip_bad=true"
# Where a prompt is in two of a source's own splits: what is measured on stays whole, what is learned from loses rows.
_GIVES_WAY_TO = {"train": ("test", "test_unseen", "validation"), "validation": ("test", "test_unseen")}


@dataclass(frozen=True)
class PreferenceData:
    """The pairs of one split, and what became of every row that was read.

    `counts["read"]` is the number of rows read for this split, or made of it (of ranked responses: of comparisons);
    every other count is of rows that are not in `pairs`, so that read = len(pairs) + all others.
    """

    source: str
    split: str
    pairs: list[PreferencePair]
    counts: dict[str, int]
    notes: list[str]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The different prompts, in the order of their first pair."""
        return [Prompt(prompt_id(text), text) for text in dict.fromkeys(pair.prompt for pair in self.pairs)]

    def summary(self) -> str:
        """One line for the log."""
        return f"{self.source}, {self.split}: {len(self.pairs):,} pairs ({describe_counts(self.counts)})"


def describe_counts(counts: Mapping[str, int]) -> str:
    """ "2,312 read; 5 different prompts, 4 empty response"."""
    dropped = ", ".join(f"{n:,} {rule}" for rule, n in counts.items() if rule != "read")
    return f"{counts['read']:,} read" + (f"; {dropped}" if dropped else "")


def known_sources() -> dict[str, str]:
    """Names that need no path, with a line about each."""
    embedded = {HH_MINI: "the embedded data set: short dialogues with a known gold reward"}
    return embedded | {name: known.note for name, known in hub.HUB_SOURCES.items()}


@dataclass
class Reader:
    """A source that is read once, for several splits."""

    source: str  # "hh-mini", a path, or a hub data set's "org/name"
    seed: int = 0  # of the splits made here, of hh-mini and of the choice that a limit makes
    columns: Mapping[str, str] | None = None  # our name -> the source's column, where they differ (columns.FIELDS)
    revision: str | None = None  # of a hub data set
    validation: float | None = None  # the share of it where it is made here, in place of the default
    ranked: Which = "all"  # which pairs K ranked responses make, all of them or adjacent ranks only
    skip_bad: bool = False  # leave out rows that cannot be used, and count them; else they are an error that names them
    _read: dict[str, Rows[PreferencePair]] = field(default_factory=dict, repr=False)
    _notes: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        is_here = self.source == HH_MINI or Path(self.source).expanduser().exists()
        if self.revision is not None and is_here:
            raise BadValue(f"--revision: given with {self.source}, which is no data set of the hub; leave it out")

    def load(
        self, split: str, *, limit: int | None = None, filters: Filters | None = None, may_be_empty: bool = False
    ) -> PreferenceData:
        """The pairs of train, validation or test; test_unseen and test_new of hh-mini; all for every pair.

        limit: at most so many pairs, chosen by the seed and the pair's hash: those of a smaller limit are among them
        filters: none unless given; they are for training

        Raises UnknownName (source, split, column), BadValue (limit), DataError (anything wrong with the
        data, no pair unless it `may_be_empty`).
        """
        check_known("split", [split], (*SPLITS, ALL))
        if limit is not None and limit < 1:
            raise BadValue(f"limit: given {limit}, expected 1 or more, or none for all pairs")
        pairs, counts = self._mini(split) if self.source == HH_MINI else self._of_split(split, self._pairs)
        if filters is not None:
            pairs, removed = apply_filters(pairs, filters)
            counts.update(removed)
        if limit is not None and len(pairs) > limit:
            counts["over the limit"] = len(pairs) - limit
            order = sorted(range(len(pairs)), key=lambda i: (order_key(self.seed, pairs[i].id), i))
            pairs = [pairs[i] for i in sorted(order[:limit])]
        if not pairs and not may_be_empty:
            raise DataError(
                f"no pair is left in split {split!r} of {self.source}: {describe_counts(counts)}; "
                + (
                    "pairs need a good and a bad response to a prompt"
                    if "unpaired response" in counts
                    else "give more rows, or other filters"
                )
            )
        return PreferenceData(self.source, split, pairs, counts, list(self._notes), fingerprint(pairs))

    @property
    def own_splits(self) -> list[str]:
        """The splits that the source has itself; an undivided file is all "train"."""
        return list(SPLITS) if self.source == HH_MINI else list(self._opened.splits)

    @property
    def splits(self) -> list[str]:
        """The splits that can be loaded, each pair in one of them."""
        made_here = {"train", "validation", "test"}
        if self.source == HH_MINI:
            return list(SPLITS)
        own = self._opened.splits
        return [split for split in SPLITS if split in own or (split in made_here and "train" in own)]

    @cached_property
    def _opened(self) -> Source:
        return open_source(self.source, self.revision)

    def _mini(self, split: str) -> Rows[PreferencePair]:
        from rlhf_bench.data import mini

        pairs = mini.load(split, seed=self.seed)
        self._notes = [f"generated with seed {self.seed}, version {mini.VERSION}"]
        return pairs, Counter(read=len(pairs))

    def _of_split(self, split: str, read: Callable[[str], Rows[Row]]) -> Rows[Row]:
        """The rows of a split; `read` gives those of one of the source's own splits."""
        own = self._opened.splits
        if split == ALL:
            every = [read(name) for name in own]
            return [row for rows, _ in every for row in rows], _summed(counts for _, counts in every)
        if split not in self.splits:
            raise DataError(
                f"{self.source} has no split {split!r} and none can be made of what it has ({', '.join(own)}); "
                "give a source with a train split, or one undivided file"
            )
        part = split if split in own else "train"
        rows, counts = read(part)
        counts = counts.copy()
        shares = self._shares(split, counts["read"])
        if shares is not None:
            kept = [row for row in rows if split_of(row.prompt, self.seed, shares) == split]
            rows = _counted(rows, kept, "in other splits", counts)
        for other in _GIVES_WAY_TO.get(part, ()):
            if other in own:
                taken = {row.prompt for row in read(other)[0]}
                kept = [row for row in rows if row.prompt not in taken]
                rows = _counted(rows, kept, f"prompt also in {other}", counts)
        return rows, counts

    def _pairs(self, own: str) -> Rows[PreferencePair]:
        """The pairs of one of the source's own splits, and their counts."""
        if own not in self._read:
            layout = self._layout(own)
            self._note(*self._opened.notes, layout.note)
            parts = [
                _pairs_of_part(part, layout, self.ranked, skip_bad=self.skip_bad) for part in self._opened.splits[own]
            ]
            pairs = [pair for part in parts for pair in part.pairs]
            self._note(*(note for part in parts for note in part.notes))
            if "category" in layout.names and pairs and all(pair.category is None for pair in pairs):
                self._note(f"the column {layout.names['category']!r} has no value, so there are no categories")
            self._read[own] = pairs, _summed(part.counts for part in parts)
        return self._read[own]

    def _layout(self, own: str) -> Layout:
        parts = self._opened.splits[own]
        columns = list(dict.fromkeys(column for part in parts for column in part.columns))
        name = self.source if len(self._opened.splits) == 1 else f"{self.source} ({own})"
        return detect(columns, self.columns, name)

    def labelled(
        self, split: str, *, limit: int | None = None, filters: Filters | None = None
    ) -> list[LabelledResponse]:
        """The responses of a split with their labels, for KTO; a pair is two of them.

        Raises what `load` raises; DataError where no response is left; BadValue for filters, which are of pairs, where
        the source has labels and no pairs.
        """
        check_known("split", [split], (*SPLITS, ALL))
        own = split if split in self.own_splits else "train"
        if own not in self.own_splits or self.source == HH_MINI or self._layout(own).kind != "labelled":
            return both_sides(self.load(split, limit=limit, filters=filters).pairs)
        if filters is not None:
            raise BadValue(f"filters: {self.source} has labelled responses, and filters are of pairs; leave them out")
        found, _ = self._of_split(split, self._labelled_rows)
        if not found:
            raise DataError(f"no labelled response is left in split {split!r} of {self.source}; give more rows")
        keys = [(order_key(self.seed, one.prompt + one.response), i) for i, one in enumerate(found)]
        return [found[i] for i in sorted(i for _, i in sorted(keys)[:limit])]

    def _labelled_rows(self, own: str) -> Rows[LabelledResponse]:
        found: list[LabelledResponse] = []
        for part in self._opened.splits[own]:
            responses, notes = _labelled_of_part(part, self._layout(own), skip_bad=self.skip_bad)
            found += responses
            self._note(*notes)
        return found, Counter(read=len(found))

    def _note(self, *notes: str | None) -> None:
        self._notes += [note for note in dict.fromkeys(notes) if note and note not in self._notes]

    def _shares(self, split: str, n_rows: int) -> Fractions | None:
        """How the source's train split is divided where the source lacks splits of its own; None: not for `split`."""
        missing = {name for name in ("validation", "test") if name not in self._opened.splits}
        if split not in {"train", *missing} or not missing:
            return None
        fractions = default_fractions(n_rows)
        validation = (self.validation or fractions.validation) if "validation" in missing else 0.0
        test = fractions.test if "test" in missing else 0.0
        self._note(f"{' and '.join(sorted(missing))} made of train by the prompts' hashes, seed {self.seed}")
        return Fractions(1.0 - validation - test, validation, test)


def _pairs_of_part(part: RawTable, layout: Layout, which: Which, *, skip_bad: bool) -> Pairs:
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
    left_out = part.settle(skip=skip_bad, advice=_SKIP)
    if left_out:
        found.notes.append(left_out)
        found.counts["unusable row"] = len(part.bad)
        found.counts["read"] += len(part.bad)
    return found


def _labelled_of_part(part: RawTable, layout: Layout, *, skip_bad: bool) -> tuple[list[LabelledResponse], list[str]]:
    """The labelled responses of a part, and notes for the log. Raises DataError as `_pairs_of_part`."""
    found, dropped = read_labelled(part, layout)
    notes = dropped_notes(part, dropped)
    left_out = part.settle(skip=skip_bad, advice=_SKIP)
    return found, [*notes, left_out] if left_out else notes


def _counted(rows: list[Row], kept: list[Row], rule: str, counts: Counter[str]) -> list[Row]:
    """Return the rows that are kept, and count the others."""
    if len(kept) < len(rows):
        counts[rule] = len(rows) - len(kept)
    return kept


def _summed(every: Iterable[Mapping[str, int]]) -> Counter[str]:
    counts = Counter(read=0)
    for one in every:
        counts.update(one)
    return counts


def open_source(source: str, revision: str | None) -> Source:
    """The rows of a path or of a hub data set, before their columns are read. Raises DataError, UnknownName."""
    path = Path(source).expanduser()
    if source and path.exists():
        return read_path(path)
    if hub.is_hub_id(source) and data_suffix(source) is None:
        return hub.read_hub(source, revision)
    looks_like_a_path = data_suffix(source) is not None or "/" in source or "\\" in source or source.startswith("~")
    if looks_like_a_path:
        return read_path(path)  # raises the error that names what is beside it
    short = [name for name in hub.HUB_SOURCES if name.split("/")[1] == source]
    raise UnknownName("data source (no file, folder or org/name)", source, short or known_sources())
