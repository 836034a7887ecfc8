"""Configuration: YAML and `key=value` overrides, read into pydantic models with a description of every field.

    class PpoConfig(Config):
        kl_coef: float = Field(0.1, ge=0, description="weight of the KL penalty")

    config = load_config(Recipe, "trainers/recipes/mini.yaml", ["ppo.kl_coef=0.2"])

A key that does not exist is an `UnknownName` that suggests the nearest, a value of the wrong type or out of range a
`BadValue` that names key, value and what was expected. No templating.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from rlhf_bench.config.keys import ConfigKey, dotted_keys, explain
from rlhf_bench.errors import BadValue, UnknownName, nearest
from rlhf_bench.types import stable_hash

__all__ = [
    "ChangedKey",
    "Config",
    "ConfigKey",
    "config_hash",
    "diff",
    "explain",
    "flatten",
    "load_config",
    "overridden",
    "read_yaml",
    "suites_dir",
]


class Config(BaseModel):
    """Base of every configuration: frozen, no unknown keys, every field described.

    A description is `Field(..., description="...")` or a string on the line below the field.
    """

    # NaN and infinity are never meant, and a NaN would make two equal configurations differ.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        bare = [name for name, field in cls.model_fields.items() if not field.description]
        if bare:
            raise TypeError(f"{cls.__name__}: fields without a description: {', '.join(bare)}")


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(model_type: type[ConfigT], source: str | Path | Mapping[str, Any], overrides: Sequence[str]) -> ConfigT:
    """A checked configuration from a YAML file (or a mapping) and `key=value` overrides, later ones winning.

    Keys are dotted (`ppo.kl_coef=0.1`), values are YAML, so `null`, `true` and `[a, b]` mean what they mean there.

    Raises BadValue (unreadable file, malformed override, wrong type, out of range) and UnknownName.
    """
    data = overridden(overrides, dict(source) if isinstance(source, Mapping) else read_yaml(source))
    try:
        # Through JSON in strict mode: "3" is no number and 1 no boolean, but a list may become a tuple.
        return model_type.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise _one_line(model_type, error.errors(include_url=False)) from None


def overridden(overrides: Sequence[str], base: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `key=value` overrides make of `base`, nested as in a file. Raises BadValue for a malformed one."""
    data = base or {}
    for override in overrides:
        data = _override(data, override)
    return data


def config_hash(config: Config) -> str:
    """Hash of all values, defaults included: configurations with the same hash are equal."""
    return stable_hash(json.dumps(config.model_dump(mode="json"), sort_keys=True))


class ChangedKey(NamedTuple):
    """A key with values that differ; `None` also means that the key is absent."""

    key: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.key}: {_show(self.a)} -> {_show(self.b)}"


def diff(a: Config | Mapping[str, Any], b: Config | Mapping[str, Any]) -> list[ChangedKey]:
    """Dotted keys that differ, sorted. Either side may be what `model_dump(mode="json")` stored."""
    flat_a, flat_b = flatten(a), flatten(b)
    return [
        ChangedKey(key, flat_a.get(key), flat_b.get(key))
        for key in sorted({*flat_a, *flat_b})
        if flat_a.get(key) != flat_b.get(key)
    ]


