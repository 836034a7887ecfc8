"""Which column of a source holds which field, and which of the known layouts of preference data the columns make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rlhf_bench.data.hh import Message, form_prompt, render
from rlhf_bench.data.messages import as_messages, content_text
from rlhf_bench.data.tabular import RawTable, Unusable, is_nothing
from rlhf_bench.errors import DataError, UnknownName

Row = Mapping[str, Any]
Read = TypeVar("Read")
Names = Mapping[str, str]  # field -> the source's column
Kind = Literal["prompted", "conversations", "outputs", "compared", "turns", "ranked", "labelled"]

# Field -> the names that it has in published data, in any case; the first that a source has is taken.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "query", "conversations", "conversation", "messages", "history", "context"),
    "chosen": ("chosen", "chosen_response", "response_chosen", "preferred", "preferred_response", "preferred_output"),
    "rejected": (
        "rejected",
        "rejected_response",
        "response_rejected",
        "dispreferred",
        "rejected_responses",
        "non_preferred_output",
    ),
    "system": ("system", "system_prompt", "system_message"),
    "instruction": ("instruction",),
    "input": ("input",),
    "output": ("output",),
    "output_1": ("output_1",),
    "output_2": ("output_2",),
    "preference": (
        "preference",
        "better_response_id",
        "winner",
        "preferred",
        "better",
        "choice",
        "label",
        "labels",
        "preference_strength",
    ),
    "winner_1": ("winner_model_a",),
    "winner_2": ("winner_model_b",),
    "winner_tie": ("winner_tie",),
    "responses": ("responses",),
    "ranking": ("ranking",),
    "annotator": ("annotator",),
    "completion": ("completion", "response", "output", "answer"),
    "label": ("label", "labels", "desirable", "is_desirable"),
    "margin": ("margin",),
    "score_chosen": ("score_chosen", "chosen_score", "chosen_rating"),
    "score_rejected": ("score_rejected", "rejected_score", "rejected_rating"),
    "category": ("category", "subset", "section"),
}
FIELDS = tuple(_ALIASES)
# Two texts of which a third column names the better one.
_TWO = tuple(
    (f"{name}_{a}", f"{name}_{b}")
    for name in ("output", "response", "answer", "completion", "conversation", "human_ref", "text")
    for a, b in (("a", "b"), ("0", "1"), ("1", "2"))
)
EXPECTED = (
    "prompt/chosen/rejected, or chosen/rejected (whole conversations), or instruction[/input] with chosen/rejected, "
    "with output (two texts, the better first) or with output_1/output_2/preference, or prompt or instruction with "
    "responses/ranking (a list of texts and their ranks, 1 the best), or prompt/completion/label (true or false)"
)
EXPECTED_DEMONSTRATIONS = "demonstrations: instruction[/input] or prompt, and output, response, completion or answer"


class Dropped(Exception):
    """This row makes no pair; `str()` is the rule that it is counted under."""


@dataclass(frozen=True)
class Layout:
    """The columns of a source by field, and how a row with these fields is read."""

    kind: Kind
    names: Names
    note: str


@dataclass(frozen=True)
class Cells:
    """One row, read through a layout's names."""

    row: Row
    names: Names

    def value(self, field: str) -> Any:
        """None for null, NaN, and where the row or the source lacks the column."""
        value = self.row.get(self.names[field]) if field in self.names else None
        return None if is_nothing(value) else value

    def wrong(self, field: str, expected: str) -> Unusable:
        value = self.value(field)
        given = "nothing" if value is None else f"a {type(value).__name__}"
        given = repr(value) if isinstance(value, bool | int | float) else given
        return Unusable(f"has {given} as {self.names[field]!r}, expected {expected}")

    def text(self, field: str) -> str:
        """An empty text where there is nothing."""
        value = self.value(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(field, "a text")
        return value

    def conversation(self, field: str) -> str | list[Message]:
        """A text, or messages."""
        value = self.value(field)
        if isinstance(value, list) and not value:
            return ""
        if isinstance(value, Mapping) and "role" not in value and "from" not in value:
            value = value.get("messages") or content_text(value) or value
        messages = as_messages(value)
        if messages is not None:
            return messages
        if value is not None and not isinstance(value, str):
            raise self.wrong(field, "a text, or a list of messages with role and content")
        return value or ""

    def category(self) -> str | None:
        return self.text("category") or None


def read_rows(
    part: RawTable, names: Names, read: Callable[[Cells], Read]
) -> tuple[list[tuple[int, Read]], dict[str, list[int]]]:
    """Each row as (number, what `read` makes of it), and the numbers of those that it drops, by rule.

    Rows that cannot be used go to `part.bad`.
    """
    found: list[tuple[int, Read]] = []
    dropped: dict[str, list[int]] = defaultdict(list)
    for number, row in part.rows:
        try:
            found.append((number, read(Cells(row, names))))
        except Dropped as rule:
            dropped[str(rule)].append(number)
        except Unusable as why:
            part.add_bad(number, str(why))
    return found, dropped


def detect(present: Sequence[str], columns: Names | None, source: str, *, demonstrations: bool = False) -> Layout:
    """The layout of a source with the columns `present`: of preference data, or of `demonstrations`.

    `columns` maps names of FIELDS to the source's columns, where they are not recognised.

    Raises UnknownName for a name that is not in FIELDS, DataError if a mapped column is absent or no layout fits.
    """
    names = _fields(present, columns or {}, source)
    named = names.get("prompt", "").lower() == "prompt" or "prompt" in (columns or {})
    for needed, also, kind, what in _SHOWN if demonstrations else _LAYOUTS:
        if "prompt" in needed and "instruction" in names and not named:  # an instruction goes before its context
            needed, what = ("instruction", *needed[1:]), what.replace("prompt", "instruction")
        if not all(field in names for field in needed):
            continue
        wanted = {*needed, *also, *({"input"} if "instruction" in needed else ())}
        used = [field for field in FIELDS if field in names and field in wanted]
        shown = ", ".join(f if names[f] == f else f"{f} (from {names[f]})" for f in used)
        ignored = [column for column in present if column not in {names[f] for f in used}]
        note = f"columns {shown}: {what}" + (f"; not used: {', '.join(ignored)}" if ignored else "")
        return Layout(kind, {f: names[f] for f in used}, note)
    expected = EXPECTED_DEMONSTRATIONS if demonstrations else EXPECTED
    raise DataError(f"{source} has the columns {', '.join(present) or 'none'}; expected {expected}")


def _fields(present: Sequence[str], given: Names, source: str) -> dict[str, str]:
    for field, column in given.items():
        if field not in FIELDS:
            raise UnknownName("column", field, FIELDS)
        if column not in present:
            raise DataError(f"{source} has no column {column!r} (given for {field!r}); it has: {', '.join(present)}")
    # A column that was given another meaning does not also keep its own.
    free = {c.strip().lower(): c for c in reversed(present) if c not in given.values()}
    names = {f: free[next(a for a in aliases if a in free)] for f, aliases in _ALIASES.items() if {*aliases} & {*free}}
    if "instruction" not in names and "input" in names:
        names.setdefault("prompt", names["input"])
    two = next((pair for pair in _TWO if pair[0] in free and pair[1] in free), None)
    if two is not None:
        names |= {"output_1": free[two[0]], "output_2": free[two[1]]}
    return names | dict(given)


_EXTRA = ("system", "margin", "score_chosen", "score_rejected", "category")
_Known = tuple[tuple[tuple[str, ...], tuple[str, ...], Kind, str], ...]
# Needed fields, fields used where they are there, kind, in words. The first that fits is taken; an instruction with its
# input is a prompt where no column is called so.
_LABELLED: _Known = (
    (("prompt", "completion", "label"), ("system", "category"), "labelled", "prompt, response, good (true) or bad"),
)
_SHOWN: _Known = (*_LABELLED, (("prompt", "completion"), ("system",), "labelled", "prompt and response"))
_LAYOUTS: _Known = (
    (("prompt", "chosen", "rejected"), _EXTRA, "prompted", "prompt and two responses"),
    (
        ("prompt", "output_1", "output_2", "winner_1", "winner_2"), (*_EXTRA, "winner_tie"), "turns",
        "lists of turns of the user and of two models, a column for each that may win (LMSYS)",
    ),
    (("prompt", "output_1", "output_2", "preference"), _EXTRA, "compared", "prompt, two responses, the better one"),
    (
        ("prompt", "responses", "ranking"), ("system", "annotator"), "ranked",
        "prompt, responses and their ranks, 1 the best",
    ),
    (("chosen", "rejected"), _EXTRA, "conversations", "whole conversations, cut after the last 'Assistant:'"),
    (("output_1", "output_2", "preference"), _EXTRA, "compared", "two whole conversations, the better one"),
    *_LABELLED,
    (("instruction", "output"), _EXTRA, "outputs", "instruction and a list of two outputs, the better first"),
)  # fmt: skip


def read_prompt(cells: Cells) -> str:
    """The prompt of a row in the HH form, the system's text before it; "" where it has none."""
    if "prompt" in cells.names:
        given = cells.conversation("prompt")
        prompt = form_prompt(given) if isinstance(given, str) else render(given)
    else:
        prompt = form_prompt(_instruction(cells))
    system = cells.text("system").strip() if prompt else ""
    return form_prompt(f"{system}{prompt}") if system else prompt


def _instruction(cells: Cells) -> str:
    """Instruction and, after an empty line, its input where there is one."""
    instruction, context = cells.text("instruction").strip(), cells.text("input").strip()
    return f"{instruction}\n\n{context}" if instruction and context else instruction


def read_margin(cells: Cells) -> float | None:
    """The column `margin`, or the difference of the two sides' scores; None where there is neither."""
    margin = _number(cells, "margin")
    scores = [_number(cells, "score_chosen"), _number(cells, "score_rejected")]
    if margin is None and scores[0] is not None and scores[1] is not None:
        return scores[0] - scores[1]
    return margin


def _number(cells: Cells, field: str) -> float | None:
    value = cells.value(field)
    if value is None or value == "":
        return None
    # bool is an int to Python, a mistake to us; a CSV has only texts.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise cells.wrong(field, "a number or nothing")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise cells.wrong(field, "a number or nothing") from None
    return None if is_nothing(number) else number
