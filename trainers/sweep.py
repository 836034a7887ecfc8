"""One key under several values: a run a value, which share all that the key does not decide.

    rlhf-bench train dpo --sweep dpo.beta=0.05,0.1,0.3     # default.dpo.beta=0.05, default.dpo.beta=0.1, ...
    rlhf-bench eval --curve dpo='checkpoints/default.dpo.beta=*/dpo'

What the key does not decide is trained once, in the run itself, and linked into each value's folder.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.errors import BadValue, StaleParent
from rlhf_bench.modeling.checkpoints import check_run, checkpoint_hash, run_seeds, stage_path
from trainers.config.ancestry import configuration, with_ancestors
from trainers.config.checks import check_combinations, check_given, ignored_keys
from trainers.config.loading import load_recipe
from trainers.config.recipe import Recipe
from trainers.pipeline import train

EXPECTED = "KEY=VALUE,VALUE,..., such as --sweep dpo.beta=0.05,0.1,0.3"


class Sweep(NamedTuple):
    key: str  # dotted, as in --set
    values: tuple[str, ...]

    def run(self, run: str, value: str) -> str:
        """The name of a value's run."""
        return f"{run}.{self.key}={value}"


def parse_sweep(given: str) -> Sweep:
    """Raises BadValue for anything but a key and two or more different values that can be part of a folder's name."""
    key, equals, values = given.partition("=")
    parts = tuple(value.strip() for value in values.split(","))
    if not (key and equals and all(parts)):
        raise BadValue(f"--sweep: given {given!r}, expected {EXPECTED}")
    if len(set(parts)) < max(2, len(parts)):
        raise BadValue(f"--sweep {key}: given {values}, expected two or more different values")
    for value in parts:
        if not re.fullmatch(r"[\w.+-]+", value):
            raise BadValue(f"--sweep {key}: {value!r} cannot be part of a folder's name; expected {EXPECTED}")
    if key == "seed":
        raise BadValue("--sweep seed: a seed has a place of its own; use --seeds N")
    return Sweep(key, parts)


def train_sweep(
    stages: Sequence[str],
    sweep: Sweep,
    *,
    recipe: str,
    run: str,
    overrides: Sequence[str],
    root: Path,
    force: bool = False,
    **options: Any,
) -> list[Path]:
    """Train `stages` under each value of the sweep; the folders of its runs. `options` are those of `pipeline.train`.

    `force` trains again what the key decides, never what the runs share.

    Raises, before anything is trained, BadValue and UnknownName for a value that does not fit, or a key that decides
    nothing of `stages`; StaleParent where what is shared was trained again since; then as `pipeline.train`.
    """
    check_run(run)
    if any(text.partition("=")[0].strip() == sweep.key for text in overrides):
        raise BadValue(f"--sweep {sweep.key}: given with --set of the same key; expected one of the two")
    settings = {value: [*overrides, f"{sweep.key}={value}"] for value in sweep.values}
    plain = load_recipe(recipe, list(overrides))
    wanted = with_ancestors(stages, plain)
    decided: set[str] = set()
    same: dict[str, str] = {}  # a recipe -> the value that makes it
    settings = without_ignored(recipe, settings, stages)
    for value, keys in settings.items():
        changed = load_recipe(recipe, keys)
        check_combinations(changed)
        check_given(recipe, keys, with_ancestors(stages, changed))
        first = same.setdefault(changed.model_dump_json(), value)
        if first != value:
            raise BadValue(f"--sweep {sweep.key}: {first} and {value} are the same value; expected different ones")
        decided |= decided_stages(wanted, plain, changed)
    if not decided:
        raise BadValue(f"--sweep {sweep.key}: it decides nothing of {', '.join(wanted)}; sweep another key")
    shared = [stage for stage in wanted if stage not in decided]
    if shared:
        train(shared, recipe=recipe, run=run, overrides=overrides, root=root, **options)
    folders = []
    for value, keys in settings.items():
        target = root / sweep.run(run, value)
        for seed in run_seeds(root / run) if shared else []:
            for stage in shared:
                _link(stage_path(root / run, stage, seed), stage_path(target, stage, seed))
        own = [stage for stage in stages if stage in decided]
        folders.append(train(own, recipe=recipe, run=target.name, overrides=keys, root=root, force=force, **options))
    return folders


def without_ignored(recipe: str, settings: Mapping[str, list[str]], stages: Sequence[str]) -> dict[str, list[str]]:
    """Each value's overrides less those that decide nothing under it, but something under another value: with
    ppo.advantage=gae,reward, ppo.lam is gae's alone."""
    resolved = {value: load_recipe(recipe, keys) for value, keys in settings.items()}
    ignored = {value: {key for key, _ in ignored_keys(r, with_ancestors(stages, r))} for value, r in resolved.items()}
    everywhere = set.intersection(*ignored.values())
    return {
        value: [text for text in keys if text.partition("=")[0].strip() not in ignored[value] - everywhere]
        for value, keys in settings.items()
    }


def decided_stages(stages: Sequence[str], a: Recipe, b: Recipe) -> set[str]:
    """The `stages`, in the order of training, that two recipes make different: themselves, or their parents."""
    decided: set[str] = set()
    for stage in stages:
        ancestors = {*with_ancestors([stage], a), *with_ancestors([stage], b)} - {stage}
        if configuration(a, stage) != configuration(b, stage) or ancestors & decided:
            decided.add(stage)
    return decided


def _link(source: Path, target: Path) -> None:
    """A folder of the same files, which are never changed in place; copied where the disk has no hard links."""
    if target.exists():
        if checkpoint_hash(target) != checkpoint_hash(source):
            raise StaleParent(f"{target} is not {source}, which was trained again since; remove {target.parent}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(source, fresh, copy_function=os.link)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(source, fresh)
    fresh.rename(target)
