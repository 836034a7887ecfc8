"""The recipes that are shipped, and one of them or a file read, overridden and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_bench.config import ConfigKey, load_config, overridden, read_yaml
from rlhf_bench.config import explain as explain_keys
from rlhf_bench.data.filters import named_filters
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.types import STAGES
from trainers.config.recipe import NewModel, Recipe

FINE_TUNING = "gpt2-hh"  # the recipe with rates that fit a pretrained model
OPTIMISATION = ("optimizer", "lr", "muon_lr", "head_lr", "critic_lr", "schedule", "weight_decay")
RECIPES = Path(__file__).parent.parent / "recipes"


def list_recipes() -> dict[str, str]:
    """Name and description of each shipped recipe."""
    return {p.stem: str(read_yaml(p).get("description", "")) for p in sorted(RECIPES.glob("*.yaml"))}


def load_recipe(name: str, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """A shipped recipe by name or a YAML file by path, with `key=value` overrides.

    Raises:
        UnknownName: no such recipe, key or filter.
        BadValue: a value of the wrong type or out of range.
    """
    if not (file := read_yaml(recipe_path(name))):
        raise BadValue(f"{name} is empty; expected the keys of a recipe, such as description and ppo")
    recipe = load_config(Recipe, _for_its_model(file, overridden(overrides)), overrides)
    named_filters(recipe.data.filters)
    if isinstance(recipe.model, NewModel):
        room = recipe.data.max_prompt_tokens + recipe.data.max_response_tokens
        if recipe.model.n_positions < room:
            raise BadValue(
                f"model.n_positions: given {recipe.model.n_positions}, expected at least {room} "
                "(data.max_prompt_tokens + data.max_response_tokens)"
            )
        if recipe.model.n_embd % recipe.model.n_head:
            raise BadValue(f"model.n_head: given {recipe.model.n_head}, expected a divisor of {recipe.model.n_embd}")
    return recipe


def fine_tuned_instead(name: str, overrides: Sequence[str]) -> str | None:
    """One line where the optimisers of a recipe for a new model are replaced, since the model is a pretrained one."""
    file, given = read_yaml(recipe_path(name)), overridden(overrides)
    if not isinstance(given.get("model"), str) or isinstance(file.get("model"), str):
        return None
    return (
        f"model={given['model']} is pretrained: optimisers and learning rates are those of {FINE_TUNING} and not of "
        f"{name}, which trains a new model; set others with --set, or take --recipe {FINE_TUNING}"
    )


def _for_its_model(file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values; with a pretrained model the optimiser's keys are, where they are left out, FINE_TUNING's, and
    those of a file that was written for a new model are left out."""
    if not isinstance(given.get("model", file.get("model")), str):
        return dict(file)
    fitted = dict(file)
    for section, values in read_yaml(RECIPES / f"{FINE_TUNING}.yaml").items():
        if section not in STAGES:
            continue
        own = file.get(section) or {}
        if not isinstance(file.get("model"), str):
            own = {key: value for key, value in own.items() if key not in OPTIMISATION}
        fitted[section] = {key: value for key, value in values.items() if key in OPTIMISATION} | own
    return fitted


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, or the YAML file at that path. Raises UnknownName."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise UnknownName("recipe", name, list_recipes(), advice="or the path of a YAML file that exists (.yaml)")
    return path


def explain(stage: str | None = None) -> list[ConfigKey]:
    """Each key with its type, default and meaning; only a section's with `stage`."""
    rows = explain_keys(Recipe, stage or "")
    if not rows:
        raise UnknownName("section", stage or "", Recipe.model_fields)
    return rows
