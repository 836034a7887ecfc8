"""A result that is evaluated again: the new one is made inside the old one, and takes its place when it is whole.

Until then the old one is as it was. What an interrupted evaluation has left there is continued by the next one of the
same key.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rlhf_bench.store import PartStore, ResultStore

_NEW = ".again"
_OLD = ".old"  # the end of the old result's name for the moment between two renames
_SHEETS = Path("judge") / "labels"


def new_result(folder: Path) -> Path:
    """Where the result is made that will replace `folder`."""
    return folder / _NEW


def empty_unless_same(new: Path, key: str) -> None:
    """Remove what an interrupted evaluation has left in `new`, unless its key was this one."""
    if not (new / "manifest.json").exists() or _key(new) != key:
        shutil.rmtree(new)
        PartStore(new).create()


def replace_result(folder: Path) -> None:
    """Put the new result in the place of the old one, which goes with its report, its audit and its verdicts.

    The keys to sheets that people may still be labelling stay where both results have one key, and so the same prompts
    and samples: a label of a text that has changed is refused as it is read.
    """
    folder = folder.resolve()  # a link stays one
    if (folder / _SHEETS).is_dir() and _key(folder) == _key(new_result(folder)):
        shutil.copytree(folder / _SHEETS, new_result(folder) / _SHEETS, dirs_exist_ok=True)
    old = folder.with_name(f".{folder.name}{_OLD}")
    folder.rename(old)
    new_result(old).rename(folder)
    shutil.rmtree(old)


def finish_replacing(suite: Path) -> None:
    """Do the rest of `replace_result` where a process was killed in the middle of it."""
    for old in suite.glob(f".*{_OLD}"):
        folder = old.with_name(old.name[1 : -len(_OLD)])
        if not folder.exists():
            new_result(old).rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _key(result: Path) -> str:
    return str(ResultStore(result).read_manifest().get("key"))
