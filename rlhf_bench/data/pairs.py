"""Reads the rows of a source as preference pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rlhf_bench.data.columns import Cells, Dropped, Layout, read_margin, read_prompt, read_rows
from rlhf_bench.data.hh import HUMAN, Message, clean_response, form_prompt, render, split_conversation, split_turns
from rlhf_bench.data.messages import parse_cell
from rlhf_bench.data.tabular import NAMED, RawTable, Unusable
from rlhf_bench.types import PreferencePair

_TIE = re.compile(r"tie|both|neither|draw|equal|none|1\.5|0\.5")


class Pairs(NamedTuple):
    """What a part of a source gave. `counts["read"]` is the number of pairs and of all that made none, by rule."""

    pairs: list[PreferencePair]
    counts: dict[str, int]
    notes: list[str]


class _Texts(NamedTuple):
    """A prompt and two responses, not cleaned. `cut`: the responses without the prompt, where both begin with it."""

    prompt: str
    chosen: str
    rejected: str
    cut: tuple[str, str] | None = None
    repeats: bool = False  # the prompt was repeated, and is cut off already
    at: tuple[int, int] | None = None  # places in the lists of chosen and rejected responses, where a row has lists


def read_pairs(part: RawTable, layout: Layout) -> Pairs:
    """The pairs of a part's rows in their order. Rows that cannot be used go to `part.bad`."""
    reader = _READERS[layout.kind]
    found, dropped = read_rows(part, layout.names, lambda cells: [(cells, texts) for texts in reader(cells)])
    rows = [(number, cells, texts) for number, row in found for cells, texts in row]
    # A short response may begin like its prompt by chance; where most rows do, the file repeats the prompt.
    repeated = 2 * sum(texts.cut is not None for _, _, texts in rows) > len(rows)
    pairs: list[PreferencePair] = []
    n_cut = 0
    for number, cells, texts in rows:
        if repeated and texts.cut is not None:
            texts = texts._replace(chosen=texts.cut[0], rejected=texts.cut[1], repeats=True)
        try:
            pairs.append(_pair(cells, texts))
            n_cut += texts.repeats
        except Dropped as rule:
            dropped[str(rule)].append(number)
        except Unusable as why:
            part.add_bad(number, str(why))
    counts = {"read": len(pairs) + sum(map(len, dropped.values()))} | {rule: len(at) for rule, at in dropped.items()}
    notes = dropped_notes(part, dropped)
    if n_cut:
        notes.append(f"{part.name}: the prompt was repeated in both responses of {n_cut:,} rows, and is cut off there")
    return Pairs(pairs, counts, notes)


def dropped_notes(part: RawTable, dropped: Mapping[str, Sequence[int]]) -> list[str]:
    return [f"{part.name}: {rule} in {row_numbers(numbers)}: left out" for rule, numbers in dropped.items()]


def row_numbers(numbers: Sequence[int]) -> str:
    """ "rows 4, 7 and 1,203 more"."""
    more = f" and {len(numbers) - NAMED:,} more" if len(numbers) > NAMED else ""
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:NAMED]))}{more}"


def _pair(cells: Cells, texts: _Texts) -> PreferencePair:
    prompt = form_prompt(texts.prompt)
    chosen, rejected = clean_response(texts.chosen), clean_response(texts.rejected)
    check_texts(prompt, chosen, rejected)
    meta = {} if texts.at is None else {"chosen_at": texts.at[0], "rejected_at": texts.at[1]}
    return PreferencePair(prompt, chosen, rejected, margin=read_margin(cells), category=cells.category(), meta=meta)


def check_texts(prompt: str, *responses: str) -> None:
    """Raises Dropped for an empty text, or one that no file can hold."""
    if not prompt:
        raise Dropped("empty prompt")
    if not all(responses):
        raise Dropped("empty response")
    if not is_unicode(prompt + "".join(responses)):
        raise Dropped("half a surrogate pair")


