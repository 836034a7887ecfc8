"""`eval --force`: the old result is there until the new one is, whatever happens in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench import evaluate as evaluation
from rlhf_bench.evaluate import run
from rlhf_bench.files import read_jsonl
from rlhf_bench.store import find_results


def texts(folder: Path, **options: Any) -> Path:
    """Two response files to 5 prompts, evaluated."""
    given = []
    for name in ("a", "b"):
        rows = [{"prompt": f"Say {i}.", "response": f"{name} said {i}.", "reference": f"said {i}"} for i in range(5)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given.append((name, str(folder / f"{name}.jsonl")))
    return evaluation.evaluate(responses=given, results=folder / "results", **options).folder


def files(folder: Path) -> dict[str, bytes]:
    """Of a result: what each file holds, the lock and what is being made left out."""
    found = (p for p in folder.rglob("*") if p.is_file() and not p.relative_to(folder).as_posix().startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def interrupted(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def test_an_interruption_leaves_the_old_result_and_the_same_call_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = texts(tmp_path)
    (folder / "judge" / "labels").mkdir(parents=True)
    (folder / "judge" / "mark").touch()
    (folder / "judge" / "labels" / "sheet.json").write_text("{}")
    old, scored = files(folder), run.scored
    with monkeypatch.context() as patch:
        patch.setattr(run, "collect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            texts(tmp_path, force=True)
    assert files(folder) == old
    assert texts(tmp_path) == folder  # everything is stored; and what was interrupted stays
    assert files(folder) == old
    for root in (folder, folder.parent, tmp_path / "results"):
        assert find_results(root) == [folder]

    calls = 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return scored(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run, "scored", counted)
        assert texts(tmp_path, force=True) == folder
        assert calls == 0  # every part was there
        new = files(folder)
        assert new.pop("manifest.json") != old.pop("manifest.json")
        assert old.pop("judge/mark") == b""  # of the old responses
        assert new == old  # the key to a sheet among them: a person may have it
        texts(tmp_path, force=True)
        assert calls == 3  # a, b and the data's own: it is evaluated again each time
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_parts_and_sheets_of_another_evaluation_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = texts(tmp_path, limit=2)
    (folder / "judge" / "labels").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(run, "collect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            texts(tmp_path, limit=3, force=True)
    assert len({row["prompt"] for row in read_jsonl(folder / "responses.jsonl")}) == 2
    assert texts(tmp_path, limit=4, force=True) == folder
    assert not (folder / "judge").exists()
    assert len({row["prompt"] for row in read_jsonl(folder / "responses.jsonl")}) == 4


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_killed_while_the_new_result_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    """Before the first rename, between the two, and before the old result is removed."""
    folder = texts(tmp_path)
    old, rename = files(folder), Path.rename

    def killed(self: Path, to: Path) -> Path:
        nonlocal renamed
        if not renamed:
            raise KeyboardInterrupt
        renamed -= 1
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: interrupted() if not renamed else None)
        with pytest.raises(KeyboardInterrupt):
            texts(tmp_path, force=True)
    monkeypatch.setattr(run, "scored", lambda *_: pytest.fail("evaluated though one of the two results is whole"))
    assert texts(tmp_path) == folder
    assert files(folder).keys() == old.keys()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
