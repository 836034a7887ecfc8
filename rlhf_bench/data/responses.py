"""Response files: texts that were written elsewhere, brought to one shape.

The format of a file is detected from its columns and logged:

    our own            model, seed, prompt_id, sample, prompt, response: a result's responses.jsonl, several models
    spreadsheet        prompt and <name>_response columns, one model each
    AlpacaEval         instruction, output, generator: model_outputs.json
    other tools        samples of lm-eval and inspect_ai, batch APIs, MT-Bench, conversations (tool_outputs.py)
    prompt, response   under the names that pipelines use (response_columns.ROLES), with or without a reference

Prompts are brought to the HH form, as everywhere; several rows of a prompt are its samples, in their order. A file
without prompts has its rows numbered in their place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from rlhf_bench.data.hh import ASSISTANT, HUMAN, clean_response, form_prompt, render
from rlhf_bench.data.messages import as_messages, content_text, parse_cell
from rlhf_bench.data.pairs import is_unicode
from rlhf_bench.data.response_columns import ResponseLayout, response_layout
from rlhf_bench.data.strip import STRIPPED, carried, strip
from rlhf_bench.data.tabular import Unusable, is_nothing, read_table
from rlhf_bench.data.tool_outputs import finish_reason, plain_rows
from rlhf_bench.errors import DataError
from rlhf_bench.types import ANCHORS, FinishReason

_STAND_IN = re.compile(rf"{HUMAN} \((?:row|id|question) .*\){ASSISTANT}")  # a prompt that a file lacks
_FINISH: tuple[str, ...] = get_args(FinishReason)


class Answer(NamedTuple):
    """One response. `finish_reason` is None and `n_tokens` NaN where a file says nothing of them.

    `references`: the reference texts of this response's own row, none where it has none.
    """

    text: str
    finish_reason: FinishReason | None = None
    n_tokens: float = math.nan
    references: tuple[str, ...] = ()


@dataclass
class Answers:
    """One model's responses under one seed of training (None: the file names none)."""

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
    references: dict[str, str]  # prompt -> the first reference text of its first row
    rows: dict[str, int]  # prompt -> its first row
    notes: list[str]
    left_out: int = 0  # rows that could not be used
    carried: list[str] = field(default_factory=list)  # what responses carry besides their answers, a sentence each


def read_responses(
    path: Path, *, columns: Mapping[str, str] | None = None, skip_bad: bool = False, stripped: Sequence[str] = ()
) -> ResponseFile:  # fmt: skip
    """Every model's responses in a file, and the reference texts beside them.

    columns: names of response_columns.GIVEN -> the file's columns, where they are not recognised
    skip_bad: leave out rows that cannot be used, and count them
    stripped: keys of strip.STRIPPED, taken out of the responses

    Raises UnknownName for a name that `columns` cannot have, DataError for a file that cannot be read, has no such
    columns, or holds rows that cannot be used.
    """
    table = read_table(path)
    tool, rows = None, list(table.rows)
    if not columns and (plain := plain_rows(table)) is not None:
        tool, rows = plain
    layout = response_layout(table.columns, rows, columns or {}, str(path), tool)
    found: dict[tuple[str | None, int | None], Answers] = {}
    references: dict[str, str] = {}
    first: dict[str, int] = {}
    seen: set[tuple[Any, ...]] = set()
    for number, row in rows:
        try:
            prompt = _prompt(number, row, layout)
            own = _references(row, layout)
            seed, answers = _our_row(prompt, row, own, seen) if layout.ours else (None, _answers(row, layout, own))
        except Unusable as why:
            table.add_bad(number, str(why))
            continue
        first.setdefault(prompt, number)
        if own:
            references.setdefault(prompt, own[0])
        for model, answer in answers:
            mine = found.setdefault((model, seed), Answers(model, seed))
            mine.by_prompt.setdefault(prompt, []).append(answer)
    left_out = table.settle(skip=skip_bad)
    if not found:
        raise DataError(f"{path} holds only the data's own responses; expected a model's")
    notes = [
        f"{path}: {table.form}, {table.n_rows:,} rows, {layout.note(table.columns)}",
        *([left_out] if left_out else []),
    ]
    if stand_ins := sum(_STAND_IN.fullmatch(prompt) is not None for prompt in first):
        notes.append(
            f"{path}: {stand_ins:,} of {len(first):,} prompts are not in the file: ids or numbers replace them, and "
            "what reads a prompt (reward, KL, perplexity) means nothing there"
        )
    extra = [] if layout.ours else _carried(path, found.values(), stripped)
    notes += [*_samples_notes(path, found.values()), *extra]
    return ResponseFile(path, list(found.values()), references, first, notes, len(table.bad), extra)


def _carried(path: Path, models: Iterable[Answers], stripped: Sequence[str]) -> list[str]:
    """What responses carry besides their answers, counted; what `stripped` names is taken out of `models`."""
    counts = dict.fromkeys(STRIPPED, 0)
    n = 0
    for mine in models:
        n += mine.n
        for prompt, samples in mine.by_prompt.items():
            for i, answer in enumerate(samples):
                for kind in carried(answer.text, prompt):
                    counts[kind] += 1
                if stripped:
                    samples[i] = answer._replace(text=clean_response(strip(answer.text, prompt, stripped)))
    return [
        f"{path}: {count:,} of {n:,} responses {STRIPPED[kind]}"
        + (", taken out by --strip" if kind in stripped else f"; --strip {kind} takes it out")
        for kind, count in counts.items()
        if count
    ]