def suites_dir() -> Path:
    """Where the suites' YAML files lie: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    in_wheel = package / "_suites"
    return in_wheel if in_wheel.is_dir() else package.parent / "suites"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but `1e-3` is a number (PyYAML wants `1.0e-3`) and no key may be duplicated."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is duplicated", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file is an empty mapping. Raises BadValue."""
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise BadValue(f"{path}: no such file; expected a YAML file") from None
    except OSError as error:
        raise BadValue(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadValue(f"{path}: not UTF-8; expected a YAML file") from None
    except yaml.YAMLError as error:
        raise BadValue(f"{path}: {_yaml_problem(error)}; expected a YAML mapping") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadValue(f"{path}: given a {type(data).__name__} at the top, expected a YAML mapping of keys to values")
    return data


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _override(data: dict[str, Any], text: str) -> dict[str, Any]:
    """A copy of `data` with one `key=value` applied; missing sections are added."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise BadValue(f"--set: given {text!r}, expected KEY=VALUE, a key of the file and its value in YAML")
    try:
        value = yaml.load(raw, _Loader)
    except yaml.YAMLError as error:
        raise BadValue(f"{key}: given {raw!r}, expected a YAML value ({_yaml_problem(error)})") from None
    data = dict(data)
    section, (*parents, last) = data, key.split(".")
    for parent in parents:
        inner = section.get(parent)
        # Where a scalar was (model: gpt2), a dotted key below it (model.n_layer=2) starts a new section.
        section[parent] = dict(inner) if isinstance(inner, Mapping) else {}
        section = section[parent]
    section[last] = value
    return data


def _one_line(model_type: type[Config], errors: list[ErrorDetails]) -> BadValue | UnknownName:
    """The first thing that is wrong, as one line; an unknown key before a bad value, since it often explains it."""
    known = dotted_keys(model_type)
    for error in errors:
        if error["type"] == "extra_forbidden":
            key = _key(error["loc"][:-1], known)
            return _unknown_key(".".join(filter(None, [key, str(error["loc"][-1])])), known)
    # A union (`str | Section`) complains once a branch: the deepest complaint is about the branch that was meant, and
    # of several as deep (`int | "auto"`) say all that would have been taken.
    top = _key(errors[0]["loc"], known)
    first = max(errors, key=lambda error: len(k) if (k := _key(error["loc"], known)).startswith(top) else -1)
    key = _key(first["loc"], known)
    if first["type"] == "missing":
        return BadValue(f"{key}: missing, and it has no default")
    same = [_expected(error) for error in errors if _key(error["loc"], known) == key]
    expected = " or ".join(dict.fromkeys(same))
    ruled = first["type"] in ("value_error", "assertion_error")
    if not key or (ruled and isinstance(first["input"], Mapping)):  # over several keys: its own words name them
        return BadValue(expected)
    if ruled:
        return BadValue(f"{key}: given {_show(first['input'])}; {expected}")
    return BadValue(f"{key}: given {_show(first['input'])}, expected {expected}")


# Pydantic's error types in words; the rest is its own message ("greater than or equal to 0").
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
    "string_type": "text",
    "tuple_type": "a list",
}


def _expected(error: ErrorDetails) -> str:
    text = re.sub(r"^(Input should be |Value error, |Assertion failed, )", "", error["msg"])
    return _EXPECTED.get(error["type"], text)


def _key(location: Sequence[int | str], known: Sequence[str]) -> str:
    """The dotted key of a pydantic location, without the names of union branches in it."""
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        longer = f"{key}.{part}" if key else part
        if longer in known:
            key = longer
    return key


def _unknown_key(given: str, known: Sequence[str]) -> UnknownName:
    """Offers, in this order: a like name in the same section, the same name in another, the nearest key, the section's
    own keys."""
    section, _, name = given.rpartition(".")
    own = [key for key in known if key.rpartition(".")[0] == section]
    same_name = [key for key in known if key.rpartition(".")[2] == name]
    like = _like(name, [key.rpartition(".")[2] for key in own]) if section else None
    if like:
        return UnknownName("key", given, known, meant=f"{section}.{like}")
    for candidates in (same_name, known):
        close = nearest(given, [key for key in candidates if not given.startswith(f"{key}.")])
        close = close or (candidates[0] if candidates is same_name and len(candidates) == 1 else None)
        if close:
            return UnknownName("key", given, known, meant=close)
    return UnknownName("key", given, same_name or own or known)


def _like(name: str, known: Sequence[str]) -> str | None:
    """The known name of the same words, a few more or fewer (max_steps: steps), else the nearest in letters."""
    words = {other: set(other.split("_")) for other in (name, *known)}
    kin = [other for other in known if words[other] <= words[name] or words[name] <= words[other]]
    return max(kin, key=lambda other: (len(words[other] & words[name]), -len(other))) if kin else nearest(name, known)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def flatten(config: Config | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    data = config.model_dump(mode="json") if isinstance(config, Config) else config
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
