"""Several models' responses to one prompt ranked in one call, each line-up in a drawn order and in its reverse.

    name: rank                parser: ranking-json
    system: ... {fence} ... {labels} ...      user: ... {prompt} ... {responses} ...

An answer is read only where it names every response once, the best first; a response that is left out, named twice or
unknown makes it unreadable. The reverse shows every two responses in their other order as well, so that a ranking
counts as pairs do: a pair is won only where both line-ups agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

from pydantic import Field

from rlhf_bench.errors import BadValue, StoreError
from rlhf_bench.judge.answers import Unreadable, after_thoughts, bare_answer, content_of, json_object, refused
from rlhf_bench.judge.fence import fence_token, fenced
from rlhf_bench.judge.pairs import texts_of
from rlhf_bench.judge.template_base import BaseTemplate
from rlhf_bench.judge.types import Form, Lineup, Order, Question, Reading
from rlhf_bench.types import stable_hash

__all__ = ["RANKING_PARSER", "Lineups", "RankingTemplate", "lineups_of", "read_ranking"]

RANKING_PARSER = "ranking-1"  # changes when a stored answer would be read differently
MOST = len(ascii_uppercase)


class RankingTemplate(BaseTemplate):
    """What a template of rankings can say."""

    parser: Literal["ranking-json"] = Field(description="how the answer is read")

    def form_of(self, labels: str) -> Form:
        """Of a line-up with these labels."""
        if labels not in self._forms:
            self._forms[labels] = self.form_with(self.schema_of_answer(labels))
        return self._forms[labels]

    @cached_property
    def _forms(self) -> dict[str, Form]:
        return {}

    def schema_of_answer(self, labels: Sequence[str]) -> dict[str, Any]:
        """JSON schema of the answer. That no label stands twice is the parser's to see: few servers keep to it."""
        ranking = {"type": "array", "items": {"type": "string", "enum": list(labels)}}
        return {
            "type": "object",
            "properties": {"reason": {"type": "string"}, "ranking": ranking},
            "required": ["reason", "ranking"],
            "additionalProperties": False,
        }

    def render(self, lineup: Lineup, order: Order = "given", *, repeat: int = 0) -> Question:
        """The question put to the judge; the responses stand in the line-up's order as A, B, C, ..."""
        prompt = self.shown_prompt(lineup.prompt)
        texts = [self.shown_response(response) for response in lineup.responses]
        token = fence_token(prompt.text, *(text.text for text in texts))
        labels = ascii_uppercase[: len(texts)]
        blocks = [fenced(f"RESPONSE {label}", text, token) for label, text in zip(labels, texts, strict=True)]
        places = {
            "fence": token,
            "prompt": fenced("CONVERSATION", prompt, token),
            "responses": "\n\n".join(blocks),
            "labels": ", ".join(labels),
        }
        return Question(self.messages(places), self.form_of(labels), repeat)


def read_ranking(raw: Mapping[str, Any], shown: int) -> Reading:
    """The ranking of so many responses in one raw answer (as `parse.read_verdict` takes it).

    `meta` is label -> rank, 1 the best.
    """
    held_back = refused(raw)
    if held_back is not None:
        return held_back
    try:
        content = content_of(raw, whole=True)
        value = json_object(bare_answer(content[after_thoughts(content) :].strip())[0])
        if not {"ranking"} <= value.keys() <= {"ranking", "reason"}:
            raise Unreadable("JSON of another shape")
        labels = value["ranking"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Unreadable("the ranking is no list of labels")
        if sorted(labels) != list(ascii_uppercase[:shown]):
            raise Unreadable("the ranking does not name each response once")
    except Unreadable as why:
        return Reading("unreadable", note=str(why))
    return Reading("read", meta={label: rank for rank, label in enumerate(labels, 1)})


class Lineups(NamedTuple):
    """`short` counts prompts (of a seed and sample) that not every model has answered; they are left out."""

    lineups: list[Lineup]
    models: list[str]
    short: int


def lineups_of(
    responses: Iterable[Mapping[str, Any]],
    *,
    models: Sequence[str] = (),
    samples: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Lineups:
    """Each prompt's responses in an order drawn by `seed`, and in its reverse (draw 0 and 1); sorted by prompt.

    Arguments and errors as in `pairs.pairs_of`. Raises BadValue for fewer than two models or more than there are
    labels, StoreError where no prompt was answered by all of them.
    """
    texts, prompts = found = texts_of(responses)
    chosen = found.models(models)
    if not 2 <= len(chosen) <= MOST:
        raise BadValue(f"--model: {len(chosen)} models given to rank, expected 2 to {MOST}")
    known = set(sorted(prompts)[:limit])
    keys = sorted({key for name in chosen for key in texts[name]})
    keys = [key for key in keys if key[0] in known and (samples is None or key[2] < samples)]
    lineups, short = [], 0
    for prompt, run_seed, sample in keys:
        if not all((prompt, run_seed, sample) in texts[name] for name in chosen):
            short += 1
            continue
        where = (str(seed), prompt, str(run_seed), str(sample))
        drawn = sorted(chosen, key=lambda name, where=where: stable_hash(*where, name))  # type: ignore[misc]
        for draw, order in enumerate((drawn, drawn[::-1])):
            shown = tuple(texts[name][prompt, run_seed, sample] for name in order)
            lineups.append(Lineup(prompt, prompts[prompt], run_seed, sample, draw, tuple(order), shown))
    if not lineups:
        raise StoreError(f"no prompt was answered by each of {', '.join(chosen)}; name other models with --model")
    return Lineups(lineups, chosen, short)
