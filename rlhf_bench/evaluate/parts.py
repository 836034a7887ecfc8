"""The parts that an evaluation is made of, each stored as it is finished: a model's rows, or a pool, under one seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from rlhf_bench.evaluate.measure_text import Texts, anchor_rows, answered, text_rows, with_self_bleu
from rlhf_bench.files import atomic_write_parquet
from rlhf_bench.processes import Processes
from rlhf_bench.progress import Progress
from rlhf_bench.types import Item

if TYPE_CHECKING:
    from rlhf_bench.evaluate.measure import Measure, Source
    from rlhf_bench.evaluate.plan import Setup

__all__ = ["anchor_parts", "model_part", "pool_parts"]

# Prompts that are measured and stored at a time. Fixed, so that neither an interruption nor the number of processes
# changes which rows share a batch.
SHARD = 1000


def model_part(
    folder: Path,
    setup: Setup,
    measure: Measure | None,
    part: Source | Texts,
    progress: Progress,
    processes: Processes,
) -> pd.DataFrame:
    """All rows of one model under one seed, from the store or computed and stored."""
    total = len(setup.items) * setup.suite.samples
    if isinstance(part, Texts):
        total = sum(len(part.by_prompt[item.prompt]) for item in setup.items)

    name = f"{quote(part.name, safe='')}-{part.seed}"

    def compute() -> pd.DataFrame:
        with progress.task(f"{part.name}, seed {part.seed}", total=total) as task:
            if measure is None:
                assert isinstance(part, Texts)
                rows = text_rows(
                    part.name, part.seed, answered(part, setup.items),
                    source=setup.source, metrics=setup.suite.metrics,
                )  # fmt: skip
                task.advance(len(rows))
            elif isinstance(part, Texts):
                from rlhf_bench.evaluate.measure import measure_texts

                rows = measure_texts(measure, part)
                task.advance(len(rows))
            else:
                from rlhf_bench.evaluate.measure import measure_model

                rows = _in_shards(
                    folder / "shards" / name,
                    measure,
                    lambda some: measure_model(some, part, on_batch=lambda n: task.advance(n)),
                )
        return with_self_bleu(rows)

    return _stored(folder / f"{name}.parquet", compute, processes)


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
    return [with_self_bleu(frame) for frame in frames]


def pool_parts(
    folder: Path, setup: Setup, measure: Measure | None, seed: int, progress: Progress, processes: Processes
) -> list[pd.DataFrame]:
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
            return _in_shards(
                folder / "shards" / "best_of_n" / str(seed),
                measure,
                lambda some: measure_pool(some, n, on_batch=lambda done: task.advance(done)),
            )

    # a folder of its own: no model's name can be mistaken for it
    return [_stored(folder / "best_of_n" / f"{seed}.parquet", compute, processes)]


def _in_shards(folder: Path, measure: Measure, compute: Callable[[Measure], pd.DataFrame]) -> pd.DataFrame:
    """What `compute` makes of all prompts, SHARD of them at a time, each shard stored; a single one is not."""
    items = measure.items
    if len(items) <= SHARD or measure.metrics:  # a suite's own metrics compare one prompt's responses with another's
        return compute(measure)
    shards = []
    for start in range(0, len(items), SHARD):
        work = partial(_on_items, compute, measure, items[start : start + SHARD])
        shards.append(_stored(folder / f"{start}.parquet", work, measure.processes))
    rows = pd.concat(shards, ignore_index=True)
    rows.attrs = shards[0].attrs
    return rows


def _on_items(compute: Callable[[Measure], pd.DataFrame], measure: Measure, items: Sequence[Item]) -> pd.DataFrame:
    return compute(measure.of(items))


def _stored(file: Path, compute: Callable[[], pd.DataFrame], processes: Processes) -> pd.DataFrame:
    """The frame in the file, or else computed by all processes together and written there by the first, in one step."""
    if processes.first(file.exists):
        return pd.read_parquet(file)
    rows = compute()
    processes.first(lambda: atomic_write_parquet(file, rows))
    return rows
