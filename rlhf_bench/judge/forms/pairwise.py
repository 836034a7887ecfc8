"""Two responses compared, in both orders: template, reading of the answers, and numbers.

    name: pairwise            parser: pairwise-json
    version: 1                max_tokens: 300
    system: ... {fence} ...   user: ... {prompt} ... {first} ... {second} ...

`{prompt}`, `{first}` and `{second}` are the places of the fenced texts, `{fence}` of the code in their marks. They are
filled in one pass, so a response that holds "{second}" keeps it.

A verdict is read only where the whole answer, or its last line where the template wants that, is a verdict and
nothing else; what fits nothing is unreadable, never guessed. An answer that quotes a response is therefore never read
as what the response says, and "INCORRECT" is no "CORRECT". The marks of `pairwise-line` cannot be quoted:
`base.neutralised` breaks them up."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import Field

from rlhf_bench.errors import BadValue
from rlhf_bench.judge.forms.answers import Unreadable, answer_schema, bare_answer, json_object, read_answer
from rlhf_bench.judge.forms.base import BaseTemplate, FormRequest, JudgeForm
from rlhf_bench.judge.forms.builtin import rule_of
from rlhf_bench.judge.questions import (
    ComparisonSet,
    Order,
    Outcome,
    PairComparison,
    ParsedAnswer,
    Question,
    QuestionId,
    items_of,
    pairs_of,
)
from rlhf_bench.judge.results import verdict_rows, write_verdicts
from rlhf_bench.store import ResultStore

_LABELS = {"a": "A", "b": "B", "tie": "tie"}
_WINNERS: Mapping[str, Any] = {"A": "first", "B": "second", "tie": "tie"}
# The whole of a short answer: A, "A", (A), **A**, [[A]], "Response A", "Winner: A", with a full stop or without.
_SHORT = re.compile(
    r"(?:(?:the )?(?:winner|verdict|answer|response)(?: is)?:? )?"
    r"(?:\*\*(A|B|tie)\*\*|\[\[(A|B|tie)\]\]|\((A|B|tie)\)|\"(A|B|tie)\"|(A|B|tie))\.?",
    re.IGNORECASE,
)
_LINE = re.compile(r"(?:\*\*)?\[\[(A|B|tie)\]\](?:\*\*)?\.?", re.IGNORECASE)
_MARK = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_WINNER_VALUE = re.compile(r'"winner"\s*:\s*"(A|B|tie)"', re.IGNORECASE)


class PairTemplate(BaseTemplate):
    """The fields of a template of pairs."""

    places = ("prompt", "first", "second")

    parser: Literal["pairwise-json", "pairwise-letter", "pairwise-line"] = Field(description="how the answer is read")
    ties: bool = Field(True, description="whether the judge may answer that neither is better")

    @property
    def labels(self) -> tuple[str, ...]:
        """The verdicts that an answer may give."""
        return ("A", "B", "tie") if self.ties else ("A", "B")

    def schema_of_answer(self) -> dict[str, Any] | None:
        if self.parser != "pairwise-json":
            return None
        return answer_schema({"winner": {"type": "string", "enum": list(self.labels)}})

    def render(self, subject: PairComparison, order: Order, /, *, repeat: int = 0) -> Question:
        """The question with the model's response first or the baseline's."""
        both = subject.model_response, subject.baseline_response
        first, second = both if order == "model_first" else both[::-1]
        places = self.fenced(subject.prompt, {"first": ("RESPONSE A", first), "second": ("RESPONSE B", second)})
        return Question(self.messages(places), self.answer_format, repeat)

    def form(self, request: FormRequest) -> PairForm:
        """Every model against the baseline (by default the suite's). Raises BadValue where there is none."""
        baseline = request.baseline or ResultStore(request.folder).read_manifest().get("baseline")
        if baseline is None:
            raise BadValue(f"--baseline: not given, and {self.label} compares with one; name a model of the result")
        pairs = pairs_of(request.responses, baseline, request.chosen)
        baseline = pairs.comparisons[0].baseline  # a model alone is compared with its own other samples
        items = items_of(pairs.comparisons, request.again)
        label = "none" if request.built_in else self.label
        return PairForm(self, request.folder, pairs.comparisons, items, pairs, baseline, label)


@dataclass(frozen=True)
class PairForm(JudgeForm):
    """The comparisons of one result with a baseline."""

    template: PairTemplate
    subjects: Sequence[PairComparison]
    pairs: ComparisonSet
    baseline: str
    label: str  # of the template; "none" for a built-in judge, which reads no words

    version = "2"

    @property
    def names(self) -> Mapping[str, str]:
        return {"template": self.label, "baseline": self.baseline}

    def read(self, raw: Mapping[str, Any], /) -> ParsedAnswer:
        return read_verdict(raw, self.template)

    def about(self) -> str:
        alone, empty = self.pairs.alone, self.pairs.empty
        text = f"pairs: {len(self.pairs.comparisons)}, each in both orders"
        text += f"; {alone} responses have no counterpart" if alone else ""
        return text + (f"; {empty} pairs have an empty response, which is judged as it is" if empty else "")

    def decide(self, judge: str) -> dict[QuestionId, Outcome]:
        rule, scores = rule_of(judge, self.folder)
        found = {}
        for item in self.items:
            c = self.pairs.comparisons[item.subject]
            own, other = (scores.get((name, c.seed, c.prompt_id, c.sample), math.nan) for name in (c.model, c.baseline))
            found[item] = Outcome("", rule.decide(c, item.order, (own, other), repeat=item.repeat), 1)
        return found

    def write(self, found: Mapping[QuestionId, Outcome], facts: Mapping[str, Any]) -> None:
        who = {name: str(facts[name]) for name in ("judge", "base_url", "template")}
        rows = verdict_rows(self.pairs.comparisons, found, **who)
        write_verdicts(self.folder, rows, {**facts, "parser": self.version}, alone=self.pairs.alone)


class _Found(NamedTuple):
    """A verdict and its position in the raw content, for the token that gave it."""

    label: str
    at: int


def read_verdict(raw: Mapping[str, Any], template: PairTemplate) -> ParsedAnswer:
    """The verdict in one raw answer (see `read_answer`).

    Tried in this order: JSON of the template's shape, else the text form of the template. `soft` is the
    probability that the first response wins, from the log-probabilities of the labels at the token that gave the
    verdict; a tie counts half.
    """

    def parse(answer: str, start: int) -> ParsedAnswer:
        found = _find(answer, start, template)
        if found.label not in template.labels:
            raise Unreadable(f"answered {found.label}, which was not offered")
        return ParsedAnswer("read", _WINNERS[found.label], _soft(raw.get("logprobs"), raw["content"], found.at))

    return read_answer(raw, parse, end_decides=template.parser == "pairwise-line")


def _find(answer: str, start: int, template: PairTemplate) -> _Found:
    """`start`: where the answer begins in the content."""
    if template.parser == "pairwise-line":
        return _last_line(answer, start)
    if template.parser == "pairwise-json":
        text, inside = bare_answer(answer)
        if text.startswith("{"):
            return _json_winner(text, start + inside)
    return _short(answer, start)


def _json_winner(text: str, offset: int) -> _Found:
    given = json_object(text, ["winner"])["winner"]
    label = _LABELS.get(given.strip().rstrip(".").lower()) if isinstance(given, str) else None
    if label is None:
        raise Unreadable("winner is none of A, B, tie")
    # The position of the value, for its token; a reason that quotes `"winner": "A"` has its quotes escaped.
    places = [match.start(1) for match in _WINNER_VALUE.finditer(text)]
    return _Found(label, offset + places[0] if len(places) == 1 else -1)


def _last_line(answer: str, start: int) -> _Found:
    line = answer.rsplit("\n", 1)[-1].strip()
    match = _LINE.fullmatch(line)
    if match is None:
        raise Unreadable("the last line is no verdict")
    label = _LABELS[match[1].lower()]
    if {mark.lower() for mark in _MARK.findall(answer)} != {label.lower()}:
        raise Unreadable("several verdicts")
    return _Found(label, start + answer.rindex(match[1]))


def _short(answer: str, start: int) -> _Found:
    match = _SHORT.fullmatch(answer)
    label = match[match.lastindex or 0] if match else ""
    if match is None or (label not in ("A", "B") and label.lower() != "tie"):
        raise Unreadable("not a verdict and nothing else")
    return _Found(label if label in ("A", "B") else "tie", start + match.start(match.lastindex or 0))


def _soft(logprobs: Sequence[Mapping[str, Any]] | None, content: str, at: int) -> float | None:
    """P(A) / (P(A) + P(B)), a tie counted half, at the token that begins at `at`; None where that is not to be had.

    A label outside of the alternatives that the server gave counts as improbable. None unless the tokens spell the
    content and the token there is a label and nothing else but quotes and spaces.
    """
    if not logprobs or at < 0:
        return None
    try:
        tokens = [str(entry["token"]) for entry in logprobs]
        if not "".join(tokens).startswith(content[: at + 1]):
            return None
        position = 0
        for entry, token in zip(logprobs, tokens, strict=True):
            if position <= at < position + len(token):
                return _share_of_first(entry) if _label_of(token) else None
            position += len(token)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return None


def _share_of_first(entry: Mapping[str, Any]) -> float | None:
    """Read one token's alternatives; the tokens "A" and " A" are the same label, and add up."""
    alternatives = {str(alternative["token"]): float(alternative["logprob"]) for alternative in entry["top_logprobs"]}
    alternatives.setdefault(str(entry["token"]), float(entry["logprob"]))
    mass = {"A": 0.0, "B": 0.0, "tie": 0.0}
    for token, logprob in alternatives.items():
        label = _label_of(token)
        if label:
            mass[label] += math.exp(min(logprob, 0.0))
    total = sum(mass.values())
    return (mass["A"] + 0.5 * mass["tie"]) / total if total > 0 else None


def _label_of(token: str) -> str | None:
    bare = token.strip().strip('"').strip()
    return bare if bare in ("A", "B") else "tie" if bare.lower() == "tie" else None
