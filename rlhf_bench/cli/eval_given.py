"""The options of `rlhf-bench eval` as the fields of a request."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.cli.base import name_values
from rlhf_bench.errors import BadValue, CheckpointError, check_known
from rlhf_bench.types import PAIR, TEMPLATES

STRIPPED = ("prompt", "think", "special")
COLUMNS = ("prompt", "response", "reference", "model")
_SEED = "{seed}"
_CURVE = "NAME=GLOB, such as --curve grpo='checkpoints/default/grpo-steps/*'"


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The command's options that are fields already, and those that NAME=PATH and the like are read as."""
    models = name_values("--model", options["models"], expected="NAME=PATH, such as --model mine=checkpoints/mine/dpo")
    for name, folder in curve_models(options["curves"]).items():
        if name in models:
            raise BadValue(f"--curve: the name {name!r} is given to a --model as well; expected a name of its own")
        models[name] = folder
    reward_models = name_values(
        "--reward-model", options["reward_models"], expected="[NAME=]PATH", name_of=_reward_name
    )
    made = {
        "models": models,
        "templates": _prompt_templates(options["templates"], models, reward_models),
        "responses": tuple(_named_file(given) for given in options["responses"]),
        "columns": _role_columns(options["columns"]),
        "strip": _stripped_kinds(options["strip"]),
        "reward_models": reward_models,
        "perplexity_models": name_values(
            "--perplexity-model",
            options["perplexity_models"],
            expected="NAME=PATH, such as --perplexity-model gpt2=path/to/gpt2",
        ),
    }
    return {name: value for name, value in options.items() if name != "curves"} | made


def _named_file(given: str) -> tuple[str | None, str]:
    """("mine", "a.jsonl") from "mine=a.jsonl"; a path alone has no name."""
    name, equals, path = given.partition("=")
    if not equals or "/" in name:
        return None, given
    if not (name and path):
        raise BadValue(f"--responses: given {given!r}, expected NAME=FILE, such as --responses mine=outputs.jsonl")
    return name, path


def _role_columns(given: str | None) -> dict[str, str]:
    expected = "ROLE=NAME,..., such as --columns prompt=question,response=answer,reference=gold"
    columns = name_values("--columns", given.split(",") if given else [], expected=expected)
    check_known("column", columns, COLUMNS)
    return columns


def _stripped_kinds(given: str | None) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in given.split(",")) if given else ()
    check_known("kind for --strip", kinds, STRIPPED)
    return kinds


def _reward_name(path: str) -> str:
    """A reward model's folder, or its run where the folder is only called "reward"."""
    folder = Path(path)
    return (folder.parent.name if folder.name == "reward" else folder.name) or "reward"


def _prompt_templates(
    given: tuple[str, ...], models: Mapping[str, str], reward_models: Mapping[str, str]
) -> dict[str, str]:
    """model -> template; one without a name is every model's that has none of its own."""
    for_all = [text for text in given if "=" not in text]
    if len(for_all) > 1:
        raise BadValue(
            f"--prompt-template: given {', '.join(for_all)}; expected one for all, or NAME=TEMPLATE for each"
        )
    if for_all and not models:
        raise BadValue(
            "--prompt-template: given without a --model; the models of a run have their own template, and a "
            "--reward-model or --perplexity-model takes NAME=TEMPLATE"
        )
    own = name_values("--prompt-template", [text for text in given if "=" in text], expected="[NAME=]TEMPLATE")
    templates = dict.fromkeys(models, for_all[0]) | own if for_all else own
    for name, template in templates.items():
        check_known("prompt template", [template], (*TEMPLATES, PAIR) if name in reward_models else TEMPLATES)
    return templates


# --curve NAME=GLOB: the checkpoints of one method, on the way or of a sweep, as models that make one curve


def curve_models(given: tuple[str, ...]) -> dict[str, str]:
    """{"grpo@checkpoint-10": "grpo-steps/checkpoint-10", ...}: a model a matching checkpoint, called by what differs.

    `{seed}` in a pattern is a seed's number, and stays in the paths: one model under several seeds.

    Raises CheckpointError where nothing matches, BadValue where a checkpoint is not there under every seed or two would
    have one name.
    """
    models: dict[str, str] = {}
    for name, pattern in name_values("--curve", given, expected=_CURVE).items():
        paths = _of_every_seed(name, pattern) if _SEED in pattern else _checkpoints(pattern)
        if not paths:
            raise CheckpointError(f"--curve {name}: no checkpoint matches {pattern!r}; expected {_CURVE}")
        for step, path in zip(_labels(name, [Path(p) for p in paths]), paths, strict=True):
            models[f"{name}@{step}"] = path
    return models


def _checkpoints(pattern: str) -> list[str]:
    return [path for path in sorted(glob.glob(pattern)) if (Path(path) / "config.json").is_file()]


def _of_every_seed(name: str, pattern: str) -> list[str]:
    """The matching paths with `{seed}` in the place of the number."""
    parts = Path(pattern).parts
    place = next(i for i, part in enumerate(parts) if _SEED in part)
    before, _, after = parts[place].partition(_SEED)
    seeds: dict[str, set[str]] = {}
    for path in _checkpoints(str(Path(*parts)).replace(_SEED, "*")):
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
