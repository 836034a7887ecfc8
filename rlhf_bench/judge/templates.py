"""What a judge is asked: prompt templates, which are YAML files with a version.

    name: pairwise            parser: pairwise-json
    version: 1                max_tokens: 300
    system: ... {fence} ...   user: ... {prompt} ... {first} ... {second} ...

`{prompt}`, `{first}` and `{second}` stand for the fenced texts, `{fence}` for the code that their marks hold. They are
filled in one pass, so a response that says {second} stays a response that says so. Other braces are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from rlhf_bench.config import load_config, read_yaml
from rlhf_bench.errors import BadValue, UnknownName
from rlhf_bench.judge.fence import Shown, fence_token, fenced
from rlhf_bench.judge.ranking import RankingTemplate
from rlhf_bench.judge.rating import RatingTemplate
from rlhf_bench.judge.template_base import BaseTemplate, check_places
from rlhf_bench.judge.types import Comparison, Form, Order, Question

__all__ = ["AnyTemplate", "Shows", "Template", "changed_texts", "list_templates", "load_template"]

PROMPTS = Path(__file__).parent / "prompts"


class Shows(NamedTuple):
    """The texts of a comparison as a judge sees them."""

    prompt: Shown
    model: Shown
    baseline: Shown


class Template(BaseTemplate):
    """What a template of pairs can say."""

    parser: Literal["pairwise-json", "pairwise-letter", "pairwise-line"] = Field(description="how the answer is read")
    ties: bool = Field(True, description="whether the judge may answer that neither is better")

    @property
    def labels(self) -> tuple[str, ...]:
        """The verdicts that an answer may give."""
        return ("A", "B", "tie") if self.ties else ("A", "B")

    @cached_property
    def form(self) -> Form:
        return self.form_with(self.schema_of_answer())

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
            self.shown_prompt(comparison.prompt),
            self.shown_response(comparison.model_response),
            self.shown_response(comparison.baseline_response),
        )

    def render(self, comparison: Comparison, order: Order, *, repeat: int = 0) -> Question:
        """The question put to the judge, with the model's response first or the baseline's."""
        prompt, model, baseline = self.texts(comparison)
        first, second = (model, baseline) if order == "model_first" else (baseline, model)
        token = fence_token(prompt.text, model.text, baseline.text)
        places = {
            "fence": token,
            "prompt": fenced("CONVERSATION", prompt, token),
            "first": fenced("RESPONSE A", first, token),
            "second": fenced("RESPONSE B", second, token),
        }
        return Question(self.messages(places), self.form, repeat)


AnyTemplate = Template | RatingTemplate | RankingTemplate


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


def load_template(name_or_path: str) -> AnyTemplate:
    """A shipped template by name, or a YAML file by path; its `parser` says which form it is.

    Raises:
        UnknownName: no such template.
        BadValue: the file lacks a field, or says something that a template cannot say.
    """
    is_path = name_or_path.endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else PROMPTS / f"{name_or_path}.yaml"
    if not path.is_file():
        raise UnknownName("judge template", name_or_path, list_templates())
    parser = str(read_yaml(path).get("parser", ""))
    try:
        if parser.startswith("ratings"):
            template: AnyTemplate = load_config(RatingTemplate, path, [])
            check_places(name_or_path, template, ("prompt", "response"), ("criteria", "low", "high"))
        elif parser.startswith("ranking"):
            template = load_config(RankingTemplate, path, [])
            check_places(name_or_path, template, ("prompt", "responses"), ("labels",))
        else:
            template = load_config(Template, path, [])
            check_places(name_or_path, template, ("prompt", "first", "second"))
    except (BadValue, UnknownName) as error:
        text = str(error).removeprefix(f"{path}: ").removeprefix(f"judge template {name_or_path}: ")
        raise BadValue(f"judge template {name_or_path}: {text}") from None
    return template
