"""The parts that an evaluation is made of, each stored as it is finished: a model's rows, or a pool, under one seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from rlhf_bench.evaluate.measure_text import Texts, anchor_rows, answered, text_rows
from rlhf_bench.files import atomic_write_parquet
from rlhf_bench.progress import Progress

if TYPE_CHECKING:
    from rlhf_bench.evaluate.measure import Measure, Source
    from rlhf_bench.evaluate.plan import Setup

__all__ = ["anchor_parts", "model_part", "pool_parts"]


def model_part(
    folder: Path, setup: Setup, measure: Measure | None, part: Source | Texts, progress: Progress
) -> pd.DataFrame:  # fmt: skip
    """All rows of one model under one seed, from the store or computed and stored."""
    total = len(setup.items) * setup.suite.samples
    if isinstance(part, Texts):
        total = sum(len(part.by_prompt[item.prompt]) for item in setup.items)

    def compute() -> pd.DataFrame:
        with progress.task(f"{part.name}, seed {part.seed}", total=total) as task:
            if measure is None:
                assert isinstance(part, Texts)
                rows = text_rows(part.name, part.seed, answered(part, setup.items), source=setup.source)
                task.advance(len(rows))
            elif isinstance(part, Texts):
                from rlhf_bench.evaluate.measure import measure_texts

                rows = measure_texts(measure, part)
                task.advance(len(rows))
            else:
                from rlhf_bench.evaluate.measure import measure_model

                rows = measure_model(measure, part, on_batch=lambda n: task.advance(n))
        return rows

    return _stored(folder / f"{quote(part.name, safe='')}-{part.seed}.parquet", compute)


def anchor_parts(setup: Setup, measure: Measure | None, seed: int, progress: Progress) -> list[pd.DataFrame]:
    """The data's own responses; none where there are none. They are not stored: nothing is sampled for them."""
    anchors = anchor_rows(setup.items)
    if not anchors:
        return []
    with progress.task(f"{' and '.join(anchors)}, seed {seed}", total=sum(map(len, anchors.values()))) as task:
        if measure is None:
            frames = [text_rows(name, seed, rows, source=setup.source) for name, rows in anchors.items()]
        else:
            from rlhf_bench.evaluate.measure import measure_anchors

            frames = [measure_anchors(measure, seed)]
        task.advance(sum(map(len, frames)))
    return frames


def pool_parts(
    folder: Path, setup: Setup, measure: Measure | None, seed: int, progress: Progress
) -> list[pd.DataFrame]:  # fmt: skip
    """The pool that best-of-n chooses from, under one seed; none where none was asked for or there is a reason why not.

    A row a (prompt, sample) of the reference with its reward and, where it is known, gold.
    """
    n = setup.suite.best_of_n
    if not n or (setup.reference, "best_of_n") in setup.missing:
        return []
    assert measure is not None

    def compute() -> pd.DataFrame:
        from rlhf_bench.evaluate.measure import measure_pool

        with progress.task(f"best of {n} of {setup.reference}, seed {seed}", total=len(setup.items) * n) as task:
            return measure_pool(measure, n, on_batch=lambda done: task.advance(done))

    # a folder of its own: no model's name can be mistaken for it
    return [_stored(folder / "best_of_n" / f"{seed}.parquet", compute)]


def _stored(file: Path, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The frame in the file, or else computed and written there in one step."""
    if file.exists():
        return pd.read_parquet(file)
    rows = compute()
    atomic_write_parquet(file, rows)
    return rows
