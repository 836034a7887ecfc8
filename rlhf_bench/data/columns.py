"""From the rows of a file or data set to preference pairs: which columns mean what, and what each row says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_bench.data.hh import ASSISTANT, Message, clean_response, form_prompt, render, split_conversation
from rlhf_bench.errors import DataError, UnknownName
from rlhf_bench.types import PreferencePair, make_pair

__all__ = ["FIELDS", "Cells", "Layout", "Row", "detect", "is_unicode", "read_pairs", "read_prompt"]

Row = Mapping[str, Any]

FIELDS = (
    "prompt", "chosen", "rejected", "instruction", "input", "output", "output_1", "output_2", "preference",
    "responses", "ranking", "annotator", "margin", "category",
)  # fmt: skip
EXPECTED = (
    "prompt/chosen/rejected, or chosen/rejected (whole conversations), or instruction[/input] with chosen/rejected, "
    "with output (two texts, the better first) or with output_1/output_2/preference, or prompt or instruction with "
    "responses/ranking (a list of texts and their ranks, 1 the best)"
)


class Dropped(Exception):
    """This row makes no pair; `str()` is the rule that it is counted under."""


@dataclass(frozen=True)
class Layout:
    """Which column holds which field, and how the three texts are read from a row.

    `read(cells)` returns (prompt, chosen, rejected), not yet cleaned, or raises Dropped. None: ranked responses, of
    which a row makes many pairs (ranked.py).
    """

    names: Mapping[str, str]  # field -> the source's column
    read: Callable[[Cells], tuple[str, str, str]] | None
    note: str


@dataclass(frozen=True)
class Cells:
    """One row, looked at through a layout's names; every error says where the row stands."""

    row: Row
    names: Mapping[str, str]
    where: str  # "row 3 of data.jsonl"

    def value(self, field: str) -> Any:
        column = self.names[field]
        if column not in self.row:
            raise DataError(f"{self.where} has no column {column!r}, which the first row has; add it or remove the row")
        return self.row[column]

    def wrong(self, field: str, value: Any, expected: str) -> DataError:
        given = type(value).__name__ if value is not None else "null"
        return DataError(f"column {self.names[field]!r} in {self.where} is {given}; expected {expected}")

    def text(self, field: str) -> str:
        value = self.value(field)
        if not isinstance(value, str):
            raise self.wrong(field, value, "text")
        return value

    def text_or_messages(self, field: str) -> str | list[Message]:
        value = self.value(field)
        if isinstance(value, str):
            return value
        if not isinstance(value, Sequence) or not value:
            raise self.wrong(field, value, "text or a list of {role, content} messages")
        return [self._message(field, item) for item in value]

    def _message(self, field: str, item: Any) -> Message:
        role, content = (item.get("role"), item.get("content")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(content, str) or role not in ("system", "user", "assistant"):
            raise self.wrong(field, item, "messages with a role (system, user or assistant) and a text as content")
        return Message(role, content)

    def margin(self) -> float | None:
        """None where there is no such column, and for null, NaN and a CSV's empty field."""
        value = self.value("margin") if "margin" in self.names else None
        if value is None or value == "":
            return None
        # bool is an int to Python, a mistake to us; a CSV has only texts.
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.wrong("margin", value, "a number or nothing")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise self.wrong("margin", value, "a number or nothing") from None
        return None if math.isnan(number) else number

    def category(self) -> str | None:
        value = self.value("category") if "category" in self.names else None
        if value is not None and not isinstance(value, str):
            raise self.wrong("category", value, "text or nothing")
        return value or None


def detect(present: Sequence[str], columns: Mapping[str, str] | None, source: str) -> Layout:
    """The layout of a source with the columns `present`.

    `columns` maps our names (FIELDS) to the source's, where they differ. Raises UnknownName for a name that is not in
    FIELDS, DataError if a mapped column is absent or no known layout fits.
    """
    columns = columns or {}
    for field, column in columns.items():
        if field not in FIELDS:
            raise UnknownName("column", field, FIELDS)
        if column not in present:
            raise DataError(f"{source} has no column {column!r} (given for {field!r}); it has: {', '.join(present)}")
    taken = set(columns.values())
    # A column that was given another meaning does not also keep its own.
    names = {field: field for field in FIELDS if field in present and field not in taken} | dict(columns)
    for needed, read, what in _LAYOUTS:
        if all(field in names for field in needed):
            wanted = {*needed, *(("margin", "category") if read else ("annotator",))}
            wanted |= {"input"} if "instruction" in needed else set()
            used = [field for field in FIELDS if field in names and field in wanted]
            shown = ", ".join(f if names[f] == f else f"{f} (from {names[f]})" for f in used)
            ignored = [column for column in present if column not in {names[f] for f in used}]
            note = f"columns {shown}: {what}" + (f"; not used: {', '.join(ignored)}" if ignored else "")
            return Layout({f: names[f] for f in used}, read, note)
    raise DataError(f"{source} has the columns {', '.join(present) or 'none'}; expected {EXPECTED}")


def read_pairs(rows: Iterable[Row], layout: Layout, source: str) -> tuple[list[PreferencePair], dict[str, int]]:
    """The pairs of `rows` in their order; counts of rows read and of rows dropped by each rule."""
    if layout.read is None:
        raise ValueError("ranked responses are read by ranked.read_ranked")
    pairs: list[PreferencePair] = []
    counts = {"read": 0}
    for number, row in enumerate(rows, start=1):
        counts["read"] = number
        cells = Cells(row, layout.names, f"row {number} of {source}")
        try:
            prompt, chosen, rejected = layout.read(cells)
            prompt, chosen, rejected = form_prompt(prompt), clean_response(chosen), clean_response(rejected)
            if not prompt:
                raise Dropped("empty prompt")
            if not chosen or not rejected:
                raise Dropped("empty response")
            if not is_unicode(prompt + chosen + rejected):
                raise Dropped("half a surrogate pair")
        except Dropped as rule:
            counts[str(rule)] = counts.get(str(rule), 0) + 1
            continue
        pairs.append(make_pair(prompt, chosen, rejected, margin=cells.margin(), category=cells.category()))
    return pairs, counts


def is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can spell (\\ud800) but no tokenizer or file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(conversation: str | list[Message]) -> tuple[str, str]:
    """(prompt, response) of a whole conversation."""
    if isinstance(conversation, str):
        parts = split_conversation(conversation)
        if parts is None:
            raise Dropped("no assistant turn")
        return parts
    if conversation[-1].role != "assistant":
        raise Dropped("last turn not the assistant's")
    return render(conversation[:-1]), conversation[-1].content


def _conversations(cells: Cells) -> tuple[str, str, str]:
    prompt, chosen = _whole(cells.text_or_messages("chosen"))
    other, rejected = _whole(cells.text_or_messages("rejected"))
    if prompt != other:
        raise Dropped("different prompts")
    return prompt, chosen, rejected


def _prompted(cells: Cells) -> tuple[str, str, str]:
    prompt = cells.text_or_messages("prompt")
    sides = [cells.text_or_messages("chosen"), cells.text_or_messages("rejected")]
    if all(isinstance(side, str) for side in sides):
        return _as_prompt(prompt), str(sides[0]), str(sides[1])
    if isinstance(prompt, str) and any(isinstance(side, list) and len(side) > 1 for side in sides):
        return _conversations(cells)  # the messages repeat the prompt, with its roles
    return _as_prompt(prompt), _reply(sides[0]), _reply(sides[1])


def _as_prompt(prompt: str | list[Message]) -> str:
    return prompt if isinstance(prompt, str) else render(prompt)


def _reply(side: str | list[Message]) -> str:
    if isinstance(side, str):
        return side
    if len(side) != 1 or side[0].role != "assistant":
        raise Dropped("not one assistant turn")
    return side[0].content


def read_prompt(cells: Cells) -> str:
    """The prompt of a row that has one beside its responses, not yet cleaned."""
    return _as_prompt(cells.text_or_messages("prompt")) if "prompt" in cells.names else _instruction(cells)


def _instruction(cells: Cells) -> str:
    """Instruction and, after an empty line, its input where there is one."""
    context = cells.text("input").strip() if "input" in cells.names and cells.value("input") is not None else ""
    instruction = cells.text("instruction").strip()
    if not instruction:
        return ""
    return f"{instruction}\n\n{context}" if context else instruction


def _instructed(cells: Cells) -> tuple[str, str, str]:
    return _instruction(cells), cells.text("chosen"), cells.text("rejected")


def _two_outputs(cells: Cells) -> tuple[str, str, str]:
    value = cells.value("output")
    if isinstance(value, str) and value.startswith("["):  # a CSV can hold a list only as JSON
        try:
            value = json.loads(value)
        except ValueError:
            raise cells.wrong("output", value, "a list of two texts, the better first") from None
    if not isinstance(value, Sequence) or isinstance(value, str) or [type(v) for v in value] != [str, str]:
        raise cells.wrong("output", value, "a list of two texts, the better first")
    return _instruction(cells), value[0], value[1]


def _compared(cells: Cells) -> tuple[str, str, str]:
    first, second, better = cells.text("output_1"), cells.text("output_2"), cells.value("preference")
    if isinstance(better, bool) or better not in (1, 2, "1", "2"):
        raise DataError(f"column {cells.names['preference']!r} in {cells.where} is {better!r}; expected 1 or 2")
    return (_instruction(cells), first, second) if better in (1, "1") else (_instruction(cells), second, first)


# The first that fits is taken, so the more specific stand first.
_RANKED = "responses and their ranks, 1 the best"
_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Cells], tuple[str, str, str]] | None, str], ...] = (
    (("prompt", "chosen", "rejected"), _prompted, "prompt and two responses"),
    (("instruction", "chosen", "rejected"), _instructed, "instruction and two responses"),
    (
        ("instruction", "output_1", "output_2", "preference"),
        _compared,
        "instruction, two outputs, the better one's number",
    ),
    (("instruction", "output"), _two_outputs, "instruction and a list of two outputs, the better first"),
    (("prompt", "responses", "ranking"), None, f"prompt, {_RANKED}"),
    (("instruction", "responses", "ranking"), None, f"instruction, {_RANKED}"),
    (("chosen", "rejected"), _conversations, f"whole conversations, cut after the last {ASSISTANT.strip()!r}"),
)
