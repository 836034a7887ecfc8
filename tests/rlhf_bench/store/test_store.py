"""The results folder: what is written is what is read, and a broken folder says so in one line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_bench import files
from rlhf_bench.errors import DataError, StoreError
from rlhf_bench.files import atomic_write_bytes, atomic_write_text, read_jsonl, sha256_file, write_jsonl
from rlhf_bench.store import PartStore, ResultStore, order_models
from rlhf_bench.types import Estimate

MANIFEST = {"suite": "s", "run": "r", "data": {}, "models": {}, "reference": "sft", "seeds": [0]}
ODD = "one\u2028two\u0085three\x0bfour \U0001f600 \u00e9"  # str.splitlines would cut this into four


def test_jsonl_keeps_unicode_line_separators(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": ODD}, {"text": "b\nc"}])
    assert read_jsonl(path) == [{"text": ODD}, {"text": "b\nc"}]
    assert path.read_bytes().count(b"\n") == 2
    assert "\u2028".encode() in path.read_bytes()  # as it is, not escaped: a person can read the file


def test_jsonl_names_the_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n')
    with pytest.raises(DataError, match=r"rows\.jsonl: line 3 is not JSON"):
        read_jsonl(path)
    path.write_bytes(b"[1]\n")
    with pytest.raises(DataError, match="line 1 is a list; expected one JSON object a line"):
        read_jsonl(path)


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    atomic_write_text(path, "old\r\nlines\n")
    assert path.read_bytes() == b"old\r\nlines\n"

    def no_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_disk)
    with pytest.raises(OSError, match="No space left"):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old\r\nlines\n"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]  # nothing half-written stays


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_atomic_write_gives_the_usual_file_mode(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    atomic_write_text(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_metrics_write_nan_as_null_and_read_it_back(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    estimate = Estimate(1.5, math.nan, math.inf, np.int64(1))  # type: ignore[arg-type]
    pair = {"difference": estimate.to_dict(), "p_paired": math.nan, "p_wilcoxon": None, "p_holm": 1.0}
    store.write_metrics({"models": {"sft": {"reward": estimate}}, "pairwise": [pair]})

    def no_bare_nan(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    raw = json.loads((tmp_path / "metrics.json").read_text("utf-8"), parse_constant=no_bare_nan)
    assert raw["models"]["sft"]["reward"]["low"] is None

    back = store.read_metrics()
    cell = Estimate.from_dict(back["models"]["sft"]["reward"])
    assert (cell.value, cell.high, cell.n) == (1.5, math.inf, 1)
    assert math.isnan(cell.low)
    assert math.isnan(back["pairwise"][0]["p_paired"])
    assert back["pairwise"][0]["p_wilcoxon"] is None  # the test was not made: no number at all


def test_scores_keep_nan_and_lists(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    scores = pd.DataFrame(
        {
            "model": ["sft", "chosen"],
            "seed": [0, 0],
            "prompt_id": ["p", "p"],
            "sample": [0, 0],
            "category": [None, "facts"],
            "kl_exact": [0.3, math.nan],
            "token_kl": [[0.1, 0.2], None],
        }
    )
    store.write_scores(scores)
    back = store.read_scores()
    assert list(back.columns) == list(scores.columns)
    assert back["kl_exact"].isna().tolist() == [False, True]
    assert list(back["token_kl"][0]) == [0.1, 0.2]
    assert back["token_kl"][1] is None


def test_wide_scores_are_written_group_by_group(tmp_path: Path) -> None:
    """As in one piece, though the first group has no category and no token's KL to tell their types by."""
    keys = {"seed": 0, "prompt_id": ["p", "q", "p", "q"], "sample": 0}
    scores = pd.DataFrame(
        {
            "model": ["file", "file", "sft", "sft"],
            **keys,
            "category": [None, None, "facts", None],
            "kl_exact": [math.nan, math.nan, 0.3, 0.5],
        }
    )
    terms: list[list[float] | None] = [None, None, [0.1, 0.2], [0.5]]
    whole = scores.assign(token_kl=terms)[[*scores.columns[:5], "token_kl", "kl_exact"]]
    one, other = ResultStore(tmp_path / "one"), ResultStore(tmp_path / "other")
    one.write_scores(whole)
    other.write_scores(scores, columns=list(whole.columns), groups=(whole.iloc[i : i + 2] for i in (0, 2)))
    pd.testing.assert_frame_equal(other.read_scores(), one.read_scores())
    assert [None if x is None else list(x) for x in other.read_scores()["token_kl"]] == terms
    with pytest.raises(StoreError, match=r"scores hold \(file, 0, p, 0\) twice"):
        other.write_scores(scores.iloc[[0, 0]], columns=list(whole.columns), groups=[])


def test_scores_with_a_row_twice_are_refused(tmp_path: Path) -> None:
    row = {"model": "sft", "seed": 0, "prompt_id": "p", "sample": 1}
    with pytest.raises(StoreError, match=r"scores hold \(sft, 0, p, 1\) twice"):
        ResultStore(tmp_path).write_scores(pd.DataFrame([row, row]))
    with pytest.raises(StoreError, match="scores have no column seed, prompt_id, sample; expected"):
        ResultStore(tmp_path).write_scores(pd.DataFrame({"model": ["sft"]}))


