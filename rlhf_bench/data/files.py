"""Files, folders, zip files and saved data sets as splits of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rlhf_bench.data.parsing import SUFFIXES, Numbered, data_suffix, first_line, is_archive, unpack, zip_members
from rlhf_bench.data.tabular import RawTable, parse_table, read_content
from rlhf_bench.errors import DataError

# The names that others give to their splits; the first that a source has is taken.
SPLIT_NAMES = {
    "train": ("train_prefs", "train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test_prefs", "test"),
    "test_unseen": ("test_unseen",),
}
_ABOUT = {"dataset_info.json", "dataset_infos.json", "metadata.json", "config.json"}  # say what data is, and hold none
_PREFERENCES = {"prefs", "pref", "preference", "preferences"}


@dataclass(frozen=True)
class Source:
    """A source before its columns are read: split -> its parts. A source without splits of its own is all "train"."""

    splits: dict[str, list[RawTable]]
    notes: list[str] = field(default_factory=list)


def split_name(given: str) -> str | None:
    """Our name for a split that a source calls `given`."""
    return next((ours for ours, theirs in SPLIT_NAMES.items() if given.lower() in theirs), None)


def read_path(path: Path) -> Source:
    """A data file, a zip file or folder of them, or a data set that `datasets` saved."""
    if path.is_dir():
        saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
        return _read_saved(path) if saved else _read_folder(path)
    content = read_content(path)
    if is_archive(content):
        members = zip_members(str(path), content)
        if len(members) > 1:
            return _read_files(path, {name: partial(unpack, name, packed) for name, packed in members.items()})
    return Source({"train": [parse_table(str(path), content)]})


def _read_folder(path: Path) -> Source:
    names = sorted(p.name for p in path.iterdir() if p.is_file())
    if not any(_is_data(name) for name in names) and (path / "data").is_dir():  # as the hub lays out its data sets
        return _read_folder(path / "data")
    return _read_files(path, {name: partial(read_content, path / name) for name in names})


def _is_data(name: str) -> bool:
    base = name.rsplit("/", 1)[-1].lower()
    return data_suffix(base) is not None and base not in _ABOUT and not base.startswith(".")


def _read_files(path: Path, files: Mapping[str, Callable[[], bytes]]) -> Source:
    """Files named after a split (`train.jsonl`, `test-00000-of-00001.parquet`) are that split; else all are one set."""
    names, notes = _without_copies([name for name in files if _is_data(name)])
    if not names:
        folders = sorted(p.name for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
        hint = f"; it has the folders {', '.join(folders)}: give one of them" if folders else ""
        raise DataError(
            f"{str(path)!r} holds no data file; expected {', '.join(SUFFIXES)} or a saved DatasetDict{hint}"
        )
    found = {name: _split_of_file(name) for name in names}
    if not any(found.values()):
        splits = {"train": names}
        notes.append(f"{len(names)} files read as one set")
    else:
        for name, split in found.items():
            if split is None:
                raise DataError(
                    f"{name!r} in {str(path)!r} belongs to no split, the other files do; put train, validation or test "
                    "in its name, or move it away"
                )
        splits, left_out = _preference_files(found)
        notes.append(f"{sum(map(len, splits.values()))} files, split by their names")
        if left_out:
            notes.append(f"files not used, beside those of preferences: {', '.join(left_out)}")
    return Source(
        {split: [parse_table(str(path / name), files[name]()) for name in inside] for split, inside in splits.items()},
        notes,
    )


def _without_copies(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Keep the first of files that differ in their ending alone: the others hold the same rows in another format."""
    first: dict[str, str] = {}
    for name in names:
        suffix = data_suffix(name) or ""
        first.setdefault(name[: name.lower().rindex(suffix)], name)
    copies = [name for name in names if name not in first.values()]
    return list(first.values()), [f"files not used, of the name of another: {', '.join(copies)}"] if copies else []


def _preference_files(found: Mapping[str, str | None]) -> tuple[dict[str, list[str]], list[str]]:
    """split -> its files of preferences, and the files left out.

    The same prompts are often published as train_prefs, train_sft and train_gen: for pairs, for supervised fine-tuning
    and as prompts. Read together they would be the same data three times.
    """
    splits: dict[str, list[str]] = {}
    for split in dict.fromkeys(filter(None, found.values())):
        purposes = {name: _purpose(name) for name, own in found.items() if own == split}
        splits[split] = [name for name, purpose in purposes.items() if purpose == min(purposes.values())]
    taken = {name for inside in splits.values() for name in inside}
    return splits, [name for name in found if name not in taken]


def _purpose(name: str) -> int:
    """0 preferences, 1 unknown, 2 supervised fine-tuning, 3 prompts for generation."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return 0 if words & _PREFERENCES else 2 if "sft" in words else 3 if words & {"gen", "generation"} else 1


def _split_of_file(name: str) -> str | None:
    base = name.rsplit("/", 1)[-1]
    if "test_unseen" in base:
        return "test_unseen"
    found = {split for word in re.split(r"[^A-Za-z]+", base) if (split := split_name(word))}
    return found.pop() if len(found) == 1 else None


def _read_saved(path: Path) -> Source:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever pyarrow, json or datasets make of a damaged folder
        raise DataError(
            f"{str(path)!r} is not a readable saved data set ({first_line(error)}); save it again"
        ) from error
    return from_datasets(loaded, str(path))


@dataclass(frozen=True)
class _Numbered:
    """The rows of a `datasets.Dataset`, which are read from disk one by one, with their places."""

    dataset: Any

    def __iter__(self) -> Iterator[Numbered]:
        return enumerate(self.dataset, start=1)


def from_datasets(loaded: Any, source: str) -> Source:
    """A `datasets.Dataset` or `DatasetDict` as a Source; other splits than those of SPLIT_NAMES are noted."""
    if not isinstance(loaded, dict):
        loaded = {"train": loaded}
    found = {ours: next((name for name in theirs if name in loaded), None) for ours, theirs in SPLIT_NAMES.items()}
    splits = {
        ours: [RawTable(f"{source} ({name})", rows.column_names, _Numbered(rows), len(rows))]
        for ours, name in found.items()
        if (rows := loaded.get(name)) is not None
    }
    if not splits:
        raise DataError(f"{source} has the splits {', '.join(loaded)}; expected train, validation or test")
    left_out = [name for name in loaded if name not in found.values()]
    return Source(splits, [f"splits not used: {', '.join(left_out)}"] if left_out else [])
