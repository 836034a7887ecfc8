"""The options of `rlhf-bench eval` as the fields of a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.cli.base import name_values
from rlhf_bench.cli.curves import curve_models
from rlhf_bench.errors import BadValue, check_known
from rlhf_bench.types import PAIR, TEMPLATES

STRIPPED = ("prompt", "think", "special")
COLUMNS = ("prompt", "response", "reference", "model")


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The command's options that are fields already, and those that NAME=PATH and the like are read as."""
    models = name_values("--model", options["models"], expected="NAME=PATH, such as --model mine=checkpoints/mine/dpo")
    for name, folder in curve_models(options["curves"]).items():
        if name in models:
            raise BadValue(f"--curve: the name {name!r} is given to a --model as well; expected a name of its own")
        models[name] = folder
    reward_models = _reward_paths(options["reward_models"])
    made = {
        "models": models,
        "templates": _prompt_templates(options["templates"], models, reward_models),
        "responses": tuple(_named_file("--responses NAME=FILE", given) for given in options["responses"]),
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


def _named_file(usage: str, given: str) -> tuple[str | None, str]:
    """("mine", "a.jsonl") from "mine=a.jsonl"; a path alone has no name."""
    name, equals, path = given.partition("=")
    if not equals or "/" in name:
        return None, given
    if not (name and path):
        option, expected = usage.split()
        raise BadValue(f"{option}: given {given!r}, expected {expected}, such as {option} mine=path/to/mine")
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


def _reward_paths(given: tuple[str, ...]) -> dict[str, str]:
    """Reward models under their own names: the folder's, or its run's where a folder is only called "reward"."""
    models: dict[str, str] = {}
    for text in given:
        name, path = _named_file("--reward-model NAME=PATH", text)
        folder = Path(path)
        name = name or (folder.parent.name if folder.name == "reward" else folder.name) or "reward"
        if name in models:
            raise BadValue(f"--reward-model: two are called {name!r}; give one of them a name: NAME=PATH")
        models[name] = path
    return models


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
