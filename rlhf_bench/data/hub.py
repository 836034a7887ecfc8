"""Data sets of the Hugging Face hub, and a quick, clear answer where the hub cannot be reached."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from rlhf_bench.data.files import Source, from_datasets
from rlhf_bench.data.parsing import first_line
from rlhf_bench.errors import DataError
from rlhf_bench.hub import hub_answers


@dataclass(frozen=True)
class HubSource:
    """What is known of a hub data set. `splits` maps our names to the source's where they differ."""

    note: str
    revision: str = "main"
    splits: Mapping[str, str] = field(default_factory=dict)
    fields: str = "prompt, chosen, rejected"  # columns that a local copy has


HUB_SOURCES: Mapping[str, HubSource] = {
    "Anthropic/hh-rlhf": HubSource(
        note="helpful and harmless dialogues, two responses each (arXiv 2204.05862); contains offensive text",
        revision="09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
        fields="chosen, rejected",
    ),
    "Dahoas/synthetic-instruct-gptj-pairwise": HubSource(
        note="plain instructions with a better and a GPT-J response; train only, so all splits are made here",
    ),
    "trl-lib/tldr-preference": HubSource(
        note="Reddit posts with two summaries (arXiv 2009.01325); its validation split is what others evaluate on",
        splits={"test": "validation"},
    ),
}


def is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith((".", "-"))


def read_hub(name: str, revision: str | None) -> Source:
    """The splits of a hub data set, at `revision`, else at the one that is known for it, else at "main".

    Without a network the cache is tried; DataError within seconds if it is not there.
    """
    import datasets

    known = HUB_SOURCES.get(name, HubSource(note=""))
    revision = revision or known.revision
    offline = not hub_answers()
    try:
        with _offline() if offline else nullcontext():
            loaded = datasets.load_dataset(name, revision=revision)
    except Exception as error:  # connection, missing or gated set, damaged files: all end in the same advice
        reason = "the hub cannot be reached and the data set is not in the cache" if offline else first_line(error)
        raise DataError(
            f"{name!r} is not a file or folder here, and as a data set of the hub (revision {revision}) it cannot be "
            f"loaded: {reason}; give a local file instead, with --data FILE or the recipe's data.source (jsonl, "
            f"parquet or csv with {known.fields})"
        ) from error
    if isinstance(loaded, dict):
        loaded = dict(loaded)
        for ours, theirs in known.splits.items():
            if ours not in loaded and theirs in loaded:
                loaded[ours] = loaded.pop(theirs)
    source = from_datasets(loaded, name)
    commit = _commit(loaded)
    notes = [
        f"hub revision {commit or revision}" + (f" (requested: {revision})" if commit not in (None, revision) else "")
    ]
    notes += [f"its split {theirs} is used as {ours}" for ours, theirs in known.splits.items()]
    return Source(source.splits, notes + source.notes)


def _commit(loaded: Any) -> str | None:
    """The commit that was read: `datasets` keeps it only inside the addresses of the files that it fetched."""
    for split in loaded.values() if isinstance(loaded, dict) else [loaded]:
        match = re.search(r"@([0-9a-f]{40})/", " ".join(split.info.download_checksums or {}))
        if match:
            return match.group(1)
    return None


@contextmanager
def _offline() -> Iterator[None]:
    """Offline mode for one call, so that what is in the cache is still found. Both libraries read these at each use."""
    import datasets
    import huggingface_hub

    modules: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value
