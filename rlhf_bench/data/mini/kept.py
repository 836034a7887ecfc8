"""The splits of hh-mini kept on disk: a training split takes seconds to make, and every command needs one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from functools import cache
from pathlib import Path

from rlhf_bench.data.mini.pairs import SPLITS, VERSION, generate
from rlhf_bench.data.mini.prompts import split_turns
from rlhf_bench.errors import UnknownName
from rlhf_bench.files import read_checked, write_checked
from rlhf_bench.types import PreferencePair

NEW_TURNS = "test_new"  # the pairs of test with a last human turn that ends no training prompt


def load(split: str, *, seed: int = 0) -> list[PreferencePair]:
    """The pairs of a whole split, as `generate` makes them, or of `test_new`.

    They are read from the cache folder ($XDG_CACHE_HOME/rlhf-bench, else ~/.cache/rlhf-bench), and written there where
    they are not in it; a damaged file is made again. A folder that cannot be written changes nothing.

    Raises UnknownName for another split.
    """
    if split == NEW_TURNS:
        known = {_last_turn(pair) for pair in load("train", seed=seed)}
        return [pair for pair in load("test", seed=seed) if _last_turn(pair) not in known]
    if split not in SPLITS:
        raise UnknownName("split of hh-mini", split, (*SPLITS, NEW_TURNS))
    path = _folder() / f"hh-mini-{VERSION}-{_code()}" / f"{split}-{seed}.json"
    try:
        stored = read_checked(path)
    except OSError:
        stored = None
    if stored is not None:
        return [PreferencePair(*row) for row in json.loads(stored)]
    pairs = generate(split, seed=seed)
    rows = [[p.prompt, p.chosen, p.rejected, p.margin, p.category, dict(p.meta)] for p in pairs]
    with contextlib.suppress(OSError):  # the next command makes them again
        write_checked(path, json.dumps(rows).encode())
    return pairs


def _last_turn(pair: PreferencePair) -> str:
    return split_turns(pair.prompt)[-1]


def _folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "rlhf-bench"


@cache
def _code() -> str:
    """Hash of the code that makes the data set: other code never reads what this code wrote."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
