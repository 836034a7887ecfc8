"""--curve NAME=GLOB: the checkpoints of one method, on the way or of a sweep, as models that make one curve."""

from __future__ import annotations

import glob
from pathlib import Path

from rlhf_bench.cli.base import name_values
from rlhf_bench.errors import BadValue, CheckpointError

SEED = "{seed}"
EXPECTED = "NAME=GLOB, such as --curve grpo='checkpoints/default/grpo-steps/*'"


def curve_models(given: tuple[str, ...]) -> dict[str, str]:
    """{"grpo@checkpoint-10": "grpo-steps/checkpoint-10", ...}: a model a matching checkpoint, called by what differs.

    `{seed}` in a pattern is a seed's number, and stays in the paths: one model under several seeds.

    Raises CheckpointError where nothing matches, BadValue where a checkpoint is not there under every seed or two would
    have one name.
    """
    models: dict[str, str] = {}
    for name, pattern in name_values("--curve", given, expected=EXPECTED).items():
        paths = _of_every_seed(name, pattern) if SEED in pattern else _checkpoints(pattern)
        if not paths:
            raise CheckpointError(f"--curve {name}: no checkpoint matches {pattern!r}; expected {EXPECTED}")
        for step, path in zip(_labels(name, [Path(p) for p in paths]), paths, strict=True):
            models[f"{name}@{step}"] = path
    return models


def _checkpoints(pattern: str) -> list[str]:
    return [path for path in sorted(glob.glob(pattern)) if (Path(path) / "config.json").is_file()]


def _of_every_seed(name: str, pattern: str) -> list[str]:
    """The matching paths with `{seed}` in the place of the number."""
    parts = Path(pattern).parts
    place = next(i for i, part in enumerate(parts) if SEED in part)
    before, _, after = parts[place].partition(SEED)
    seeds: dict[str, set[str]] = {}
    for path in _checkpoints(str(Path(*parts)).replace(SEED, "*")):
        found = list(Path(path).parts)
        seed = found[place].removeprefix(before).removesuffix(after)
        if seed.isdigit():
            found[place] = parts[place]
            seeds.setdefault(str(Path(*found)), set()).add(seed)
    everywhere = set().union(*seeds.values()) if seeds else set()
    for path, there in seeds.items():
        if missing := sorted(everywhere - there, key=int):
            raise BadValue(
                f"--curve {name}: {path} is there under seed {', '.join(sorted(there, key=int))} and not under "
                f"{', '.join(missing)}; train it there too, or match fewer checkpoints"
            )
    return list(seeds)


def _labels(name: str, folders: list[Path]) -> list[str]:
    """The part of the path by which the folders differ; of runs of a sweep, such as default.dpo.beta=0.1, the value."""
    depth = min(len(folder.parts) for folder in folders)
    if len(folders) == 1:
        return [folders[0].name]
    for up in range(1, depth + 1):  # runs of a sweep differ in the run, not in the stage
        called = [folder.parts[-up] for folder in folders]
        if len(set(called)) == len(folders):
            heads = {label.rpartition("=")[0] for label in called}
            return [label.rpartition("=")[2] for label in called] if len(heads) == 1 else called
    raise BadValue(
        f"--curve {name}: several checkpoints are called {folders[0].name!r}; expected folders that differ in one "
        "part of their path"
    )
