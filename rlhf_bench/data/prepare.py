"""A data source, filtered and split, saved to disk: `Reader` reads it back as it is."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rlhf_bench.data.filters import Filters
from rlhf_bench.data.sources import PreferenceData, Reader
from rlhf_bench.errors import DataError

PROVENANCE = "prepared.json"


def prepare(reader: Reader, out_dir: str | Path, *, filters: Filters | None = None) -> dict[str, PreferenceData]:
    """Save every split of a source as a DatasetDict, with the columns id, prompt, chosen, rejected, margin, category.

    The filters are for training and so act on the train split alone. `prepared.json` beside the data names its
    source and counts. Returns what was saved, by split. Raises DataError if `out_dir` holds anything already, and what
    `Reader.load` raises.
    """
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{str(out)!r} exists already; give a new folder, or remove that one first")
    loaded = {split: reader.load(split, filters=filters if split == "train" else None) for split in reader.splits}
    provenance = {
        "source": reader.source,
        "seed": reader.seed,
        "filters": repr(filters),
        "notes": next(iter(loaded.values())).notes,
        "pairs": {split: len(data) for split, data in loaded.items()},
        "counts": {split: data.counts for split, data in loaded.items()},
        "fingerprints": {split: data.fingerprint for split, data in loaded.items()},
    }
    _save(loaded, provenance, out)
    return loaded


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _save(loaded: Mapping[str, PreferenceData], provenance: Mapping[str, object], out: Path) -> None:
    """Write the set beside its place and rename it, so that a half-written one never counts as whole."""
    import datasets

    features = datasets.Features(
        {name: datasets.Value("string") for name in ("id", "prompt", "chosen", "rejected")}
        | {"margin": datasets.Value("float64"), "category": datasets.Value("string")}
    )
    columns = {
        split: {name: [getattr(pair, name) for pair in data.pairs] for name in features}
        for split, data in loaded.items()
    }
    saved = datasets.DatasetDict({split: datasets.Dataset.from_dict(c, features) for split, c in columns.items()})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            data = Path(beside) / "data"
            with _no_progress_bars():
                saved.save_to_disk(str(data))
            (data / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
            if out.exists():
                out.rmdir()  # empty, else it was refused
            os.replace(data, out)
    except OSError as error:
        raise DataError(f"{str(out)!r} cannot be written ({error.strerror or error}); give another folder") from error