def test_responses_survive_a_partial_line(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.write_responses([{"response": ODD}])
    with open(tmp_path / "responses.jsonl", "ab") as file:
        file.write(b'{"response": "cut')
    assert store.read_responses() == [{"response": ODD}]


def _emptied(rows: list[bytes]) -> bytes:
    return b""


def _cut_in_a_line(rows: list[bytes]) -> bytes:
    return b"".join(rows)[:-5]


def _without_a_line(rows: list[bytes]) -> bytes:
    return b"".join(rows[1:])


@pytest.mark.parametrize(
    ("damage", "held"), [(_emptied, 0), (_cut_in_a_line, 2), (_without_a_line, 2)], ids=["emptied", "cut", "a line"]
)
def test_responses_that_are_fewer_than_the_scores(
    tmp_path: Path, damage: Callable[[list[bytes]], bytes], held: int
) -> None:
    store = ResultStore(tmp_path)
    keys = [{"model": "sft", "seed": 0, "prompt_id": p, "sample": 0} for p in "abc"]
    store.write_responses(key | {"response": ODD} for key in keys)
    store.write_scores(pd.DataFrame(keys))
    assert len(store.read_responses()) == 3
    file = tmp_path / "responses.jsonl"
    whole = file.read_bytes()
    file.write_bytes(damage(whole.splitlines(keepends=True)))
    printed = (
        f"{file} holds {held} of 3 rows; restore the file, or run `rlhf-bench eval` again with the same options and "
    )
    for read in (store.check_responses, store.read_responses):
        with pytest.raises(StoreError) as caught:
            read()
        assert str(caught.value) == f"{printed}--force"
    file.write_bytes(b"\n" + whole)  # a blank line is no row
    store.check_responses()


def test_responses_that_are_others_than_the_scores(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    keys = [{"model": "sft", "seed": 0, "prompt_id": p, "sample": 0} for p in "ab"]
    store.write_scores(pd.DataFrame(keys))
    store.write_responses([*keys, keys[0]])
    with pytest.raises(StoreError, match=r"responses\.jsonl holds 3 rows, and scores.parquet beside it 2"):
        store.read_responses()
    store.write_responses([keys[0], keys[0]])
    with pytest.raises(StoreError, match=r"responses\.jsonl lacks the row \(sft, 0, b, 0\) of scores\.parquet"):
        store.read_responses()


def test_logs_are_copied_under_model_and_seed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "log.jsonl", [{"step": 1, "loss": 2.0}])
    store = ResultStore(tmp_path / "result")
    store.copy_log("dpo-beta-0.1", 3, tmp_path / "log.jsonl")
    assert store.read_logs() == {("dpo-beta-0.1", 3): [{"step": 1, "loss": 2.0}]}
    with pytest.raises(StoreError, match=r"cannot read the training log .*gone\.jsonl"):
        store.copy_log("dpo", 0, tmp_path / "gone.jsonl")


def test_a_broken_folder_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with pytest.raises(StoreError, match=r"manifest\.json does not exist; expected a results folder made by"):
        store.read_manifest()
    (tmp_path / "manifest.json").write_text('{"suite": ')
    with pytest.raises(
        StoreError,
        match=r"manifest\.json is not valid JSON .*run `rlhf-bench eval` again with the same options",
    ):
        store.read_manifest()
    (tmp_path / "manifest.json").write_text('{"suite": "s", "data": {}}')
    with pytest.raises(StoreError, match=r"manifest\.json lacks run, models, reference, seeds; restore the file"):
        store.read_manifest()
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(StoreError, match=r"metrics\.json has no 'models' table"):
        store.read_metrics()
    (tmp_path / "scores.parquet").write_bytes(b"not parquet")
    with pytest.raises(StoreError, match=r"cannot read .*scores\.parquet"):
        store.read_scores()
    (tmp_path / "responses.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(StoreError, match=r"responses\.jsonl: line 1 is not JSON") as caught:
        store.read_responses()
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        StoreError, match=r"cannot write .*manifest\.json .*choose a folder that can be written"
    ) as caught:
        ResultStore(tmp_path / "file" / "run").write_manifest(MANIFEST)
    assert "\n" not in str(caught.value)


def test_model_order() -> None:
    given = ["rejected", "zeta", "dpo", "chosen", "alpha", "base", "grpo", "zeta"]
    assert order_models(given) == ["base", "grpo", "dpo", "zeta", "alpha", "chosen", "rejected"]


def test_parts_keep_rows_and_reasons_of_each_shard(tmp_path: Path) -> None:
    """A shard is finished when its rows are there: reasons alone, as a killed process may leave them, are none."""
    parts = PartStore(tmp_path)
    part = ["shards/a/0", "shards/a/2"]
    row = {"model": "a", "seed": 0, "prompt_id": "p", "sample": 0, "response": "x", "ended": 1.0}
    parts.write(part[0], pd.DataFrame([row]), {"kl_exact": "first"})
    assert parts.stored(part) == {"shards/a/0"}
    parts.write(part[1], pd.DataFrame([row | {"response": "y", "sample": 1}]), {"kl_exact": "second", "gold": "none"})
    assert parts.stored(part) == set(part)
    assert parts.missing(part) == {"kl_exact": "first", "gold": "none"}
    assert list(parts.numbers(part).columns) == ["model", "seed", "prompt_id", "sample", "ended"]  # no texts
    assert list(parts.first_responses(part)) == ["x"]
    parts.remove()
    assert parts.stored(part) == set()