def is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can spell (\\ud800) but no tokenizer or file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _prompted(cells: Cells) -> Iterator[_Texts]:
    """A prompt and two responses, each of which may be a whole conversation; either side may be a list of texts, of
    which every chosen one makes a pair with every rejected one."""
    prompt = read_prompt(cells)
    sides = [_side(cells, side) for side in ("chosen", "rejected")]
    are_lists = any(len(side) > 1 for side in sides)
    for i, chosen in enumerate(sides[0]):
        for j, rejected in enumerate(sides[1]):
            texts = _put_together(cells, prompt, chosen, rejected)
            yield texts._replace(at=(i, j)) if are_lists else texts


def _side(cells: Cells, side: str) -> list[tuple[str | None, str]]:
    value = cells.value(side)
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return [(None, text) for text in value]
    return [split_side(cells.conversation(side))]


def split_side(side: str | list[Message]) -> tuple[str | None, str]:
    """(prompt in the HH form, response) of a whole conversation; (None, response) of a response alone."""
    if isinstance(side, str):
        whole = split_conversation(side) if side.lstrip().startswith(HUMAN.strip()) else None
        return (form_prompt(whole[0]), whole[1]) if whole else (None, side)
    if side[-1].role != "assistant":
        raise Dropped("last turn not the assistant's")
    return (render(side[:-1]) if len(side) > 1 else None), side[-1].content


def _put_together(
    cells: Cells, prompt: str, chosen: tuple[str | None, str], rejected: tuple[str | None, str]
) -> _Texts:
    heads = {head for head, _ in (chosen, rejected) if head is not None}
    if len(heads) > 1:
        raise Dropped("different prompts")
    texts = chosen[1], rejected[1]
    if heads:
        head = heads.pop()
        # The prompt may have the system's text besides; else the conversation has the whole of what came before.
        repeats = "chosen" in cells.names and isinstance(cells.conversation("chosen"), str)
        return _Texts(prompt if prompt.endswith(head) else head, *texts, repeats=repeats)
    turn = split_turns(prompt)[-1].content if prompt else ""
    for start in (prompt.strip(), turn):
        if start and all(text.strip().startswith(start) and text.strip() != start for text in texts):
            rests = [text.strip()[len(start) :] for text in texts]
            if all(not rest[0].isalnum() for rest in rests):
                return _Texts(prompt, *texts, cut=(rests[0], rests[1]))
    return _Texts(prompt, *texts)


def _conversations(cells: Cells) -> Iterator[_Texts]:
    (prompt, chosen), (other, rejected) = (_whole(cells.conversation(side)) for side in ("chosen", "rejected"))
    if prompt != other:
        raise Dropped("different prompts")
    yield _Texts(_after_system(cells, prompt), chosen, rejected)


def _whole(conversation: str | list[Message]) -> tuple[str, str]:
    """(prompt, response) of a whole conversation."""
    if isinstance(conversation, str):
        if not conversation.strip():
            raise Dropped("empty response")
        parts = split_conversation(conversation)
        if parts is None:
            raise Dropped("no assistant turn")
        return parts
    if conversation[-1].role != "assistant":
        raise Dropped("last turn not the assistant's")
    return render(conversation[:-1]), conversation[-1].content


def _after_system(cells: Cells, prompt: str) -> str:
    system = cells.text("system").strip()
    return f"{system}{form_prompt(prompt)}" if system else prompt


def _outputs(cells: Cells) -> Iterator[_Texts]:
    value = parse_cell(cells.value("output"))
    if not isinstance(value, list) or [type(v) for v in value] != [str, str]:
        raise cells.wrong("output", "a list of two texts, the better first")
    yield _Texts(read_prompt(cells), value[0], value[1])


