"""Preference data as other projects publish it: every format gives the pairs that its rows hold."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rlhf_bench.data import LabelledResponse, PreferenceData, Reader
from rlhf_bench.errors import DataError

CASES = Path(__file__).parents[3].parent / "shared" / "cases" / "data"
Row = dict[str, Any]
TOWNS: list[Row] = [{"prompt": f"Where is {t}?", "chosen": f"{t}: here.", "rejected": "No idea."} for t in "ABC"]
PAIRS = [(f"\n\nHuman: Where is {t}?\n\nAssistant:", f" {t}: here.", " No idea.") for t in "ABC"]
HELLO = "\n\nHuman: Hello?\n\nAssistant:"


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def assistant(text: Any) -> Row:
    return {"role": "assistant", "content": text}


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def whole(path: Path, **options: Any) -> PreferenceData:
    return Reader(str(path), **options).load("all")


def texts(data: PreferenceData) -> list[tuple[str, str, str]]:
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in data.pairs]


def packed(pack: Callable[[bytes], bytes]) -> Callable[[Path], int]:
    return lambda path: path.write_bytes(pack(jsonl(path, TOWNS).read_bytes()))


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return bytes(sink.getvalue().to_pybytes())


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.md", "about")
        archive.writestr("towns.csv", pd.DataFrame(TOWNS).to_csv(index=False))
        archive.writestr("__MACOSX/towns.csv", b"\0")


FRAME = pd.DataFrame(TOWNS)
FILES: dict[str, Callable[[Path], Any]] = {
    "semicolons": lambda path: FRAME.to_csv(path, index=False, sep=";"),
    "bars": lambda path: FRAME.to_csv(path, index=False, sep="|"),
    "index column": lambda path: FRAME.to_csv(path),
    "separator line": lambda path: path.write_text("sep=;\n" + FRAME.to_csv(index=False, sep=";")),
    "byte-order mark": lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig"),
    "utf-16": lambda path: FRAME.to_csv(path, index=False, encoding="utf-16"),
    "utf-16 without a mark": lambda path: FRAME.to_csv(path, index=False, encoding="utf-16-be"),
    "excel": lambda path: path.write_bytes(_excel(path)),
    "lines named .json": lambda path: jsonl(path, TOWNS),
    "pandas": FRAME.to_json,
    "pandas, split": lambda path: FRAME.to_json(path, orient="split"),
    "pandas, index": lambda path: FRAME.to_json(path, orient="index"),
    "pandas, table": lambda path: FRAME.to_json(path, orient="table"),
    "by columns": lambda path: path.write_text(json.dumps(FRAME.to_dict(orient="list"), indent=1)),
    "under a name": lambda path: path.write_text(json.dumps({"data": TOWNS})),
    "rows of the hub's viewer": lambda path: path.write_text(json.dumps({"rows": [{"row": row} for row in TOWNS]})),
    "gzip": packed(gzip.compress),
    "zstd": packed(zstd),
    "bzip2": packed(bz2.compress),
    "xz": packed(lzma.compress),
    "zip": zipped,
}


def _excel(path: Path) -> bytes:
    FRAME.to_excel(path.with_suffix(".xlsx"), index=False)
    return path.with_suffix(".xlsx").read_bytes()


@pytest.mark.parametrize("form", FILES)
def test_a_file_is_recognised_by_its_content(form: str, tmp_path: Path) -> None:
    path = tmp_path / "towns.data"
    FILES[form](path)
    assert texts(whole(path)) == PAIRS


SYSTEM = f"Be kind.{HELLO}"
PARTS = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo?"}]
ROWS: dict[str, tuple[Row, tuple[str, str, str]]] = {
    "other case": ({"Prompt": "Hello?", "Chosen": "A", "Rejected": "B"}, (HELLO, " A", " B")),
    "question": ({"question": "Hello?", "chosen": "A", "rejected": "B"}, (HELLO, " A", " B")),
    "orca": ({"system": "Be kind.", "question": "Hello?", "chosen": "A", "rejected": "B"}, (SYSTEM, " A", " B")),
    "no system": ({"system": "", "question": "Hello?", "chosen": "A", "rejected": "B"}, (HELLO, " A", " B")),
    "alpaca": (
        {"instruction": "Add", "input": "1, 2", "system": "S.", "chosen": "A", "rejected": "B"},
        ("S.\n\nHuman: Add\n\n1, 2\n\nAssistant:", " A", " B"),
    ),
    "system message": (
        {"prompt": [{"role": "system", "content": "Be kind."}, user("Hello?")], "chosen": "A", "rejected": "B"},
        (SYSTEM, " A", " B"),
    ),
    "system message, sides without it": (
        {
            "prompt": [{"role": "system", "content": "Be kind."}, user("Hello?")],
            "chosen": [user("Hello?"), assistant("A")], "rejected": [user("Hello?"), assistant("B")],
        },
        (SYSTEM, " A", " B"),
    ),
    "prompt repeated as messages": (
        {
            "prompt": [user("Hello?")], "chosen": [user("Hello?"), assistant("A")],
            "rejected": [user("Hello?"), assistant("B")],
        },
        (HELLO, " A", " B"),
    ),
    "content parts": (
        {"prompt": [user(PARTS)], "chosen": [assistant(PARTS)], "rejected": [assistant("B")]}, (HELLO, " Hello?", " B"),
    ),
    "one message": ({"prompt": "Hello?", "chosen": assistant("A"), "rejected": {"content": "B"}}, (HELLO, " A", " B")),
    "messages as JSON": (
        {"prompt": "Hello?", "chosen": json.dumps([assistant("A")]), "rejected": json.dumps([assistant("B")])},
        (HELLO, " A", " B"),
    ),
    "messages as Python prints them": (
        {"prompt": "Hello?", "chosen": str([assistant("It's A")]), "rejected": str([assistant("B")])},
        (HELLO, " It's A", " B"),
    ),
    "messages as NumPy prints them": (
        {
            "prompt": "Hello?", "chosen": str(np.array([user("Hello?"), assistant("A")])),
            "rejected": str(np.array([user("Hello?"), assistant("B")])),
        },
        (HELLO, " A", " B"),
    ),
    "ShareGPT": (
        {
            "conversations": [{"from": "human", "value": "Hello?"}], "chosen": {"from": "gpt", "value": "A"},
            "rejected": {"from": "gpt", "value": "B"},
        },
        (HELLO, " A", " B"),
    ),
    "OpenAI's preferences": (
        {
            "input": {"messages": [user("Hello?")]}, "preferred_output": [assistant("A")],
            "non_preferred_output": [assistant("B")],
        },
        (HELLO, " A", " B"),
    ),
    "prompt as text, sides in the HH form": (
        {"prompt": "Hello?", "chosen": f"{HELLO} A", "rejected": f"{HELLO} B"}, (HELLO, " A", " B"),
    ),
    "Windows line ends": (
        {"prompt": "Human: Hello?\r\n\r\nAssistant:", "chosen": "A\r\nb\rc", "rejected": "B"},
        (HELLO, " A\nb\nc", " B"),
    ),
    "one line end before a cue": (
        {"prompt": "Human: Hello?\nAssistant:", "chosen": "A", "rejected": "B"}, (HELLO, " A", " B"),
    ),
    "conversations with Windows line ends": (
        {"chosen": "\r\n\r\nHuman: Hello?\r\n\r\nAssistant: A", "rejected": f"{HELLO} B"}, (HELLO, " A", " B"),
    ),
    "conversations with one line end": (
        {
            "chosen": "Human: a\nAssistant: b\nHuman: c\nAssistant: d",
            "rejected": "Human: a\nAssistant: b\nHuman: c\nAssistant: e",
        },
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", " d", " e"),
    ),
    "SafeRLHF": (
        {"prompt": "Hello?", "response_0": "B", "response_1": "A", "better_response_id": 1}, (HELLO, " A", " B"),
    ),
    "SafeRLHF in a table with gaps": (
        {"prompt": "Hello?", "response_0": "A", "response_1": "B", "better_response_id": 0.0}, (HELLO, " A", " B"),
    ),
    "a or b": ({"prompt": "Hello?", "response_a": "B", "response_b": "A", "winner": "B"}, (HELLO, " A", " B")),
    "arena": (
        {
            "conversation_a": [user("Hello?"), assistant("A")], "conversation_b": [user("Hello?"), assistant("B")],
            "winner": "model_a",
        },
        (HELLO, " A", " B"),
    ),
    "SHP": ({"history": "Hello?", "human_ref_A": "B", "human_ref_B": "A", "labels": 0}, (HELLO, " A", " B")),
    "HelpSteer": (
        {"prompt": "Hello?", "response_1": "A", "response_2": "B", "preference_strength": -2}, (HELLO, " A", " B"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_each_layout(name: str, tmp_path: Path) -> None:
    row, expected = ROWS[name]
    assert texts(whole(jsonl(tmp_path / "a.jsonl", [row]))) == [expected]


def test_messages_in_a_csv(tmp_path: Path) -> None:
    rows = [{"prompt": "Hello?", "chosen": [user("Hello?"), assistant("A")], "rejected": [assistant("B")]}]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    assert texts(whole(tmp_path / "a.csv")) == [(HELLO, " A", " B")]


def test_several_rejected_make_a_pair_each(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "Hello?", "chosen": "A", "rejected": ["B", "C"]}])
    assert texts(whole(path)) == [(HELLO, " A", " B"), (HELLO, " A", " C")]


def test_scores_are_a_margin_and_a_subset_is_a_category(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "x", "rejected": "y", "score_chosen": 8, "score_rejected": "3.5", "subset": "hep"}
    (pair,) = whole(jsonl(tmp_path / "a.jsonl", [row])).pairs
    assert (pair.margin, pair.category) == (4.5, "hep")


def test_ties_are_dropped_and_named(tmp_path: Path) -> None:
    both = {"conversation_a": [user("a"), assistant("x")], "conversation_b": [user("a"), assistant("y")]}
    winners = ["model_a", "tie", "tie (bothbad)", "both_bad", None]
    data = whole(jsonl(tmp_path / "a.jsonl", [{**both, "winner": winner} for winner in winners]))
    assert data.counts == {"read": 5, "tie": 3, "no preference": 1}
    assert any("tie in rows 2, 3, 4: left out" in note for note in data.notes)


def test_null_nan_absent_and_empty_are_counted_alike(tmp_path: Path) -> None:
    lacking = [
        {"prompt": "a", "chosen": None, "rejected": "y"},
        {"prompt": "a", "chosen": float("nan"), "rejected": "y"},
        {"prompt": "a", "rejected": "y"},
        {"prompt": "a", "chosen": " ", "rejected": "y"},
        {"prompt": None, "chosen": "x", "rejected": "y"},
        {"prompt": [], "chosen": "x", "rejected": "y"},
    ]
    data = whole(jsonl(tmp_path / "a.jsonl", [*lacking, *TOWNS]))
    assert texts(data) == PAIRS
    assert data.counts == {"read": 9, "empty response": 4, "empty prompt": 2}
    assert any("empty response in rows 1, 2, 3, 4: left out" in note for note in data.notes)


def test_rows_that_cannot_be_used_are_an_error_or_skipped_and_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [*TOWNS, {"prompt": "a", "chosen": 3, "rejected": "y"}, [1]])
    with pytest.raises(DataError, match=r"2 of 5 rows cannot be used \(row 4 has 3 as 'chosen'.*row 5 is list"):
        whole(path)
    data = whole(path, skip_bad=True)
    assert texts(data) == PAIRS
    assert data.counts == {"read": 5, "unusable row": 2}


def test_a_prompt_repeated_in_both_responses_is_cut_off_and_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": r["prompt"], "chosen": f"{r['prompt']} {r['chosen']}", "rejected": f"{r['prompt']}\n{r['rejected']}"}
        for r in TOWNS
    ]
    data = whole(jsonl(tmp_path / "a.jsonl", rows))
    assert texts(data) == PAIRS
    assert any("the prompt was repeated in both responses of 3 rows" in note for note in data.notes)


def test_responses_that_begin_like_a_short_prompt_by_chance_stay(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "Hi", "chosen": "Hi there", "rejected": "Hi you"}, *TOWNS])
    assert texts(whole(path))[0] == ("\n\nHuman: Hi\n\nAssistant:", " Hi there", " Hi you")


# --- labelled responses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [(True, False), ("True", "False"), (1, 0), (1.0, 0.0), ("desirable", "undesirable")])
def test_kto_rows_are_pairs_where_a_prompt_has_both(labels: tuple[Any, Any], tmp_path: Path) -> None:
    good, bad = labels
    rows = [
        {"prompt": "Hello?", "completion": "A", "label": good},
        {"prompt": "Alone?", "completion": "C", "label": good},
        {"prompt": [user("Hello?")], "completion": [assistant("B")], "label": bad},
        {"prompt": "Hello?", "completion": "D", "label": None},
    ]
    path = jsonl(tmp_path / "a.jsonl", rows)
    data = whole(path)
    assert texts(data) == [(HELLO, " A", " B")]
    assert data.counts == {"read": 3, "unpaired response": 1, "no label": 1}
    assert Reader(str(path)).labelled("all") == [
        LabelledResponse(HELLO, " A", True),
        LabelledResponse("\n\nHuman: Alone?\n\nAssistant:", " C", True),
        LabelledResponse(HELLO, " B", False),
    ]


def test_pairs_are_two_labelled_responses_each(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", TOWNS[:1])
    prompt, chosen, rejected = PAIRS[0]
    assert Reader(str(path)).labelled("all") == [
        LabelledResponse(prompt, chosen, True),
        LabelledResponse(prompt, rejected, False),
    ]


@pytest.mark.parametrize("saved", [False, True])
def test_a_source_is_read_again_with_the_same_counts(saved: bool, tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hello?", "completion": text, "label": label} for text, label in (("A", "1"), ("B", "0"), ("C", "?"))
    ]
    path = tmp_path / "set" if saved else jsonl(tmp_path / "a.jsonl", rows)
    if saved:
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    reader = Reader(str(path), skip_bad=True)
    before = reader.labelled("all")
    assert len(before) == 2
    assert reader.load("all").counts == {"read": 2, "unusable row": 1}
    assert reader.labelled("all") == before


def test_labelled_responses_are_split_by_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i // 2}", "completion": f"r {i}", "label": True} for i in range(200)]
    reader = Reader(str(jsonl(tmp_path / "a.jsonl", rows)))
    found = {split: reader.labelled(split) for split in ("train", "validation", "test")}
    assert sum(map(len, found.values())) == 200
    assert not {one.prompt for one in found["train"]} & {one.prompt for one in found["test"]}


def test_labelled_responses_of_a_split_that_there_is_not(tmp_path: Path) -> None:
    """A file named after its split has no train split, and none can be made of it."""
    jsonl(tmp_path / "test.jsonl", [{"prompt": "q", "completion": "r", "label": True}])
    with pytest.raises(DataError, match="has no split 'train'"):
        Reader(str(tmp_path)).labelled("train")
    assert len(Reader(str(tmp_path)).labelled("test")) == 1


# --- folders and zip files --------------------------------------------------------------------------------------------


def test_of_a_folder_the_preference_files_are_taken(tmp_path: Path) -> None:
    for name in ("train_prefs", "train_sft", "train_gen", "test_prefs", "test_sft"):
        jsonl(tmp_path / f"{name}-00000-of-00001.jsonl", TOWNS if name.startswith("train") else TOWNS[:1])
    data = Reader(str(tmp_path)).load("test")
    assert len(data) == 1
    (note,) = [note for note in data.notes if note.startswith("files not used")]
    assert all(name in note for name in ("train_sft", "train_gen", "test_sft"))


def test_parts_of_a_split_are_read_together(tmp_path: Path) -> None:
    jsonl(tmp_path / "train_helpful.jsonl", TOWNS[:1])
    jsonl(tmp_path / "train_harmless.jsonl", TOWNS[1:])
    assert whole(tmp_path).counts["read"] == 3


def test_one_table_in_two_formats_is_read_once(tmp_path: Path) -> None:
    jsonl(tmp_path / "towns.jsonl", TOWNS)
    FRAME.to_csv(tmp_path / "towns.csv", index=False)
    (tmp_path / "dataset_info.json").write_text("{}")
    data = whole(tmp_path)
    assert data.counts == {"read": 3}
    assert "files not used, of the name of another: towns.jsonl" in data.notes


def test_a_data_set_as_the_hub_lays_it_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    FRAME.to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("about")
    assert texts(whole(tmp_path)) == PAIRS
    (tmp_path / "data").rename(tmp_path / "helpful-base")
    with pytest.raises(DataError, match="it has the folders helpful-base: give one of them"):
        whole(tmp_path)


def test_splits_in_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, rows in (("set/train.jsonl", TOWNS[1:]), ("set/test.jsonl", TOWNS[:1])):
            archive.writestr(name, "".join(json.dumps(row) + "\n" for row in rows))
    assert texts(Reader(str(tmp_path / "a.zip")).load("test")) == PAIRS[:1]


def test_every_pair_of_a_file_or_folder(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "train.jsonl", TOWNS[1:])
    assert len(Reader(str(path)).load("all")) == 2
    jsonl(tmp_path / "test.jsonl", TOWNS[:1])
    assert len(Reader(str(tmp_path)).load("all")) == 3


# --- the cases beside the checkout ------------------------------------------------------------------------------------

CITY = "\n\nHuman: What should I see in Lima?\n\nAssistant:"
GOOD, BAD = (
    " In Lima, start with the old market, then walk to the river before sunset.",
    " I do not know anything about Lima.",
)
TOWN = "\n\nHuman: What should I see in town number 0?\n\nAssistant:"
START, NOTHING = " In town 0, start with the old market, then walk to the river.", " I do not know town 0."
TEST = tuple(text.replace("town 0", "town 150").replace("number 0", "number 150") for text in (TOWN, START, NOTHING))
EXPECTED: dict[str, tuple[int, tuple[str, str, str]]] = {
    "prompt-repeated-in-sides.jsonl": (6, (TOWN, START, NOTHING)),
    "messages-as-json-text.csv": (5, (TOWN, START, NOTHING)),
    "ultrafeedback-folder": (16, TEST),  # 8 pairs of its test split, then 8 of train
    "hh-crlf.jsonl": (6, (TOWN, START, NOTHING)),
    "system-question-chosen-rejected.jsonl": (6, (f"You are helpful.{TOWN}", START, NOTHING)),
    "null-rejected.jsonl": (11, (CITY, GOOD, BAD)),
    "sharegpt.jsonl": (12, (CITY, GOOD, BAD)),
    "prompt_msgs_full.jsonl": (12, (CITY, GOOD, BAD)),
    "content_parts.jsonl": (12, (CITY, GOOD, BAD)),
    "saferlhf.jsonl": (12, (CITY, GOOD, BAD)),
    "arena.jsonl": (6, (CITY, GOOD, BAD)),
}


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not beside this checkout")
@pytest.mark.parametrize("name", EXPECTED)
def test_cases(name: str) -> None:
    n, first = EXPECTED[name]
    data = whole(CASES / name)
    assert (len(data), texts(data)[0]) == (n, first)


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not beside this checkout")
def test_the_case_of_kto() -> None:
    found = Reader(str(CASES / "kto.jsonl")).labelled("all")
    assert (len(found), sum(one.desirable for one in found)) == (12, 6)


# --- LMSYS's layout of Kaggle -----------------------------------------------------------------------------------------


def lmsys(prompts: Any, first: Any, second: Any, winner: str) -> dict[str, Any]:
    columns = {f"winner_{name}": int(name == winner) for name in ("model_a", "model_b", "tie")}
    texts = {"prompt": json.dumps(prompts), "response_a": json.dumps(first), "response_b": json.dumps(second)}
    return {"id": 1, "model_a": "m", "model_b": "n", **texts, **columns}


def test_lists_of_turns_with_a_column_for_each_winner(tmp_path: Path) -> None:
    rows = [
        lmsys(["Hi"], ["Hello."], ["No."], "model_a"),
        lmsys(["Hi \ud83d"], ["A"], ["B"], "model_b"),  # half a character, as the file has it
        lmsys(["Why?"], ["A"], ["B"], "model_b"),
        lmsys(["Why?", "And?"], ["A", "B"], ["A", "C"], "model_b"),
        lmsys(["Why?", "And?"], ["A", "B"], ["D", "C"], "model_b"),
        lmsys(["Tie?"], ["A"], ["B"], "tie"),
    ]
    path = tmp_path / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = Reader(str(path)).load("all")
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in found.pairs] == [
        ("\n\nHuman: Hi\n\nAssistant:", " Hello.", " No."),
        ("\n\nHuman: Why?\n\nAssistant:", " B", " A"),
        ("\n\nHuman: Why?\n\nAssistant: A\n\nHuman: And?\n\nAssistant:", " C", " B"),
    ]
    assert found.counts == {"read": 6, "half a surrogate pair": 1, "different prompts": 1, "tie": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (lmsys(["Hi"], ["A", "B"], ["C"], "model_a"), "row 2 has 1 turns of the user, 2 and 1 of the models"),
        (lmsys(["Hi"], [None], ["C"], "model_a"), "row 2 has a turn that is not text in 'response_a'"),
        (lmsys(["Hi"], ["A"], ["C"], "nobody"), "row 2 has winner_model_a 0, winner_model_b 0; expected 1 in one"),
    ],
)
def test_wrong_rows_of_that_layout_are_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    jsonl(path, [lmsys(["Hi"], ["Hello."], ["No."], "model_a"), row])
    with pytest.raises(DataError) as error:
        Reader(str(path)).load("all")
    assert message in str(error.value)
