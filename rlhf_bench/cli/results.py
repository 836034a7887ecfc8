"""The result that a command is given: by its path, `<suite>/<run>` or its run, or none for the last one."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from rlhf_bench.errors import BadValue, UnknownName


def newest_results(results: Path) -> list[Path]:
    """Every results folder at or below `results`, the newest first."""
    from rlhf_bench.store import find_results

    return sorted(find_results(results), key=lambda it: (it / "manifest.json").stat().st_mtime_ns, reverse=True)


def find_result(given: str | None, results: Path) -> Path:
    """A result's folder from its path, `<suite>/<run>`, or its run; none given is the last evaluated to its end.

    Raises UnknownName, or BadValue if there is no result at all.
    """
    found = newest_results(results)
    if given is None:
        if not found:
            raise BadValue(f"no result in {results}/; make one with: rlhf-bench eval --suite hh-test")
        return next((folder for folder in found if (folder / "metrics.json").is_file()), found[0])
    for folder in (Path(given), results / given):
        if (folder / "manifest.json").is_file():
            return folder
    names = {folder.relative_to(results).as_posix(): folder for folder in found}
    same_run = sorted(name for name, folder in names.items() if folder.name == given)
    if len(same_run) == 1:
        return names[same_run[0]]
    if same_run:
        raise BadValue(f"several results are called {given!r}: {', '.join(same_run)}; give one of these names")
    raise UnknownName("result", given, names)


def remember_result(result: Path) -> None:
    """Make a result the newest, also where all of it was stored before: the one for commands that are given none."""
    with contextlib.suppress(OSError):
        os.utime(result / "manifest.json", ns=(time.time_ns(), time.time_ns()))
