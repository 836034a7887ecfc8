"""What the checks share: the texts, the ways to pad them, and how a measurement becomes a result."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from rlhf_bench.data import mini
from rlhf_bench.errors import BenchError
from rlhf_bench.modeling import tokens as text
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.merge import merge
from rlhf_bench.modeling.tokens import Batch, Encoded
from rlhf_bench.progress import Progress

TOLERANCE = 1e-4  # nats, or units of reward: what float32 may differ by from one batch to another
Result = tuple[bool, str]


class Check(NamedTuple):
    name: str
    ok: bool
    detail: str  # the number measured and its bound


def run_all(checks: dict[str, Callable[[], Result]], progress: Progress | None) -> Iterator[Check]:
    with (progress or Progress(quiet=True)).task("selftest", total=len(checks)) as task:
        for name, check in checks.items():
            ok, detail = _result(check)
            task.advance()
            yield Check(name, ok, detail)


def _result(check: Callable[[], Result]) -> Result:
    """A model that cannot do what a check needs has failed this check, and not the others."""
    try:
        return check()
    except BenchError as error:
        return False, str(error)
    except Exception as error:
        first = (str(error).strip().split("\n") or [""])[0]
        return False, f"could not be carried out: {type(error).__name__}: {first[:200]}"


def texts() -> tuple[list[str], list[str]]:
    """Prompts and responses, chosen and rejected in turn: the shortest of some of hh-mini, one in another script, one
    that ends inside a word, which a tokenizer of the joined text would cut elsewhere. Few and short: each check makes
    several passes over all of them, and the model may be large."""
    prompts, responses = [], []
    shortest = sorted(mini.generate("validation", n=40), key=lambda p: len(p.prompt + p.chosen + p.rejected))
    for pair in shortest[:2]:
        prompts += [pair.prompt] * 2
        responses += [pair.chosen, pair.rejected]
    prompts += ["\n\nHuman: Grüße, 東京?\n\nAssistant:"] * 2 + ["\n\nHuman: How are you?\n\nAssistant: I am hap"] * 2
    return prompts, [*responses, " Ja – 東京.", " Nein.", "py to help you.", "pening upon it."]


def measured(value: float, bound: float, what: str) -> Result:
    """NaN is never within a bound."""
    return value <= bound, f"{what} {value:.2g}, bound {bound:.0e}"


def paddings(rows: Sequence[Encoded], pad_id: int) -> dict[str, Batch]:
    return {
        "right-padded": text.collate(rows, pad_id=pad_id, side="right"),
        "left-padded": text.collate(rows, pad_id=pad_id, side="left"),
        "left-padded further": text.collate(rows, pad_id=pad_id, side="left", multiple_of=64),
    }


@contextmanager
def plain_folder(path: str | Path) -> Iterator[str]:
    """What transformers reads without peft: the checkpoint itself, or an adapter merged while the block lasts."""
    if adapter_base(path) is None:
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        merge(Path(path), Path(folder) / "merged")
        yield str(Path(folder) / "merged")


class Worst:
    """The largest difference seen, and where."""

    def __init__(self) -> None:
        self.value, self.where = 0.0, ""

    def see(self, found: Tensor, expected: Tensor, where: str) -> None:
        difference = float((found.cpu() - expected.cpu()).abs().max())
        if not difference <= self.value:  # NaN is the worst of all, and stays
            self.value, self.where = (difference, where) if not math.isnan(self.value) else (self.value, self.where)

    def within(self, bound: float, what: str) -> Result:
        ok, detail = measured(self.value, bound, what)
        return ok, detail if ok else f"{detail} ({self.where})"


def one_by_one(rows: Sequence[Encoded], pad_id: int) -> list[Batch]:
    """A batch of its own for each row, without any padding."""
    return [text.collate([row], pad_id=pad_id, multiple_of=1) for row in rows]


def of_response(values: Tensor, batch: Batch, row: int) -> Tensor:
    """The response's entries of a row, (R,), wherever the padding is."""
    return values[row][batch.response_mask[row]]
