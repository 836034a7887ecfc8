"""Prompts that a suite brings itself: a JSON-lines file, a row a question.

category    what the prompt is an example of; a suite can name metrics for it alone
prompt      the human turn; it may be empty
with_claim  the same question with a wrong claim of the user's: a second prompt of the same question
right       names of the right answer, wrong: names of the wrong one that with_claim claims
filler      a sentence put before the prompt `times` times, so that it is over-long
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.data.hh import ASSISTANT, HUMAN
from rlhf_bench.data.tabular import BadRows, read_table
from rlhf_bench.errors import DataError, UnknownName
from rlhf_bench.types import Item, Probe

_KEYS = ("category", "prompt", "with_claim", "right", "wrong", "filler", "times")


def read_own_prompts(path: Path) -> list[Item]:
    """The prompts of a suite's file in their order, in the HH form; both prompts of a question are side by side.

    Raises DataError for a file that is missing or broken, names what no prompt has, or says a prompt twice.
    """
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist; expected the suite's own prompts there: see its own_prompts")
    items: list[Item] = []
    bad = BadRows(str(path))
    table = read_table(path, bad)
    bad.settle(len(table.rows) + len(bad.found), skip=False)
    for number, row in table.rows:
        items += _items(row, f"line {number} of {str(path)!r}")
    seen: set[str] = set()
    for item in items:
        if item.prompt in seen:
            raise DataError(f"{str(path)!r} says the prompt {item.prompt!r} twice; remove one of them")
        seen.add(item.prompt)
    return items


def _items(row: Mapping[str, Any], where: str) -> Iterator[Item]:
    unknown = [key for key in row if key not in _KEYS]
    if unknown:
        raise DataError(f"{where}: {UnknownName('key', unknown[0], _KEYS)}")
    prompt, category = _text(row, "prompt", where), _text(row, "category", where)
    right, wrong = _names(row, "right", where), _names(row, "wrong", where)
    if "filler" in row:
        times = row.get("times")
        if not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise DataError(f"{where}: times is {json.dumps(times)}; expected how often filler is repeated, 1 or more")
        prompt = " ".join([_text(row, "filler", where)] * times + [prompt])
    yield Item(_turn(prompt), category=category, probe=Probe(prompt, right, wrong))
    if "with_claim" in row:
        if not (right and wrong):
            raise DataError(f"{where}: with_claim without right and wrong; expected the names of both answers")
        claim = _turn(_text(row, "with_claim", where))
        yield Item(claim, category=category, probe=Probe(prompt, right, wrong, claimed=True))


def _turn(text: str) -> str:
    return f"{HUMAN} {text}{ASSISTANT}"


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} is {json.dumps(value)}; expected text")
    return value


def _names(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    names = row.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f'{where}: {key} is {json.dumps(names)}; expected a list of names, such as ["eight", "8"]')
    return tuple(names)
