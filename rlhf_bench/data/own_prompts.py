"""Prompts that a suite brings itself: a JSON-lines file, one row per question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from rlhf_bench.config import Config, load_config
from rlhf_bench.data.hh import ASSISTANT, HUMAN
from rlhf_bench.data.tabular import read_table
from rlhf_bench.errors import DataError, UsageError
from rlhf_bench.types import Item, Probe


class OwnPrompt(Config):
    """The columns of a row."""

    category: str
    """what the prompt is an example of; a suite can name metrics for it alone"""
    prompt: str
    """the human turn; it may be empty"""
    with_claim: str | None = None
    """the same question with a wrong claim of the user's: a second prompt of the same question"""
    right: tuple[str, ...] = ()
    """names of the right answer, such as ["eight", "8"]"""
    wrong: tuple[str, ...] = ()
    """names of the wrong answer that with_claim claims"""
    filler: str | None = None
    """a sentence put before the prompt `times` times, so that it is over-long"""
    times: int | None = Field(None, ge=1)
    """how often filler is repeated"""

    @model_validator(mode="after")
    def _is_whole(self) -> OwnPrompt:
        if not all(name.strip() for name in (*self.right, *self.wrong)):
            raise ValueError('an empty name in right or wrong; expected names such as "eight"')
        if self.filler is not None and self.times is None:
            raise ValueError("filler without times; expected how often filler is repeated, 1 or more")
        if self.with_claim is not None and not (self.right and self.wrong):
            raise ValueError("with_claim without right and wrong; expected the names of both answers")
        return self


def read_own_prompts(path: Path) -> list[Item]:
    """The prompts of a suite's file in their order, in the HH form; both prompts of a question are side by side.

    Raises DataError for a file that is missing or broken, names what no prompt has, or says a prompt twice.
    """
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist; expected the suite's own prompts there: see its own_prompts")
    items: list[Item] = []
    table = read_table(path)
    table.settle(skip=False)
    for number, row in table.rows:
        items += _items(row, f"line {number} of {str(path)!r}")
    seen: set[str] = set()
    for item in items:
        if item.prompt in seen:
            raise DataError(f"{str(path)!r} says the prompt {item.prompt!r} twice; remove one of them")
        seen.add(item.prompt)
    return items


def _items(row: Mapping[str, Any], where: str) -> Iterator[Item]:
    try:
        given = load_config(OwnPrompt, row, ())
    except UsageError as error:
        raise DataError(f"{where}: {error}") from None
    before = [] if given.filler is None else [given.filler] * (given.times or 0)
    prompt = " ".join([*before, given.prompt])
    probe = Probe(prompt, given.right, given.wrong)
    yield Item(_turn(prompt), category=given.category, probe=probe)
    if given.with_claim is not None:
        yield Item(_turn(given.with_claim), category=given.category, probe=probe._replace(claimed=True))


def _turn(text: str) -> str:
    return f"{HUMAN} {text}{ASSISTANT}"
