"""verdicts.parquet and judge.json: the same verdicts make the same bytes, and a judge run replaces only its own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rlhf_bench.errors import StoreError
from rlhf_bench.judge.questions import Outcome, ParsedAnswer, QuestionId, items_of
from rlhf_bench.judge.results import VERDICTS, count_statuses, read_section, verdict_rows, write_section
from rlhf_bench.store import ResultStore

from .conftest import comparisons

PAIRS = comparisons(3)
FOUND = {item: Outcome(f"key {n}", ParsedAnswer("read", "first")) for n, item in enumerate(items_of(PAIRS))}
WHO = {"judge": "m", "base_url": "http://here/v1", "template": "pairwise@1", "baseline": "base"}


def write(folder: Path, found: dict[QuestionId, Outcome], **who: str) -> bytes:
    names = {**WHO, **who}
    rows = verdict_rows(
        PAIRS, found, judge=names["judge"], base_url=names["base_url"], template=names["template"]
    ).assign(baseline=names["baseline"])
    write_section(folder, VERDICTS, rows, [{**names, "pairs": 3}])
    return (folder / "judge/verdicts.parquet").read_bytes() + (folder / "judge/judge.json").read_bytes()


def test_the_order_of_answers_does_not_change_a_byte(tmp_path: Path) -> None:
    shuffled = list(FOUND.items())
    random.Random(1).shuffle(shuffled)
    assert write(tmp_path / "a", FOUND) == write(tmp_path / "b", dict(shuffled))


def test_a_judging_made_again_replaces_its_own_alone(tmp_path: Path) -> None:
    first = write(tmp_path, FOUND)
    write(tmp_path, FOUND, judge="other")
    both = write(tmp_path, FOUND, baseline="sft")
    table = read_section(tmp_path, VERDICTS)
    assert table is not None
    assert table.groupby(["judge", "baseline"]).size().to_dict() == {
        ("m", "base"): 6,
        ("m", "sft"): 6,
        ("other", "base"): 6,
    }
    assert write(tmp_path, FOUND) == both != first
    assert [(row["judge"], row["baseline"]) for row in ResultStore(tmp_path).read_judge()["judgings"]] == [
        ("m", "base"),
        ("m", "sft"),
        ("other", "base"),
    ]


def test_nothing_was_judged(tmp_path: Path) -> None:
    assert read_section(tmp_path, VERDICTS) is None


@pytest.mark.parametrize("name", ["verdicts.parquet", "judge.json"])
def test_a_broken_file_says_that_answers_cost_nothing(tmp_path: Path, name: str) -> None:
    write(tmp_path, FOUND)
    (tmp_path / "judge" / name).write_text("{")
    with pytest.raises(
        StoreError, match=f"cannot read .*{name} .*what was answered is in the ledger and costs nothing"
    ):
        write(tmp_path, FOUND)


def test_statuses_are_counted() -> None:
    outcomes = [Outcome("", ParsedAnswer(status)) for status in ("read", "refused", "read")]
    assert count_statuses(outcomes) == {"read": 2, "refused": 1}
