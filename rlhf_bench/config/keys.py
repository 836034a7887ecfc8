"""What keys a configuration has: walks pydantic models, for explanations and for suggestions."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}


class ConfigKey(NamedTuple):
    """One key as `--explain` prints it; `default` is written as in YAML, or "required"."""

    key: str
    type: str
    default: str
    description: str


def dotted_keys(model_type: type[BaseModel]) -> list[str]:
    """Every key that may be set, sections included, in the order of definition."""
    return [name for name, _ in _walk(model_type)]


def explain(model_type: type[BaseModel], prefix: str = "") -> list[ConfigKey]:
    """Every key under `prefix` (all if empty) with its type, default and description, in the order of definition."""
    return [
        ConfigKey(key, _type_name(field), _default(field), " ".join((field.description or "").split()))
        for key, field in _walk(model_type)
        if not prefix or f"{key}.".startswith(f"{prefix}.")
    ]


def _walk(model_type: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model_type.model_fields.items():
        yield prefix + name, field
        for section in _models_in(field.annotation):
            yield from _walk(section, f"{prefix}{name}.")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value may be: itself or a branch of a union, not the items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _models_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for branch in get_args(annotation) for model in _models_in(branch)]
    return []


def _type_name(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(item, name)}"
        for item in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(item, name, None) is not None
    ]
    return " ".join([_name(field.annotation), ", ".join(bounds)]).strip()


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (None, type(None)):
        return "null"
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if origin is Annotated:
        return _name(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(_name(branch) for branch in arguments)
    if origin is not None:
        inner = ", ".join(_name(item) for item in arguments if item is not Ellipsis)
        return f"{'list' if origin is tuple else origin.__name__}[{inner}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {"str": "text"}.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return ""  # the section's own keys say it
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, default=str)
