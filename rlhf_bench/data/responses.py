"""Response files: texts that were written elsewhere, brought to one shape.

What a file holds is told from its columns, and said:

    our own            model, seed, prompt_id, sample, prompt, response: a result's responses.jsonl, several models
    spreadsheet        prompt and <name>_response columns, one model each
    AlpacaEval         instruction, output, generator: model_outputs.json
    prompt, response   under the names that pipelines use (ROLES), with or without a reference

Prompts are brought to the HH form, as everywhere; several rows of a prompt are its samples, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from rlhf_bench.data.hh import Message, clean_response, form_prompt, render
from rlhf_bench.data.tabular import BadRows, read_table
from rlhf_bench.errors import DataError, UnknownName
from rlhf_bench.types import FinishReason

__all__ = ["GIVEN", "ROLES", "Answer", "Answers", "ResponseFile", "read_responses"]

# The first name that a file has is taken, so the clearer stand first: where `generated` and `output` are both there,
# `output` is what the response is compared with.
ROLES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "query", "input"),
    "response": (
        "response", "model_response", "generated", "generated_text", "generated_response", "generation", "completion",
        "prediction", "model_output", "answer", "output",
    ),
    "reference": (
        "reference", "reference_response", "reference_text", "ground_truth", "target", "expected", "gold", "chosen",
        "answer", "output",
    ),
    "model": ("generator", "model"),
}  # fmt: skip
GIVEN = ("prompt", "response", "reference", "model")  # what --columns can name
_OURS = frozenset({"model", "seed", "prompt_id", "sample", "prompt", "response"})
_SUFFIX = "_response"
_DATA = ("chosen", "rejected")  # in a result's own file these are the data's, not a model's
_FINISH: tuple[str, ...] = get_args(FinishReason)


class Answer(NamedTuple):
    """One response. `finish_reason` is None and `n_tokens` NaN where a file says nothing of them."""

    text: str
    finish_reason: FinishReason | None = None
    n_tokens: float = math.nan


@dataclass
class Answers:
    """One model's responses under one seed of training (None: the file knows of none)."""

    model: str | None  # as the file calls it; None where it names none
    seed: int | None
    by_prompt: dict[str, list[Answer]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return sum(len(samples) for samples in self.by_prompt.values())


@dataclass(frozen=True)
class ResponseFile:
    path: Path
    models: list[Answers]
    references: dict[str, str]  # prompt -> reference text
    rows: dict[str, int]  # prompt -> the row that it first stands in
    notes: list[str]
    left_out: int = 0  # rows that could not be used


@dataclass(frozen=True)
class _Layout:
    what: str
    columns: Mapping[str, str]  # role -> column
    responses: Mapping[str | None, str]  # model (None: not named by a column) -> column
    ours: bool = False

    def note(self, present: Sequence[str]) -> str:
        said = [f"{role} from {column!r}" for role, column in self.columns.items() if role != "response"]
        said += [f"response{f' of {model}' if model else ''} from {c!r}" for model, c in self.responses.items()]
        used = {*self.columns.values(), *self.responses.values()}
        ignored = [] if self.ours else [column for column in present if column not in used]
        return f"{self.what}: {', '.join(said)}" + (f"; not used: {', '.join(ignored)}" if ignored else "")


class _Unusable(Exception):
    """This row cannot be used; `str()` says why."""


def read_responses(
    path: Path, *, columns: Mapping[str, str] | None = None, skip_bad: bool = False
) -> ResponseFile:  # fmt: skip
    """Every model's responses in a file, and the reference texts beside them.

    `columns` maps GIVEN names to the file's, where they are not recognised. With `skip_bad` rows that cannot be used
    are left out and counted.

    Raises UnknownName for a name that `columns` cannot have, DataError for a file that cannot be read, has no such
    columns, or holds rows that cannot be used.
    """
    bad = BadRows(str(path))
    table = read_table(path, bad)
    total = len(table.rows) + len(bad.found)
    if not table.rows:
        bad.settle(total, skip=skip_bad)
    layout = _layout(table.columns, columns or {}, str(path))
    found: dict[tuple[str | None, int | None], Answers] = {}
    references: dict[str, str] = {}
    first: dict[str, int] = {}
    seen: set[tuple[Any, ...]] = set()
    for number, row in table.rows:
        try:
            prompt, seed, answers = _read_row(row, layout, seen)
            reference = _reference(row, layout)
        except _Unusable as why:
            bad.add(number, str(why))
            continue
        first.setdefault(prompt, number)
        if reference is not None:
            references.setdefault(prompt, reference)
        for model, answer in answers:
            mine = found.setdefault((model, seed), Answers(model, seed))
            mine.by_prompt.setdefault(prompt, []).append(answer)
    left_out = bad.settle(total, skip=skip_bad)
    if not found:
        raise DataError(f"{path} holds only the data's own responses; expected a model's")
    notes = [f"{path}: {table.form}, {total:,} rows, {layout.note(table.columns)}", *([left_out] if left_out else [])]
    notes += _samples_notes(path, found.values())
    return ResponseFile(path, list(found.values()), references, first, notes, len(bad.found))


def _samples_notes(path: Path, models: Any) -> list[str]:
    """Prompts that stand in several rows, and empty responses: counted as what they are, and said."""
    notes = []
    for mine in models:
        several = sum(len(samples) > 1 for samples in mine.by_prompt.values())
        empty = sum(not answer.text.strip() for samples in mine.by_prompt.values() for answer in samples)
        name = f"{path}{f' ({mine.model})' if mine.model else ''}"
        if several:
            notes.append(f"{name}: {several:,} of {len(mine.by_prompt):,} prompts have several rows, read as samples")
        if empty:
            notes.append(f"{name}: {empty:,} of {mine.n:,} responses are empty")
    return notes


def _layout(present: Sequence[str], given: Mapping[str, str], source: str) -> _Layout:
    for role, named in given.items():
        if role not in GIVEN:
            raise UnknownName("column", role, GIVEN)
        if named not in present:
            raise DataError(f"{source} has no column {named!r} (given for {role}); it has: {', '.join(present)}")
    if present and set(present) >= _OURS and not given:
        columns = {"prompt": "prompt", "model": "model"} | (
            {"reference": "reference"} if "reference" in present else {}
        )
        return _Layout("responses of rlhf-bench", columns, {None: "response"}, ours=True)
    by_lower = {column.lower(): column for column in reversed(present)}
    taken = set(given.values())
    columns = dict(given)
    for role, names in ROLES.items():
        known = (by_lower[name] for name in names if name in by_lower)
        column = next((column for column in known if column not in taken), None)
        if role not in columns and column is not None:
            columns[role] = column
            taken.add(column)
    wide = _wide(present, columns, taken) if "response" not in given else {}
    if "prompt" not in columns or not (wide or "response" in columns):
        lacking = " and ".join(role for role in ("prompt", "response") if role not in columns)
        raise DataError(
            f"{source} has the columns {', '.join(present) or 'none'}, none known as its {lacking}; expected such as "
            "prompt, response and reference, or <name>_response; say which they are with --columns "
            "prompt=NAME,response=NAME"
        )
    if columns["prompt"].lower() == "instruction" and "prompt" not in given and "input" in by_lower:
        columns["context"] = by_lower["input"]
    if wide:
        columns = {role: column for role, column in columns.items() if role not in ("response", "model")}
        return _Layout("a column a model", columns, wide)
    alpaca = {"instruction", "output", "generator"} <= by_lower.keys() and not given
    return _Layout(
        "AlpacaEval's model outputs" if alpaca else "prompt and response", columns, {None: columns["response"]}
    )


def _wide(present: Sequence[str], columns: Mapping[str, str], taken: set[str]) -> dict[str | None, str]:
    """model -> its `<model>_response` column; empty if the file has one response column under a known name."""
    known = {name for names in ROLES.values() for name in names}
    if "response" in columns and not columns["response"].lower().endswith(_SUFFIX):
        return {}
    free = [c for c in present if c.lower().endswith(_SUFFIX) and c.lower() not in known and c not in taken]
    also = [columns["response"]] if free and "response" in columns else []
    return {column[: -len(_SUFFIX)]: column for column in [*also, *free]}


def _read_row(
    row: Mapping[str, Any], layout: _Layout, seen: set[tuple[Any, ...]]
) -> tuple[str, int | None, list[tuple[str | None, Answer]]]:
    """(prompt in the HH form, seed, model and answer of each response in the row)."""
    prompt = _prompt(row, layout)
    if layout.ours:
        return _our_row(prompt, row, seen)
    label = _label(row, layout)
    answers: list[tuple[str | None, Answer]] = []
    for model, column in layout.responses.items():
        text = clean_response(_text(row, column, response=True))
        answers.append((model or label, Answer(text)))
    return prompt, None, answers


def _our_row(
    prompt: str, row: Mapping[str, Any], seen: set[tuple[Any, ...]]
) -> tuple[str, int | None, list[tuple[str | None, Answer]]]:
    """A row of a result's responses.jsonl. Its text stays as it was drawn: rewards depend on every space."""
    model, seed, sample = row.get("model"), row.get("seed"), row.get("sample")
    if not isinstance(model, str) or type(seed) is not int or type(sample) is not int:
        raise _Unusable("has no model, seed and sample of the expected kinds")
    if (key := (model, seed, prompt, sample)) in seen:
        raise _Unusable(f"repeats {model}, seed {seed}, sample {sample} of an earlier row's prompt")
    seen.add(key)
    if model in _DATA:
        return prompt, seed, []
    reason, tokens = row.get("finish_reason"), row.get("n_tokens")
    n_tokens = float(tokens) if isinstance(tokens, int | float) and not isinstance(tokens, bool) else math.nan
    text = _text(row, "response", response=True)
    return prompt, seed, [(model, Answer(text, reason if reason in _FINISH else None, n_tokens))]


def _prompt(row: Mapping[str, Any], layout: _Layout) -> str:
    value = row.get(layout.columns["prompt"])
    text = _render(value, layout.columns["prompt"]) if isinstance(value, list) else _text(row, layout.columns["prompt"])
    if "context" in layout.columns and isinstance(row.get(layout.columns["context"]), str):
        text = f"{text.strip()}\n\n{row[layout.columns['context']].strip()}" if text.strip() else ""
    prompt = form_prompt(text)
    if not prompt:
        raise _Unusable(f"has an empty {layout.columns['prompt']!r}")
    return prompt


def _render(value: list[Any], column: str) -> str:
    messages = [
        Message(item["role"], item["content"])
        for item in value
        if isinstance(item, Mapping)
        and item.get("role") in ("system", "user", "assistant")
        and isinstance(item.get("content"), str)
    ]
    if not messages or len(messages) < len(value):
        raise _Unusable(f"has a list as {column!r} that is no list of {{role, content}} messages")
    return render(messages)


def _label(row: Mapping[str, Any], layout: _Layout) -> str | None:
    value = row.get(layout.columns["model"]) if "model" in layout.columns else None
    return value if isinstance(value, str) and value else None


def _reference(row: Mapping[str, Any], layout: _Layout) -> str | None:
    """None where the file has no such column, or nothing in it; an empty text is nothing."""
    column = layout.columns.get("reference")
    if column is None or _is_nothing(row.get(column)):
        return None
    return clean_response(_text(row, column)) or None


def _text(row: Mapping[str, Any], column: str, *, response: bool = False) -> str:
    if column not in row:
        raise _Unusable(f"has no {column!r}")
    value = row[column]
    if response and isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0].get("content")  # one assistant message
    if _is_nothing(value):
        raise _Unusable(f"has {'NaN' if isinstance(value, float) else 'null'} as {column!r}")
    if not isinstance(value, str):
        raise _Unusable(f"has a {type(value).__name__} as {column!r}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Unusable(f"has half a surrogate pair in {column!r}") from None
    return value


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
