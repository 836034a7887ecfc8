"""What a judge is asked: prompt templates, which are YAML files with a version.

    name: pairwise            parser: pairwise-json
    version: 1                max_tokens: 300
    system: ... {fence} ...   user: ... {prompt} ... {first} ... {second} ...

`{prompt}`, `{first}` and `{second}` stand for the fenced texts, `{fence}` for the code that their marks hold. They are
filled in one pass, so a response that says {second} stays a response that says so. Other braces are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from rlhf_bench.config import Config, config_hash, load_config, read_yaml
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.judge.fence import Shown, fence_token, fenced, shown
from rlhf_bench.judge.types import Comparison, Order, Question

__all__ = ["Parser", "Shows", "Template", "changed_texts", "list_templates", "load_template"]

Parser = Literal["pairwise-json", "pairwise-letter", "pairwise-line"]
PROMPTS = Path(__file__).parent / "prompts"
_PLACE = re.compile(r"\{([a-z_]+)\}")
_NEEDED = ("prompt", "first", "second")


class Shows(NamedTuple):
    """The texts of a comparison as a judge sees them."""

    prompt: Shown
    model: Shown
    baseline: Shown


class Template(Config):
    """What a template file can say."""

    name: str = Field(min_length=1, description="name, as it stands in tables and in the ledger")
    version: int = Field(ge=1, description="goes up when the words change")
    description: str = Field("", description="what it asks for, in one line")
    parser: Parser = Field(description="how the answer is read")
    system: str = Field(min_length=1, description="the instructions; {fence} is the code of the marks")
    user: str = Field(min_length=1, description="the question, with {prompt}, {first} and {second}")
    max_tokens: int = Field(300, ge=1, description="longest answer of the judge, in tokens")
    ties: bool = Field(True, description="whether the judge may answer that neither is better")
    max_prompt_chars: int = Field(12_000, ge=100, description="longest prompt shown; the end is kept")
    max_response_chars: int = Field(12_000, ge=100, description="longest response shown; the start is kept")

    @cached_property
    def hash(self) -> str:
        """Of all fields: two templates with the same hash ask the same and are read the same."""
        return config_hash(self)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The verdicts that an answer may give."""
        return ("A", "B", "tie") if self.ties else ("A", "B")

    def schema_of_answer(self) -> dict[str, Any] | None:
        """JSON schema of the answer; None where the answer is plain text."""
        if self.parser != "pairwise-json":
            return None
        winner = {"type": "string", "enum": list(self.labels)}
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, "winner": winner},  # the reason first, so that it can matter
            "required": ["reason", "winner"],
            "additionalProperties": False,
        }

    def texts(self, comparison: Comparison) -> Shows:
        """The three texts neutralised and cut, with what was done to each."""
        return Shows(
            shown(comparison.prompt, limit=self.max_prompt_chars, keep="end"),
            shown(comparison.model_response, limit=self.max_response_chars, keep="start"),
            shown(comparison.baseline_response, limit=self.max_response_chars, keep="start"),
        )

    def render(self, comparison: Comparison, order: Order, *, repeat: int = 0) -> Question:
        """The question put to the judge, with the model's response first or the baseline's."""
        prompt, model, baseline = self.texts(comparison)
        first, second = (model, baseline) if order == "model_first" else (baseline, model)
        token = fence_token(prompt.text, model.text, baseline.text)
        blocks = {
            "fence": token,
            "prompt": fenced("CONVERSATION", prompt, token),
            "first": fenced("RESPONSE A", first, token),
            "second": fenced("RESPONSE B", second, token),
        }
        messages = tuple(
            {"role": role, "content": _PLACE.sub(lambda match: blocks[match[1]], text)}
            for role, text in (("system", self.system), ("user", self.user))
        )
        return Question(messages, self.max_tokens, self.schema_of_answer(), self.label, self.hash, repeat)


def changed_texts(template: Template, comparisons: Iterable[Comparison]) -> dict[str, int]:
    """How many responses (each counted once, by its text) and prompts the judge does not see as they are.

    Keys: responses_cut, responses_empty, responses_hidden (had invisible characters), responses_defused (had special
    tokens or verdict marks), prompts_cut.
    """
    prompts: dict[str, Shown] = {}
    responses: dict[str, Shown] = {}
    for comparison in comparisons:
        seen = template.texts(comparison)
        prompts[comparison.prompt] = seen.prompt
        responses[comparison.model_response] = seen.model
        responses[comparison.baseline_response] = seen.baseline
    return {
        "responses_cut": sum(text.cut > 0 for text in responses.values()),
        "responses_empty": sum(text.empty for text in responses.values()),
        "responses_hidden": sum(text.hidden > 0 for text in responses.values()),
        "responses_defused": sum(text.defused > 0 for text in responses.values()),
        "prompts_cut": sum(text.cut > 0 for text in prompts.values()),
    }


def list_templates() -> dict[str, str]:
    """Name and description of each shipped template."""
    return {path.stem: str(read_yaml(path).get("description", "")) for path in sorted(PROMPTS.glob("*.yaml"))}


def load_template(name_or_path: str) -> Template:
    """A shipped template by name, or a YAML file by path.

    Raises:
        UnknownName: no such template.
        BadValue: the file lacks a field, or says something that a template cannot say.
    """
    is_path = name_or_path.endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else PROMPTS / f"{name_or_path}.yaml"
    if not path.is_file():
        raise UnknownName("judge template", name_or_path, list_templates())
    try:
        template = load_config(Template, path, [])
    except (BadValue, UnknownName) as error:
        raise BadValue(f"judge template {name_or_path}: {str(error).removeprefix(f'{path}: ')}") from None
    _check_places(name_or_path, {"system": template.system, "user": template.user})
    return template


def _check_places(name: str, texts: Mapping[str, str]) -> None:
    """Every text has its place, once, in `user`; the code of the marks is told; nothing else stands in braces."""
    places = {field: _PLACE.findall(text) for field, text in texts.items()}
    for field, found in places.items():
        for place in found:
            if place not in (*_NEEDED, "fence"):
                known = "{prompt}, {first}, {second}, {fence}"
                raise BadValue(f"judge template {name}: {field} holds {{{place}}}; known: {known}")
    for place in _NEEDED:
        if places["user"].count(place) != 1 or place in places["system"]:
            raise BadValue(f"judge template {name}: {{{place}}} must stand once in user and never in system")
    if "fence" not in [*places["system"], *places["user"]]:
        raise BadValue(f"judge template {name}: {{fence}} stands nowhere; say there what stands between the marks")
