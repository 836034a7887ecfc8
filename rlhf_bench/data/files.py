"""Data files and saved data sets as splits of rows; every way in which one can be broken is one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_bench.errors import DataError, nearest

__all__ = [
    "SPLIT_NAMES",
    "SUFFIXES",
    "Numbered",
    "OnBad",
    "Rows",
    "Source",
    "csv_rows",
    "data_suffix",
    "first_line",
    "json_rows",
    "jsonl_rows",
    "parquet_rows",
    "read_bytes",
    "read_path",
    "split_name",
]

Numbered = tuple[int, Mapping[str, Any]]  # where a row stands in its file, from 1, and the row
OnBad = Callable[[int, str], None]  # told where a row stands that cannot be read, and why

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv")
# What others call their splits; the first that a source has is taken.
SPLIT_NAMES = {
    "train": ("train", "train_prefs", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "test_prefs"),
    "test_unseen": ("test_unseen",),
}
_MAX_FIELD = 2**31 - 1


@dataclass(frozen=True)
class Rows:
    """Rows of one split, and the columns of the first of them."""

    columns: list[str]
    rows: Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Source:
    """A source before its columns are read: split -> rows. A source without splits of its own is all "train"."""

    splits: dict[str, Rows]
    notes: list[str] = field(default_factory=list)


def split_name(given: str) -> str | None:
    """Our name for a split that a source calls `given`."""
    return next((ours for ours, theirs in SPLIT_NAMES.items() if given.lower() in theirs), None)


def data_suffix(name: str) -> str | None:
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)


def read_path(path: Path) -> Source:
    """A data file, a folder of them, or a data set that `datasets` saved."""
    if path.is_dir():
        saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
        return _read_saved(path) if saved else _read_folder(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir() if data_suffix(p.name)] if path.parent.is_dir() else []
        close = nearest(path.name, siblings)
        hint = f"did you mean {close!r} beside it?" if close else "give the path of a file that exists"
        raise DataError(f"data file {str(path)!r} does not exist; {hint}")
    rows = _read_file(path)
    return Source({"train": _rows(rows)})


def _rows(rows: list[Mapping[str, Any]]) -> Rows:
    return Rows(list(rows[0]), rows)


def _read_folder(path: Path) -> Source:
    """Files named after a split (`train.jsonl`, `test-00000-of-00001.parquet`) are that split; else all are one set."""
    files = sorted(p for p in path.iterdir() if p.is_file() and data_suffix(p.name) and not p.name.startswith("."))
    if not files:
        raise DataError(
            f"folder {str(path)!r} holds no data file; expected {', '.join(SUFFIXES)} or a saved DatasetDict"
        )
    found = {file: _split_of_file(file) for file in files}
    if not any(found.values()):
        return Source(
            {"train": _rows([row for file in files for row in _read_file(file)])},
            [f"{len(files)} files read as one set"],
        )
    splits: dict[str, list[Mapping[str, Any]]] = {}
    for file, split in found.items():
        if split is None:
            raise DataError(
                f"{file.name!r} in {str(path)!r} belongs to no split, the other files do; "
                "put train, validation or test in its name, or move it away"
            )
        splits.setdefault(split, []).extend(_read_file(file))
    return Source({split: _rows(rows) for split, rows in splits.items()}, [f"{len(files)} files, split by their names"])


def _split_of_file(file: Path) -> str | None:
    if "test_unseen" in file.name:
        return "test_unseen"
    found = {split for word in re.split(r"[^A-Za-z]+", file.name) if (split := split_name(word))}
    return found.pop() if len(found) == 1 else None


def _read_saved(path: Path) -> Source:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever pyarrow, json or datasets make of a damaged folder
        raise DataError(f"{str(path)!r} is no readable saved data set ({first_line(error)}); save it again") from error
    return from_datasets(loaded, str(path))


def from_datasets(loaded: Any, source: str) -> Source:
    """A `datasets.Dataset` or `DatasetDict` as a Source; splits with unknown names are left out and noted."""
    if not isinstance(loaded, dict):
        loaded = {"train": loaded}
    splits: dict[str, Rows] = {}
    for ours, theirs in SPLIT_NAMES.items():
        name = next((name for name in theirs if name in loaded), None)
        if name is not None:
            splits[ours] = Rows(list(loaded[name].column_names), loaded[name])
    if not splits:
        raise DataError(f"{source} has the splits {', '.join(loaded)}; expected train, validation or test")
    left_out = [name for name in loaded if split_name(name) is None]
    return Source(splits, [f"splits not used: {', '.join(left_out)}"] if left_out else [])


def _read_file(path: Path) -> list[Mapping[str, Any]]:
    suffix = data_suffix(path.name)
    if suffix is None:
        raise DataError(f"data file {str(path)!r} has an unknown ending; expected {', '.join(SUFFIXES)}")
    content = read_bytes(path, packed=suffix.endswith(".gz"))
    if content and not content.strip():
        raise DataError(f"{str(path)!r} holds blank lines only; expected at least one row")
    if suffix == ".parquet":
        rows = parquet_rows(path, content)
    else:
        rows = {".csv": csv_rows, ".json": json_rows}.get(suffix, jsonl_rows)(path, content)
    if not rows:
        raise DataError(f"{str(path)!r} is empty; expected at least one row")
    return [row for _, row in rows]


def read_bytes(path: Path, *, packed: bool) -> bytes:
    """A file's content without gzip's packing and without a byte-order mark."""
    try:
        content = path.read_bytes()
        if packed:
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} is no intact gzip file ({first_line(error)}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror or error})") from error
    return content.removeprefix(b"\xef\xbb\xbf")


def _decode(path: Path, content: bytes) -> str:
    """The text. NUL is a character of UTF-8 too, but what holds it is UTF-16 without its mark, or no text."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if (at := content.find(b"\0")) >= 0:
        raise DataError(f"{str(path)!r} is not UTF-8 text (byte {at} is NUL, as in UTF-16); save it as UTF-8")
    return text


