"""The parts that an evaluation is made of, each stored as it is finished: a model's rows, or a pool, under one seed.

A part is a list of Parquet files, one a shard of the prompts. Rows are let go as soon as they are stored, so that what
an evaluation holds is a shard, however many responses there are; `assemble` makes the result of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pandas as pd

from rlhf_bench.evaluate.measure_text import Texts, anchor_rows, answered, text_rows
from rlhf_bench.evaluate.sources import Source
from rlhf_bench.files import atomic_write_parquet
from rlhf_bench.progress import Progress, Task
from rlhf_bench.runtime.processes import Processes
from rlhf_bench.types import Item

if TYPE_CHECKING:
    from rlhf_bench.evaluate.measure_base import Measure
    from rlhf_bench.evaluate.plan import Setup

__all__ = ["Part", "anchor_parts", "model_part", "pool_parts"]

# Prompts that are measured and stored at a time. Fixed, so that neither an interruption nor the number of processes
# changes which rows share a batch.
SHARD = 1000

Part = list[Path]
Compute = Callable[[Sequence[Item], Task], pd.DataFrame]  # the rows of some prompts


def model_part(
    folder: Path,
    setup: Setup,
    measure: Measure | None,
    part: Source | Texts,
    progress: Progress,
    processes: Processes,
) -> Part:
    """All rows of one model under one seed."""

    def responses(items: Sequence[Item]) -> int:
        if isinstance(part, Texts):
            return sum(len(part.by_prompt[item.prompt]) for item in items)
        return len(items) * setup.suite.samples

    def compute(items: Sequence[Item], task: Task) -> pd.DataFrame:
        if measure is None:
            assert isinstance(part, Texts)
            rows = text_rows(
                part.name, part.seed, answered(part, items), source=setup.source, metrics=setup.suite.metrics
            )
        elif isinstance(part, Texts):
            from rlhf_bench.evaluate.measure import measure_texts

            rows = measure_texts(measure.of(items), part)
        else:
            from rlhf_bench.evaluate.measure import measure_model

            return measure_model(measure.of(items), part, on_batch=task.advance)
        task.advance(len(rows))
        return rows

    shards = _shards(folder, f"{quote(part.name, safe='')}-{part.seed}", setup, processes)
    return _stored(shards, f"{part.name}, seed {part.seed}", responses, compute, progress, processes)


def anchor_parts(
    folder: Path, setup: Setup, measure: Measure | None, seed: int, progress: Progress, processes: Processes
) -> list[Part]:
    """The data's own responses; none where there are none."""

    def compute(name: str, items: Sequence[Item], task: Task) -> pd.DataFrame:
        rows = anchor_rows(items).get(name, [])
        if measure is None:
            table = text_rows(name, seed, rows, source=setup.source)
        else:
            from rlhf_bench.evaluate.measure import measure_anchors

            table = measure_anchors(measure, name, seed, rows)
        task.advance(len(rows))
        return table

    def part(name: str) -> Part:
        shards = _shards(folder, f"anchors/{name}-{seed}", setup, processes)  # no model's name is mistaken for it
        return _stored(
            shards, f"{name}, seed {seed}", lambda items: len(anchor_rows(items).get(name, [])), partial(compute, name),
            progress, processes,
        )  # fmt: skip

    return [part(name) for name in anchor_rows(setup.items)]


def pool_parts(
    folder: Path, setup: Setup, measure: Measure | None, seed: int, progress: Progress, processes: Processes
) -> list[Part]:
    """The pool that best-of-n chooses from, under one seed; none where none was asked for or there is a reason why not.

    A row a (prompt, sample) of the reference with its reward and, where it is known, gold.
    """
    n = setup.suite.best_of_n
    if not n or (setup.reference, "best_of_n") in setup.missing:
        return []
    assert measure is not None

    def compute(items: Sequence[Item], task: Task) -> pd.DataFrame:
        from rlhf_bench.evaluate.measure import measure_pool

        return measure_pool(measure.of(items), n, on_batch=task.advance)

    shards = _shards(folder, f"best_of_n/{seed}", setup, processes)
    label = f"best of {n} of {setup.reference}, seed {seed}"
    return [_stored(shards, label, lambda items: len(items) * n, compute, progress, processes)]


def _shards(folder: Path, key: str, setup: Setup, processes: Processes) -> list[tuple[Path, Sequence[Item]]]:
    """The files of a part, each with its prompts: SHARD of them, or all in a file of another place.

    All where they are few, and where the suite's own metrics compare one prompt's responses with another's.
    """
    items, whole = setup.items, folder / f"{key}.parquet"
    if len(items) <= SHARD or setup.suite.metrics or processes.first(whole.exists):
        return [(whole, items)]
    starts = range(0, len(items), SHARD)
    return [(folder / "shards" / key / f"{start}.parquet", items[start : start + SHARD]) for start in starts]


def _stored(
    shards: Sequence[tuple[Path, Sequence[Item]]],
    label: str,
    responses: Callable[[Sequence[Item]], int],
    compute: Compute,
    progress: Progress,
    processes: Processes,
) -> Part:
    """The shards' files; those that are not there are computed by all processes together and written by the first.

    `responses` counts what some prompts have, for the progress.
    """
    there = processes.first(lambda: [file.exists() for file, _ in shards])
    if not all(there):
        counts = [responses(items) for _, items in shards]
        done = sum(count for count, stored in zip(counts, there, strict=True) if stored)
        with progress.task(label, total=sum(counts), start=done) as task:
            for (file, items), stored in zip(shards, there, strict=True):
                if not stored:
                    processes.first(partial(atomic_write_parquet, file, compute(items, task)))
    return [file for file, _ in shards]
