"""What the stages of a run learn from: preference pairs, or single responses with labels, read once for all stages."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_bench.data import Filters, LabelledResponse, PreferenceData, named_filters
from rlhf_bench.data.sources import Reader
from rlhf_bench.errors import DataError
from rlhf_bench.progress import Progress
from trainers.config.recipe import NewModel, Recipe

LEARN_PAIRS = ("reward", "dpo")  # from the difference of chosen and rejected


class TrainingData:
    """The data of a recipe by split. `stages` are those that are to be trained on it."""

    def __init__(self, recipe: Recipe, stages: Sequence[str], progress: Progress) -> None:
        data = recipe.data
        self.recipe, self.progress = recipe, progress
        self.reader = Reader(data.source, seed=data.seed, validation=data.validation, skip_bad=data.skip_bad)
        self.learners = [stage for stage in stages if stage in LEARN_PAIRS and not _learns_labels(recipe, stage)]
        self.needs_pairs = not all(_needs_no_pairs(recipe, stage) for stage in stages)
        self._loaded: dict[str, PreferenceData] = {}

    def pairs(self, split: str) -> PreferenceData:
        """The pairs of a split. Raises DataError where there is none and a stage needs them, or none that differs and a
        stage learns from the difference."""
        if split not in self._loaded:
            self._loaded[split] = self._load(split)
        return self._loaded[split]

    def labelled(self, split: str) -> list[LabelledResponse]:
        """Single responses; a pair is two of them. Raises as `Reader.labelled`."""
        return self.reader.labelled(split, limit=self._limit(split), filters=self._filters(split))

    def _load(self, split: str) -> PreferenceData:
        data = self.reader.load(
            split, limit=self._limit(split), filters=self._filters(split), may_be_empty=not self.needs_pairs
        )
        for line in (*data.notes, data.summary()):
            self.progress.log(f"data: {line}")
        if self.learners and all(pair.chosen == pair.rejected for pair in data.pairs):
            raise DataError(
                f"{data.source}, {split}: chosen and rejected are the same text in all {len(data):,} pairs, so "
                f"{' and '.join(self.learners)} would have nothing to learn; expected pairs that differ: give other "
                "data"
            )
        return data

    def _limit(self, split: str) -> int | None:
        return self.recipe.data.limit if split == "train" else None

    def _filters(self, split: str) -> Filters | None:
        name = self.recipe.data.filters
        return named_filters(name) if split == "train" and name != "none" else None


def _learns_labels(recipe: Recipe, stage: str) -> bool:
    return stage == "dpo" and recipe.dpo.loss == "kto_unpaired"


def _needs_no_pairs(recipe: Recipe, stage: str) -> bool:
    """Whether the stage reads nothing of the data, or single responses."""
    if stage == "base":
        return not isinstance(recipe.model, NewModel)
    if stage == "sft":
        return recipe.sft.source is not None
    return _learns_labels(recipe, stage)
