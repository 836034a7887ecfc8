"""The forms of judging. A form is one file: its template, its questions, the reading of answers, its numbers.

A template is a YAML file, of those in prompts/ or of the user; its `parser` says which form it belongs to.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from rlhf_bench.config import load_config, read_yaml
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.judge.forms.base import PLACE, BaseTemplate
from rlhf_bench.judge.forms.pairwise import PairTemplate
from rlhf_bench.judge.forms.ranking import RankingTemplate
from rlhf_bench.judge.forms.rating import RatingTemplate

__all__ = ["list_templates", "load_template"]

PROMPTS = Path(__file__).parent / "prompts"
FORMS: tuple[type[BaseTemplate], ...] = (PairTemplate, RatingTemplate, RankingTemplate)
_BY_PARSER = {parser: form for form in FORMS for parser in get_args(form.model_fields["parser"].annotation)}


def list_templates() -> dict[str, str]:
    """Name and description of each shipped template."""
    return {path.stem: str(read_yaml(path).get("description", "")) for path in sorted(PROMPTS.glob("*.yaml"))}


def load_template(name_or_path: str) -> BaseTemplate:
    """A shipped template by name, or a YAML file by path.

    Raises:
        UnknownName: no such template.
        BadValue: the file lacks a field, or holds one that a template does not have.
    """
    is_path = name_or_path.endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else PROMPTS / f"{name_or_path}.yaml"
    if not path.is_file():
        advice = "or the path of a YAML file that exists (.yaml)"
        raise UnknownName("judge template", name_or_path, list_templates(), advice=advice)
    parser = read_yaml(path).get("parser")
    try:
        if parser not in _BY_PARSER:
            given = "missing" if parser is None else f"given {parser!r}"
            raise BadValue(f"parser: {given}; expected one of {', '.join(_BY_PARSER)}")
        template = load_config(_BY_PARSER[parser], path, [])
        _check_places(template)
    except (BadValue, UnknownName) as error:
        text = str(error).removeprefix(f"{path}: ")
        raise BadValue(f"judge template {name_or_path}: {text}") from None
    return template


def _check_places(template: BaseTemplate) -> None:
    """Raise BadValue unless every text of `places` has its place in `user`, once, the fence is explained, and no other
    place is used."""
    found = {field: PLACE.findall(text) for field, text in (("system", template.system), ("user", template.user))}
    known = (*template.places, *template.free, "fence")
    for field, places in found.items():
        for place in places:
            if place not in known:
                listed = ", ".join(f"{{{one}}}" for one in known)
                raise BadValue(f"{field} holds {{{place}}}; known: {listed}")
    for place in template.places:
        if found["user"].count(place) != 1 or place in found["system"]:
            raise BadValue(f"{{{place}}} must occur once in user and never in system")
    if "fence" not in [*found["system"], *found["user"]]:
        raise BadValue("{fence} occurs nowhere; explain there what is between the marks")
