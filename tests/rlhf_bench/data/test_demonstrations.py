"""Demonstrations: how rows are read, what is left out, and that the splits share no prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_bench.data.demonstrations import Demonstrations
from rlhf_bench.errors import DataError
from rlhf_bench.files import write_jsonl


def test_alpaca_rows_and_prompts_with_responses(tmp_path: Path) -> None:
    rows = [{"instruction": f"Add {i}", "input": "1, 2" if i else "", "output": f"{i}\n"} for i in range(30)]
    write_jsonl(tmp_path / "alpaca.jsonl", [*rows, {"instruction": "Add", "input": "", "output": " "}])
    shown = Demonstrations(str(tmp_path / "alpaca.jsonl"))
    train, validation = shown.split("train"), shown.split("validation")
    assert len(train) + len(validation) == 30
    assert not {one.prompt for one in train} & {one.prompt for one in validation}
    assert shown.empty == 1
    read = {one.prompt: one.response for one in (*train, *validation)}
    assert read["\n\nHuman: Add 0\n\nAssistant:"] == " 0"
    assert read["\n\nHuman: Add 7\n\n1, 2\n\nAssistant:"] == " 7"

    dolly = [{"instruction": f"Add {i}", "context": "no prompt", "response": f"{i}"} for i in range(30)]
    write_jsonl(tmp_path / "dolly.jsonl", dolly)  # a context alone is no prompt
    assert "Add" in Demonstrations(str(tmp_path / "dolly.jsonl")).split("train")[0].prompt

    write_jsonl(tmp_path / "plain.jsonl", [{"prompt": f"Hi {i}", "response": "Hello."} for i in range(30)])
    assert Demonstrations(str(tmp_path / "plain.jsonl")).split("train")[0].response == " Hello."


def test_what_is_no_demonstration(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match=r"has the columns prompt, chosen, rejected; expected demonstrations"):
        Demonstrations(str(tmp_path / "pairs.jsonl")).split("train")
    write_jsonl(tmp_path / "bad.jsonl", [{"prompt": f"Hi {i}", "response": 3 if i == 4 else "x"} for i in range(30)])
    with pytest.raises(DataError, match=r"row 5 .*data\.skip_bad=true"):
        Demonstrations(str(tmp_path / "bad.jsonl")).split("train")
    assert Demonstrations(str(tmp_path / "bad.jsonl"), skip_bad=True).split("train")


def test_of_labelled_responses_the_desirable_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "kto.jsonl"
    rows = [{"prompt": f"{i}?", "completion": f"Yes {i}.", "label": i % 2 == 0} for i in range(40)]
    write_jsonl(path, [*rows, {"prompt": "q?", "completion": "No.", "label": None}])
    shown = Demonstrations(str(path))
    found = shown.split("train") + shown.split("validation")
    assert {one.response for one in found} == {f" Yes {i}." for i in range(0, 40, 2)}
    assert (shown.undesirable, shown.empty) == (20, 1)
