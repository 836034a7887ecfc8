"""What the options of `rlhf-bench eval` say of models, files and columns, as the evaluation takes it."""

from __future__ import annotations

from pathlib import Path

from rlhf_bench.cli.base import name_values
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.types import TEMPLATES

__all__ = ["named_file", "prompt_templates", "reward_paths", "role_columns"]

COLUMNS = ("prompt", "response", "reference", "model")


def named_file(given: str) -> tuple[str | None, str]:
    """("mine", "a.jsonl") from "mine=a.jsonl"; a path alone has no name."""
    name, equals, path = given.partition("=")
    if not equals or "/" in name:
        return None, given
    if not (name and path):
        raise BadValue(f"--responses: given {given!r}, expected NAME=FILE, such as --responses mine=outputs.jsonl")
    return name, path


def role_columns(given: str | None) -> dict[str, str]:
    expected = "ROLE=NAME,..., such as --columns prompt=question,response=answer,reference=gold"
    columns = name_values("--columns", given.split(",") if given else [], expected=expected)
    for role in columns:
        if role not in COLUMNS:
            raise UnknownName("column", role, COLUMNS)
    return columns


def reward_paths(given: tuple[str, ...]) -> dict[str, str]:
    """Under their own names: the folder's, or its run's where a folder is only called "reward"."""
    models: dict[str, str] = {}
    for text in given:
        name, path = named_file(text)
        folder = Path(path)
        name = name or (folder.parent.name if folder.name == "reward" else folder.name) or "reward"
        if name in models:
            raise BadValue(f"--reward-model: two are called {name!r}; give one of them a name: NAME=PATH")
        models[name] = path
    return models


def prompt_templates(given: tuple[str, ...], models: dict[str, str]) -> dict[str, str]:
    """model -> template; one without a name is every model's that has none of its own."""
    everybody = [text for text in given if "=" not in text]
    if len(everybody) > 1:
        raise BadValue(
            f"--prompt-template: given {', '.join(everybody)}; expected one for all, or NAME=TEMPLATE for each"
        )
    if everybody and not models:
        raise BadValue(
            "--prompt-template: given without a --model; the models of a run have prompts of their own, and a "
            "--perplexity-model takes NAME=TEMPLATE"
        )
    own = name_values("--prompt-template", [text for text in given if "=" in text], expected="[NAME=]TEMPLATE")
    templates = dict.fromkeys(models, everybody[0]) | own if everybody else own
    for template in templates.values():
        if template not in TEMPLATES:
            raise UnknownName("prompt template", template, TEMPLATES)
    return templates
