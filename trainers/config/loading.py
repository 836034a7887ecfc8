"""The recipes that are shipped, and one of them or a file read, overridden and checked."""

from __future__ import annotations

from pathlib import Path

from rlhf_bench.config import ConfigKey, load_config, read_yaml
from rlhf_bench.config import explain as explain_keys
from rlhf_bench.data.filters import named_filters
from rlhf_bench.errors import BadValue, UnknownName
from trainers.config.recipe import NewModel, Recipe

__all__ = ["explain", "list_recipes", "load_recipe", "recipe_path"]

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
    recipe = load_config(Recipe, recipe_path(name), overrides)
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


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, or the YAML file at that path. Raises UnknownName."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise UnknownName("recipe", name, list_recipes())
    return path


def explain(stage: str | None = None) -> list[ConfigKey]:
    """Each key with its type, default and meaning; only a section's with `stage`."""
    rows = explain_keys(Recipe, stage or "")
    if not rows:
        raise UnknownName("section", stage or "", Recipe.model_fields)
    return rows