def _raise(path: Path, unit: str) -> OnBad:
    """What is done with a row that cannot be read where nothing else is asked for."""

    def on_bad(number: int, why: str) -> None:
        raise DataError(f"{unit} {number} of {str(path)!r} {why}")

    return on_bad


def jsonl_rows(path: Path, content: bytes, on_bad: OnBad | None = None) -> list[Numbered]:
    on_bad = on_bad or _raise(path, "line")
    _decode(path, content)  # the whole at once: an error then names the byte of the file, not of a line
    rows: list[Numbered] = []
    # By b"\n" alone: str.splitlines() would also cut at U+2028, which JSON allows inside a text.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            on_bad(number, f"is no JSON ({first_line(error)}); correct or remove it")
            continue
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            on_bad(number, f"is {type(row).__name__}; expected an object with columns")
    return rows


def json_rows(path: Path, content: bytes, on_bad: OnBad | None = None) -> list[Numbered]:
    text = _decode(path, content)
    if not text.strip():
        return []
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{str(path)!r} is no JSON ({first_line(error)}); a file with an object a line is named .jsonl"
        ) from error
    if not isinstance(rows, list) or (on_bad is None and not all(isinstance(row, dict) for row in rows)):
        raise DataError(f"{str(path)!r} holds {type(rows).__name__}; expected a list of objects, one for each row")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) and on_bad is not None:
            on_bad(number, f"is {type(row).__name__}; expected an object with columns")
    return [(number, row) for number, row in enumerate(rows, start=1) if isinstance(row, dict)]


def csv_rows(path: Path, content: bytes, on_bad: OnBad | None = None, *, delimiter: str = ",") -> list[Numbered]:
    on_bad = on_bad or _raise(path, "row")
    text = _decode(path, content)
    before = csv.field_size_limit(_MAX_FIELD)  # a conversation may exceed the default of 128 KiB
    try:
        rows: list[Numbered] = []
        # newline="" keeps the line ends inside quoted fields as they are.
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                on_bad(number, "has another number of fields than the header; quote it")
            else:
                rows.append((number, row))
    except csv.Error as error:
        raise DataError(f"{str(path)!r} is no CSV ({first_line(error)})") from error
    finally:
        csv.field_size_limit(before)
    return rows


def parquet_rows(path: Path, content: bytes) -> list[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not content:
        return []
    try:
        rows: list[Mapping[str, Any]] = pq.read_table(pa.BufferReader(content)).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{str(path)!r} is no readable Parquet file ({first_line(error)}); write it again") from error
    return list(enumerate(rows, start=1))


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