def _samples_notes(path: Path, models: Iterable[Answers]) -> list[str]:
    """Prompts of several rows, and empty responses: counted as what they are, and logged."""
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


def _answers(
    row: Mapping[str, Any], layout: ResponseLayout, references: tuple[str, ...]
) -> list[tuple[str | None, Answer]]:
    """(model, response) of each response in the row."""
    label = row.get(layout.columns["model"]) if "model" in layout.columns else None
    named = label if isinstance(label, str) and label else None
    reason = finish_reason(row.get(layout.columns.get("finish_reason", "finish_reason")))
    return [
        (model or named, Answer(clean_response(text), cast(FinishReason | None, reason), math.nan, references))
        for model, column in layout.responses.items()
        for text in _responses(row, column)
    ]


def _our_row(
    prompt: str, row: Mapping[str, Any], references: tuple[str, ...], seen: set[tuple[Any, ...]]
) -> tuple[int, list[tuple[str | None, Answer]]]:
    """A row of a result's responses.jsonl. Its text stays as it was drawn: rewards depend on every space."""
    model, seed, sample = row.get("model"), row.get("seed"), row.get("sample")
    if not isinstance(model, str) or type(seed) is not int or type(sample) is not int:
        raise Unusable("has no model, seed and sample of the expected kinds")
    if (key := (model, seed, prompt, sample)) in seen:
        raise Unusable(f"repeats {model}, seed {seed}, sample {sample} of an earlier row's prompt")
    seen.add(key)
    if model in ANCHORS:  # in a result's own file
        return seed, []
    reason, tokens = row.get("finish_reason"), row.get("n_tokens")
    n_tokens = float(tokens) if isinstance(tokens, int | float) and not isinstance(tokens, bool) else math.nan
    text = _text(row, "response")
    return seed, [(model, Answer(text, reason if reason in _FINISH else None, n_tokens, references))]


def _prompt(number: int, row: Mapping[str, Any], layout: ResponseLayout) -> str:
    """The prompt in the HH form; for a file without prompts an id or the row's number in its place."""
    if "id" in layout.columns:
        name = row.get(layout.columns["id"])
        return form_prompt(f"(row {number})" if is_nothing(name) else f"(id {name})")
    column = layout.columns["prompt"]
    messages = as_messages(row.get(column))
    text = _text(row, column) if messages is None else render(messages)
    if "context" in layout.columns and isinstance(row.get(layout.columns["context"]), str):
        text = f"{text.strip()}\n\n{row[layout.columns['context']].strip()}" if text.strip() else ""
    prompt = form_prompt(text)
    system = row.get(layout.columns["system"]) if "system" in layout.columns and prompt else None
    if isinstance(system, str) and system.strip():
        prompt = form_prompt(f"{system.strip()}{prompt}")
    if not prompt:
        raise Unusable(f"has an empty {column!r}")
    return prompt


def _references(row: Mapping[str, Any], layout: ResponseLayout) -> tuple[str, ...]:
    """A text, or several in a list; none where the file has no such column, or nothing or an empty text in it."""
    column = layout.columns.get("reference")
    value = None if column is None else row.get(column)
    if column is None or is_nothing(value):
        return ()
    value = parse_cell(value)
    if as_messages(value) is not None or not isinstance(value, list):
        value = [value]
    texts = [_text({column: _of_message(one)}, column, numbers=True) for one in value if not is_nothing(one)]
    return tuple(dict.fromkeys(clean for text in texts if (clean := clean_response(text))))


def _responses(row: Mapping[str, Any], column: str) -> list[str]:
    """The response of a row, or its samples: a list of texts."""
    value = row.get(column)
    if isinstance(value, list) and value and as_messages(value) is None:
        return [_text({column: _of_message(one)}, column) for one in value]
    return [_text({**row, column: _of_message(value)} if column in row else row, column)]


def _of_message(value: Any) -> Any:
    """The text of the last of messages, which is the assistant's, or of an object with a content; else as it is."""
    messages = as_messages(value)
    if messages is not None:
        if messages[-1].role != "assistant":
            raise Unusable("has a response that does not end with the assistant's message")
        return messages[-1].content
    if isinstance(value, Mapping):
        text = value.get("generated_text", content_text(value))
        return value if text is None else text
    return value


def _text(row: Mapping[str, Any], column: str, *, numbers: bool = False) -> str:
    if column not in row:
        raise Unusable(f"has no {column!r}")
    value = row[column]
    if is_nothing(value):
        raise Unusable(f"has {'NaN' if isinstance(value, float) else 'null'} as {column!r}")
    if numbers and isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        given = repr(value) if isinstance(value, bool | int | float) else f"a {type(value).__name__}"
        raise Unusable(f"has {given} as {column!r}, not a text")
    if not is_unicode(value):
        raise Unusable(f"has half a surrogate pair in {column!r}")
    return value