def _compared(cells: Cells) -> Iterator[_Texts]:
    first_is_better = _first_is_better(cells)
    first, second = (cells.conversation(field) for field in ("output_1", "output_2"))
    if "prompt" in cells.names or "instruction" in cells.names:
        texts = _put_together(cells, read_prompt(cells), split_side(first), split_side(second))
    else:
        (prompt, one), (other, two) = _whole(first), _whole(second)
        if prompt != other:
            raise Dropped("different prompts")
        texts = _Texts(_after_system(cells, prompt), one, two)
    if not first_is_better:
        cut = None if texts.cut is None else (texts.cut[1], texts.cut[0])
        texts = texts._replace(chosen=texts.rejected, rejected=texts.chosen, cut=cut)
    yield texts


def _turned(cells: Cells) -> Iterator[_Texts]:
    """Two conversations on the same turns of the user: the last responses, where what came before them is the same."""
    first_is_better = _winner_by_columns(cells)
    prompts, first, second = (_turns(cells, field) for field in ("prompt", "output_1", "output_2"))
    if not len(prompts) == len(first) == len(second):
        raise Unusable(f"has {len(prompts)} turns of the user, {len(first)} and {len(second)} of the models")
    if first[:-1] != second[:-1]:
        raise Dropped("different prompts")
    messages = [
        Message(role, text)
        for turn in zip(prompts, first, strict=True)
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    prompt = _after_system(cells, render(messages[:-1]))
    better, worse = (first, second) if first_is_better else (second, first)
    yield _Texts(prompt, better[-1], worse[-1])


def _turns(cells: Cells, field: str) -> list[str]:
    value = parse_cell(cells.value(field))
    turns = [value] if isinstance(value, str) else value
    if not isinstance(turns, list) or not turns:
        raise cells.wrong(field, "a text, or a list of texts, one a turn")
    if not all(isinstance(turn, str) for turn in turns):
        raise Unusable(f"has a turn that is not text in {cells.names[field]!r}")
    return turns


def _winner_by_columns(cells: Cells) -> bool:
    """Read a column for each outcome: 1 where the first wins, the second, or neither (a tie, which is dropped)."""
    given = [str(cells.value(field)).strip().lower() for field in ("winner_1", "winner_2", "winner_tie")]
    won = [value in ("1", "1.0", "true") for value in given]
    known = all(value in ("0", "0.0", "false", "1", "1.0", "true", "none", "") for value in given)
    if not known or sum(won) != 1:
        shown = ", ".join(f"{cells.names[f]} {cells.value(f)!r}" for f in ("winner_1", "winner_2") if f in cells.names)
        raise Unusable(f"has {shown}; expected 1 in one of the columns of winners and 0 in the others")
    if won[2]:
        raise Dropped("tie")
    return won[0]


def _first_is_better(cells: Cells) -> bool:
    """Raises Dropped for a tie. The better one is named by its column, its column's last part, or as a model."""
    value = cells.value("preference")
    given = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip().lower()
    if value is None or not given:
        raise Dropped("no preference")
    if cells.names["preference"].lower() == "preference_strength" and given.lstrip("-").isdigit():
        if int(given) == 0:
            raise Dropped("tie")
        return int(given) < 0  # HelpSteer: from -3, the first is far better, to 3
    if _TIE.match(given):
        raise Dropped("tie")
    columns = [cells.names[field].lower() for field in ("output_1", "output_2")]
    ends = [column.rsplit("_", 1)[-1] for column in columns]
    for index, (column, end) in enumerate(zip(columns, ends, strict=True)):
        named = (column, end, f"model_{end}", f"response_{end}", f"assistant_{end}")
        if given in named and not isinstance(value, bool):
            return index == 0
    if columns[0] == "human_ref_a" and given in ("0", "1"):  # Stanford Human Preferences: 1 is the first
        return given == "1"
    raise Unusable(f"has {value!r} as {cells.names['preference']!r}, expected {ends[0]} or {ends[1]}, or a tie")


_READERS: dict[str, Callable[[Cells], Iterator[_Texts]]] = {
    "prompted": _prompted,
    "conversations": _conversations,
    "outputs": _outputs,
    "compared": _compared,
    "turns": _turned,
}
