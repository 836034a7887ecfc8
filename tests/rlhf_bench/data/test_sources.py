from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_bench.data import Filters, PreferenceData, Reader, mini, named_filters, prepare
from rlhf_bench.data import hub as hub_module
from rlhf_bench.data.hh import clean_response, form_prompt
from rlhf_bench.errors import BadValue, BenchError, DataError, UnknownName
from rlhf_bench.hub import hub_answers

HH_FILE = Path(__file__).parents[3].parent / "shared" / "data" / "hh-rlhf-harmless-base-test.jsonl.gz"
Row = Mapping[str, Any]


def hh(n: int | str) -> str:
    return f"\n\nHuman: question {n}\n\nAssistant:"


def rows(n: int, start: int = 0) -> list[Row]:
    return [{"prompt": hh(i), "chosen": f" good {i}", "rejected": f" bad {i}"} for i in range(start, start + n)]


def write_jsonl(path: Path, content: Sequence[Row]) -> Path:
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in content))
    return path


def write_gz(path: Path, content: Sequence[Row]) -> Path:
    write_jsonl(path, content)
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def write_json(path: Path, content: Sequence[Row]) -> Path:
    path.write_text(json.dumps(list(content)), encoding="utf-8")
    return path


def write_csv(path: Path, content: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        writer.writerows(content)
    return path


def write_parquet(path: Path, content: Sequence[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(content)), path)
    return path


WRITERS: dict[str, Callable[[Path, Sequence[Row]], Path]] = {
    "a.jsonl": write_jsonl,
    "a.jsonl.gz": write_gz,
    "a.json": write_json,
    "a.csv": write_csv,
    "a.parquet": write_parquet,
}


def load(
    path: str, split: str = "train", *, limit: int | None = None, filters: Filters | None = None, **reading: Any
) -> PreferenceData:
    return Reader(path, **reading).load(split, limit=limit, filters=filters)


def whole(path: Path | str, **options: Any) -> PreferenceData:
    return load(str(path), "all", **options)


def texts(data: PreferenceData) -> list[tuple[str, str, str]]:
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in data.pairs]


def one(tmp_path: Path, **row: Any) -> tuple[str, str, str]:
    """The texts that a file with this one row gives."""
    return texts(whole(write_jsonl(tmp_path / "one.jsonl", [row])))[0]


def adds_up(data: PreferenceData) -> bool:
    return data.counts["read"] == len(data.pairs) + sum(n for rule, n in data.counts.items() if rule != "read")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    odd = {"prompt": hh('"quoted", with\u2028separator\r\nand lines'), "chosen": " a\u2028b\u0085c", "rejected": " NA"}
    content = [{**row, "margin": 0.5, "category": "facts"} for row in [*rows(3), odd]]
    data = whole(WRITERS[name](tmp_path / name, content))
    assert texts(data) == [(r["prompt"].replace("\r\n", "\n"), r["chosen"], r["rejected"]) for r in content]
    assert [(pair.margin, pair.category) for pair in data.pairs] == [(0.5, "facts")] * 4
    assert data.counts == {"read": 4}
    assert data.notes[0] == "columns prompt, chosen, rejected, margin, category: prompt and two responses"


@pytest.mark.parametrize("empty", ["", None])
def test_margin_and_category_may_be_absent_in_a_row(tmp_path: Path, empty: str | None) -> None:
    content = [{**rows(1)[0], "margin": empty, "category": empty}]
    name = "a.csv" if empty == "" else "a.parquet"
    pair = whole(WRITERS[name](tmp_path / name, content)).pairs[0]
    assert (pair.margin, pair.category) == (None, None)


def test_jsonl_may_have_empty_lines_a_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(row).encode() for row in rows(2)]
    path.write_bytes(b"\xef\xbb\xbf" + lines[0] + b"\r\n\r\n" + lines[1])
    assert [chosen for _, chosen, _ in texts(whole(path))] == [" good 0", " good 1"]


def test_folder_split_by_file_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train-00000-of-00002.jsonl", rows(3))
    write_jsonl(tmp_path / "train-00001-of-00002.jsonl", rows(3, start=3))
    write_csv(tmp_path / "valid.csv", rows(2, start=10))
    write_jsonl(tmp_path / "test.jsonl", rows(2, start=20))
    (tmp_path / "README.md").write_text("not data")
    found = {split: Reader(str(tmp_path)).load(split).pairs for split in ("train", "validation", "test")}
    assert {split: [pair.chosen for pair in pairs] for split, pairs in found.items()} == {
        "train": [f" good {i}" for i in range(6)],
        "validation": [" good 10", " good 11"],
        "test": [" good 20", " good 21"],
    }


def test_folder_without_split_names_is_one_set(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", rows(2))
    write_jsonl(tmp_path / "b.jsonl", rows(2, start=2))
    assert whole(tmp_path).counts == {"read": 4}


# --- columns ----------------------------------------------------------------------------------------------------------


def test_hh_conversations(tmp_path: Path) -> None:
    first = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    content = [
        {"chosen": first + " good", "rejected": first + " bad"},
        {"chosen": hh(1) + " good", "rejected": hh(2) + " bad"},  # different prompts
        {"chosen": hh(1), "rejected": hh(1) + " bad"},  # empty chosen
        {"chosen": hh(1) + " good", "rejected": hh(1) + " \n "},  # empty rejected
        {"chosen": "no turns", "rejected": hh(1) + " bad"},
    ]
    data = whole(write_jsonl(tmp_path / "a.jsonl", content))
    assert texts(data) == [(first, " good", " bad")]
    assert data.counts == {"read": 5, "different prompts": 1, "empty response": 2, "no assistant turn": 1}
    assert data.notes[0] == "columns chosen, rejected: whole conversations, cut after the last 'Assistant:'"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Say hi", "\n\nHuman: Say hi\n\nAssistant:"),
        ("  Say hi\n", "\n\nHuman: Say hi\n\nAssistant:"),
        ("\n\nHuman: Say hi\n\nAssistant: ", "\n\nHuman: Say hi\n\nAssistant:"),
        ("\n\nHuman: Say hi", "\n\nHuman: Say hi\n\nAssistant:"),
        ("POST: long story\n\nTL;DR:", "POST: long story\n\nTL;DR:"),
        ("POST: long story\n\nTL;DR: ", "POST: long story\n\nTL;DR:"),
        (" \n", ""),
    ],
)
def test_prompt_form(prompt: str, expected: str) -> None:
    assert form_prompt(prompt) == expected
    assert form_prompt(expected) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("hi", " hi"),
        ("  \n hi there \n", " hi there"),
        (" hi<|endoftext|>", " hi"),
        (" hi <|endoftext|><|endoftext|> more", " hi"),
        ("<|endoftext|>", ""),
        (" ", ""),
    ],
)
def test_response_form(response: str, expected: str) -> None:
    assert clean_response(response) == expected
    assert clean_response(expected) == expected


def test_plain_prompts_are_wrapped(tmp_path: Path) -> None:
    assert one(tmp_path, prompt="Say hi", chosen="Hi!", rejected="No.") == (
        "\n\nHuman: Say hi\n\nAssistant:",
        " Hi!",
        " No.",
    )


@pytest.mark.parametrize(
    "answers",
    [
        {"chosen": "A", "rejected": "B"},
        {"output": ["A", "B"]},
        {"output_1": "A", "output_2": "B", "preference": 1},
        {"output_1": "B", "output_2": "A", "preference": 2},
    ],
)
def test_instruction_with_input(tmp_path: Path, answers: Row) -> None:
    expected = ("\n\nHuman: Add these\n\n1 and 2\n\nAssistant:", " A", " B")
    assert one(tmp_path, instruction="Add these", input=" 1 and 2\n", **answers) == expected
    without = ("\n\nHuman: Add these\n\nAssistant:", " A", " B")
    assert one(tmp_path, instruction="Add these", input="", **answers) == without
    assert one(tmp_path, instruction="Add these", **answers) == without


def user(content: str) -> Row:
    return {"role": "user", "content": content}


def assistant(content: str) -> Row:
    return {"role": "assistant", "content": content}


@pytest.mark.parametrize(
    "row",
    [
        # whole conversations, as in trl-lib/ultrafeedback_binarized
        {"chosen": [user("Hi"), assistant("A")], "rejected": [user("Hi"), assistant("B")]},
        # prompt and answers separate
        {"prompt": [user("Hi")], "chosen": [assistant("A")], "rejected": [assistant("B")]},
        # prompt as text beside whole conversations, as in HuggingFaceH4/ultrafeedback_binarized
        {"prompt": "Hi", "chosen": [user("Hi"), assistant("A")], "rejected": [user("Hi"), assistant("B")]},
        {"prompt": [user("Hi")], "chosen": "A", "rejected": "B"},
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_messages(tmp_path: Path, row: Row, name: str) -> None:
    data = whole(WRITERS[name](tmp_path / name, [row]))
    assert texts(data) == [("\n\nHuman: Hi\n\nAssistant:", " A", " B")]


def test_messages_with_system_and_turns(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be kind."}, user("Hi"), assistant("Hello"), user("Bye")]
    content = [
        {"chosen": [*turns, assistant("A")], "rejected": [*turns, assistant("B")]},
        {"chosen": [*turns, assistant("A")], "rejected": [user("Other"), assistant("B")]},
        {"chosen": turns, "rejected": turns},
    ]
    data = whole(write_jsonl(tmp_path / "a.jsonl", content))
    prompt = "Be kind.\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:"
    assert texts(data) == [(prompt, " A", " B")]
    assert data.counts == {"read": 3, "different prompts": 1, "last turn not the assistant's": 1}


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Hi", "chosen": "A", "worse": "B", "id": 7}])
    data = whole(path, columns={"prompt": "question", "rejected": "worse"})
    assert texts(data) == [("\n\nHuman: Hi\n\nAssistant:", " A", " B")]
    assert data.notes[0] == (
        "columns prompt (from question), chosen, rejected (from worse): prompt and two responses; not used: id"
    )


# --- splits -----------------------------------------------------------------------------------------------------------


def test_one_file_is_split_by_prompt(tmp_path: Path) -> None:
    content = [*rows(300), *[{**row, "chosen": " again"} for row in rows(300)]]  # each prompt twice
    path = str(write_jsonl(tmp_path / "a.jsonl", content))
    found = {split: Reader(path).load(split) for split in ("train", "validation", "test")}
    prompts = {split: {pair.prompt for pair in data.pairs} for split, data in found.items()}
    assert set.union(*prompts.values()) == {hh(i) for i in range(300)}
    assert sum(len(p) for p in prompts.values()) == 300  # disjoint
    assert sum(len(data) for data in found.values()) == 600
    assert all(adds_up(data) and data.counts["read"] == 600 for data in found.values())
    assert len(found["train"].prompts) == len(prompts["train"])
    # A function of the prompt alone: other rows, in another order, change nothing.
    part = str(write_jsonl(tmp_path / "b.jsonl", content[100:200][::-1]))
    assert {pair.prompt for pair in Reader(part).load("test").pairs} == prompts["test"] & {
        hh(i) for i in range(100, 200)
    }
    other = Reader(path, seed=1).load("test")
    assert {pair.prompt for pair in other.pairs} != prompts["test"]


def test_validation_is_made_of_train_and_test_keeps_its_rows(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows(200))
    write_jsonl(tmp_path / "test.jsonl", rows(20, start=190))  # ten of its prompts are in train too
    found = {split: Reader(str(tmp_path)).load(split) for split in ("train", "validation", "test")}
    assert found["test"].counts == {"read": 20}
    assert len(found["train"]) + len(found["validation"]) == 190
    leaked = [found[split].counts.get("prompt also in test", 0) for split in ("train", "validation")]
    assert sum(leaked) == 10
    assert all(adds_up(data) for data in found.values())
    assert "validation made of train by the prompts' hashes, seed 0" in found["train"].notes


def test_where_a_sources_own_splits_overlap_the_measured_ones_stay_whole(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows(10))
    write_jsonl(tmp_path / "validation.jsonl", rows(10, start=7))  # 7 to 16: three in train
    write_jsonl(tmp_path / "test.jsonl", rows(10, start=9))  # 9 to 18: one in train, eight in validation
    counts = {split: Reader(str(tmp_path)).load(split).counts for split in ("train", "validation", "test")}
    assert counts == {
        "train": {"read": 10, "prompt also in test": 1, "prompt also in validation": 2},  # 9; 7 and 8
        "validation": {"read": 10, "prompt also in test": 8},
        "test": {"read": 10},
    }


def test_made_test_split_gives_way_to_the_sources_validation(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows(100))
    write_jsonl(tmp_path / "validation.jsonl", rows(100))
    with pytest.raises(DataError, match="prompt also in validation"):
        Reader(str(tmp_path)).load("test")


def test_limit_is_nested_keeps_the_order_and_is_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(100))
    everything = [pair.id for pair in whole(path).pairs]
    ten, thirty = whole(path, limit=10), whole(path, limit=30)
    assert {pair.id for pair in ten.pairs} < {pair.id for pair in thirty.pairs}
    assert [pair.id for pair in thirty.pairs] == [i for i in everything if i in {pair.id for pair in thirty.pairs}]
    assert [pair.id for pair in ten.pairs] != everything[:10]  # files are often sorted: the first would be no sample
    assert ten.counts == {"read": 100, "over the limit": 90}
    assert {pair.id for pair in whole(path, limit=10, seed=1).pairs} != {pair.id for pair in ten.pairs}


def test_filters_are_counted(tmp_path: Path) -> None:
    long = {"prompt": hh(9), "chosen": " a long enough text", "rejected": " another long text"}
    data = whole(write_jsonl(tmp_path / "a.jsonl", [*rows(3), long]), filters=named_filters("hh-edge-cases"))
    assert data.counts == {"read": 4, "response under 10 characters": 3}
    assert data.summary().endswith("all: 1 pairs (4 read; 3 response under 10 characters)")


# --- hh-mini ----------------------------------------------------------------------------------------------------------


def test_hh_mini() -> None:
    everything = mini.generate("test_unseen", seed=3)
    data = Reader("hh-mini", seed=3).load("test_unseen", limit=5)
    assert len(data) == 5
    assert all(pair in everything for pair in data.pairs)
    assert data.counts == {"read": len(everything), "over the limit": len(everything) - 5}
    assert data.notes == [f"generated with seed 3, version {mini.VERSION}"]
    # In the form that files are brought to, so that a prepared copy is the same data.
    assert all(form_prompt(pair.prompt) == pair.prompt for pair in everything)
    assert all(clean_response(text) == text for pair in everything for text in (pair.chosen, pair.rejected))


# --- saved sets -------------------------------------------------------------------------------------------------------


def test_prepared_set_reads_back_as_it_is(tmp_path: Path) -> None:
    content = [
        {**row, "margin": i / 7 if i % 2 else None, "category": "x" if i % 3 else None}
        for i, row in enumerate(rows(200))
    ]
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [*content, {"prompt": "\u2028Plain", "chosen": "x", "rejected": "", "margin": 1, "category": ""}],
    )
    prepared = prepare(Reader(str(path), seed=3), tmp_path / "out", filters=Filters(min_chars=6))
    # The filter ("bad 7" has 5 characters) is for training alone.
    assert prepared["train"].counts["response under 6 characters"] > 0
    assert not any("response" in rule and "under" in rule for rule in prepared["test"].counts)
    for split in ("train", "validation", "test"):
        filters = Filters(min_chars=6) if split == "train" else None
        before = Reader(str(path), seed=3).load(split, filters=filters)
        after = Reader(str(tmp_path / "out"), seed=99).load(split)
        assert after.pairs == before.pairs
        assert after.fingerprint == before.fingerprint == prepared[split].fingerprint
        assert after.counts == {"read": len(before)}
        assert len(prepared[split]) == len(before)
    saved = datasets.load_from_disk(str(tmp_path / "out"))
    assert saved["train"].column_names == ["id", "prompt", "chosen", "rejected", "margin", "category"]
    assert saved["train"]["id"][:] == [pair.id for pair in Reader(str(tmp_path / "out")).load("train").pairs]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "out"]  # nothing left beside it


def test_prepare_does_not_overwrite(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", rows(50))
    (tmp_path / "out").mkdir()
    prepare(Reader(str(path)), tmp_path / "out")  # an empty folder will do
    with pytest.raises(DataError, match=r"out' exists already; give a new folder, or remove that one first$"):
        prepare(Reader(str(path)), tmp_path / "out")


def test_saved_dataset_without_splits(tmp_path: Path) -> None:
    datasets.Dataset.from_list(rows(4)).save_to_disk(str(tmp_path / "set"))
    assert whole(tmp_path / "set").counts == {"read": 4}


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub with what a test puts in: name -> data set; what was requested is under "asked"."""
    content: dict[str, Any] = {"asked": []}

    def load_dataset(name: str, *, revision: str) -> Any:
        content["asked"].append((name, revision))
        return content[name]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub_module, "hub_answers", lambda: True)
    return content


def test_hub_hh(hub: dict[str, Any]) -> None:
    def split(n: int, start: int) -> datasets.Dataset:
        return datasets.Dataset.from_list(
            [{"chosen": f"{hh(i)} good", "rejected": f"{hh(i)} bad"} for i in range(start, start + n)]
        )

    hub["Anthropic/hh-rlhf"] = datasets.DatasetDict({"train": split(100, 0), "test": split(10, 100)})
    data = Reader("Anthropic/hh-rlhf").load("test")
    assert texts(data)[0] == (hh(100), " good", " bad")
    assert data.counts == {"read": 10}
    pinned = "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
    assert hub["asked"] == [("Anthropic/hh-rlhf", pinned)]
    assert data.notes[0] == f"hub revision {pinned}"
    assert Reader("Anthropic/hh-rlhf", revision="v2").load("train").notes[0] == "hub revision v2"


def test_hub_synthetic_instruct(hub: dict[str, Any]) -> None:
    name = "Dahoas/synthetic-instruct-gptj-pairwise"
    plain = [{"prompt": f"Say {i}", "chosen": f"{i}", "rejected": "No"} for i in range(50)]
    hub[name] = datasets.DatasetDict({"train": datasets.Dataset.from_list(plain)})
    found = {split: Reader(name).load(split) for split in ("train", "validation", "test")}
    assert sum(len(data) for data in found.values()) == 50
    assert found["train"].pairs[0].prompt.startswith("\n\nHuman: Say ")
    assert found["train"].pairs[0].prompt.endswith("\n\nAssistant:")
    assert found["train"].notes[0] == "hub revision main"


def test_hub_tldr_measures_on_its_validation_split(hub: dict[str, Any]) -> None:
    def post(n: int) -> Row:
        return {"prompt": f"POST: {n}\n\nTL;DR:", "chosen": f" short {n}", "rejected": " long"}

    hub["trl-lib/tldr-preference"] = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_list([post(i) for i in range(100)]),
            "validation": datasets.Dataset.from_list([post(i) for i in range(100, 103)]),
        }
    )
    test = Reader("trl-lib/tldr-preference").load("test")
    assert [pair.prompt for pair in test.pairs] == [f"POST: {i}\n\nTL;DR:" for i in range(100, 103)]
    validation = Reader("trl-lib/tldr-preference").load("validation")
    assert len(validation) > 0
    assert {pair.prompt for pair in validation.pairs} <= {f"POST: {i}\n\nTL;DR:" for i in range(100)}
    assert "its split validation is used as test" in test.notes


def test_hub_with_other_names(hub: dict[str, Any]) -> None:
    rows_ = [{"question": "Hi", "chosen": "A", "rejected": "B"}]
    hub["some/set"] = datasets.DatasetDict(
        {"train_prefs": datasets.Dataset.from_list(rows_ * 3), "train_sft": datasets.Dataset.from_list(rows_)}
    )
    data = whole("some/set", columns={"prompt": "question"})
    assert texts(data) == [("\n\nHuman: Hi\n\nAssistant:", " A", " B")] * 3
    assert "splits not used: train_sft" in data.notes


@pytest.fixture
def unprobed() -> Iterator[None]:
    """What the hub answered is remembered for the whole process; not from one test to the next."""
    hub_answers.cache_clear()
    yield
    hub_answers.cache_clear()


ADVICE = (
    "; give a local file instead, with --data FILE or the recipe's data.source "
    "(jsonl, parquet or csv with prompt, chosen, rejected)"
)
UNREACHABLE = "the hub cannot be reached and the data set is not in the cache"


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
@pytest.mark.usefixtures("unprobed")
def test_hub_offline_by_choice(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("used the network in offline mode"))
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(DataError) as caught:
        Reader("no-such-owner/no-such-set").load("train")
    assert str(caught.value) == (
        "'no-such-owner/no-such-set' is not a file or folder here, and as a data set of the hub (revision main) it "
        f"cannot be loaded: {UNREACHABLE}{ADVICE}"
    )
    assert datasets.config.HF_HUB_OFFLINE is before


@pytest.mark.usefixtures("unprobed")
def test_hub_without_a_network_is_tried_once_and_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []

    def load_dataset(name: str, *, revision: str) -> Any:
        modes.append(datasets.config.HF_HUB_OFFLINE)
        raise ConnectionError("Couldn't reach it\nwith a second line")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=UNREACHABLE):
        Reader("some/set").load("train")
    assert modes == [True]  # no retries: `datasets` was set to offline
    assert datasets.config.HF_HUB_OFFLINE is False


def test_hub_error_is_one_line(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, *, revision: str) -> Any:
        raise ValueError("Config name is missing.\nPlease pick one")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        Reader("some/set").load("train")
    assert str(caught.value).endswith(f"it cannot be loaded: Config name is missing{ADVICE}")


# --- bad input: one line each -----------------------------------------------------------------------------------------


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def line(*values: Any) -> bytes:
    return json.dumps(dict(zip(("prompt", "chosen", "rejected", "margin"), values, strict=False))).encode() + b"\n"


GOOD = line("a", "b", "c")  # 48 bytes, the line end included
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jsonl", b"", "{path} is empty; expected at least one row"),
    "only line ends": ("a.jsonl", b"\n\n", "{path} holds blank lines only; expected at least one row"),
    "empty json list": ("a.json", b"[]", "{path} holds no row (read as a JSON list); expected at least one row"),
    "empty csv": ("a.csv", b"prompt,chosen,rejected\n", "{path} holds no row (read as CSV); expected at least one row"),
    "empty parquet": ("a.parquet", b"", "{path} is empty; expected at least one row"),
    "no zip": ("a.zip", b"PK\x03\x04nonsense", "{path} is not an intact zip file ("),
    "not utf-8": ("a.jsonl", GOOD + b'{"a": "\xff"}\n', "{path} is not UTF-8 (byte 55); save it as UTF-8"),
    "not utf-8 csv": ("a.csv", b"a\n\xe4\n", "{path} is not UTF-8 (byte 2); save it as UTF-8"),
    "cut gzip": (
        "a.jsonl.gz",
        gzip.compress(GOOD * 100)[:-20],
        "{path} is not an intact gzip file (Compressed file ended before the end-of-stream marker was reached); "
        "fetch it again",
    ),
    "broken line": (
        "a.jsonl",
        GOOD + b"\n{]\n",
        "{plain}: 1 of 2 rows cannot be used (row 3 is not JSON (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1))); correct them, or leave them out with --skip-bad",
    ),
    "line is a list": ("a.jsonl", GOOD + b"[1]\n", "{plain}: 1 of 2 rows cannot be used (row 2 is list, not an object"),
    "line is null": ("a.jsonl", GOOD + b"null\n", "{plain}: 1 of 2 rows cannot be used (row 2 is null, not an object"),
    "broken list": ("a.json", b"[" + GOOD, "{path} is not JSON (Expecting ',' delimiter: line 2 column 1 (char 49)); "),
    "csv fields": (
        "a.csv",
        b"prompt,chosen,rejected\na,b,c\na,b,c,d\n",
        "{plain}: 1 of 2 rows cannot be used (row 2 has another number of fields than the header; quote it)",
    ),
    "csv few fields": (
        "a.csv",
        b"prompt,chosen,rejected\na,b\n",
        "{plain}: 1 of 1 rows cannot be used (row 1 has another number of fields than the header; quote it)",
    ),
    "csv quote": ("a.csv", b'prompt,chosen,rejected\na,b,"c\n', "{path} is not CSV (unexpected end of data)"),
    "no parquet": ("a.parquet", b"text", "{path} is not a readable Parquet file ("),
    "prose": ("a.txt", b"Some text.\nMore of it.\n", "{plain} has the columns Some text.; expected prompt/chosen/rej"),
    "columns": (
        "a.jsonl",
        b'{"question": "a", "answer": "b"}\n',
        "{plain} has the columns question, answer; expected prompt/chosen/rejected, or chosen/rejected (whole ",
    ),
    "number": ("a.jsonl", GOOD + line("a", 3, "c"), "{plain}: 1 of 2 rows cannot be used (row 2 has 3 as 'chosen', "),
    "margin": (
        "a.jsonl",
        line("a", "b", "c", 1) + line("a", "b", "c", "wide"),
        "{plain}: 1 of 2 rows cannot be used (row 2 has a str as 'margin', expected a number or nothing)",
    ),
    "bool margin": ("a.jsonl", GOOD + line("a", "b", "c", True), "{plain}: 1 of 2 rows cannot be used (row 2 has "),
    "messages": (
        "a.jsonl",
        GOOD + line("a", [{"role": "robot", "content": "b"}], "c"),
        "{plain}: 1 of 2 rows cannot be used (row 2 has a message with the role 'robot'; expected system, user or ",
    ),
    "messages as text": (
        "a.jsonl",
        GOOD + line("a", "[{'role': 'assistant', 'content': ...", "c"),
        "{plain}: 1 of 2 rows cannot be used (row 2 has a list of messages as text that cannot be read)",
    ),
    "preference": (
        "a.jsonl",
        b'{"instruction": "a", "output_1": "b", "output_2": "c", "preference": 0}\n',
        "{plain}: 1 of 1 rows cannot be used (row 1 has 0 as 'preference', expected 1 or 2, or a tie)",
    ),
    "outputs": (
        "a.jsonl",
        b'{"instruction": "a", "output": "one"}\n',
        "{plain}: 1 of 1 rows cannot be used (row 1 has a str as 'output', expected a list of two texts, the better ",
    ),
    "nothing left": (
        "a.jsonl",
        line("a", "", "c") + line("", "b", "c") + line("a", "b", "\ud800") + line("a", "same", "same"),
        "no pair is left in split 'all' of {plain}: 4 read; 1 empty response, 1 empty prompt, "
        "1 half a surrogate pair, 1 identical responses; give more rows, or other filters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file(tmp_path: Path, case: str) -> None:
    name, content, expected = BAD_FILES[case]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        whole(path, filters=Filters(drop_ties=True))
    message = str(caught.value)
    assert message.startswith(expected.format(path=repr(path), plain=path))
    assert "\n" not in message


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", GOOD)
    with pytest.raises(DataError, match=r"pair.jsonl' does not exist; did you mean 'pairs.jsonl' beside it\?$"):
        whole(tmp_path / "pair.jsonl")
    with pytest.raises(DataError, match=r"x.csv' does not exist; give the path of a file that exists$"):
        whole(tmp_path / "nowhere" / "x.csv")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": b"x"}, "holds no data file; expected .jsonl, "),
        ({"train.jsonl": GOOD, "more.jsonl": GOOD}, "put train, validation or test in its name, or move it away"),
        ({"test.jsonl": GOOD}, "has no split 'train' and none can be made of what it has (test); "),
        ({"dataset_dict.json": b"{"}, "is not a readable saved data set ("),
    ],
)  # fmt: skip
def test_bad_folder(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        load(str(tmp_path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hh-minni", "unknown data source (no file, folder or org/name) 'hh-minni'; did you mean 'hh-mini'?"),
        ("hh-rlhf", "unknown data source (no file, folder or org/name) 'hh-rlhf'; known: Anthropic/hh-rlhf"),
        ("", "unknown data source (no file, folder or org/name) ''; known: Anthropic/hh-rlhf, "),
    ],
)
def test_unknown_source(source: str, message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        Reader(source).load("train")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"split": "tests"}, UnknownName, "unknown split 'tests'; did you mean 'test'?"),
        ({"split": "test_unseen"}, DataError, "a.jsonl has no split 'test_unseen' and none can be made of what it has"),
        ({"limit": 0}, BadValue, "limit: given 0, expected 1 or more, or none for all pairs"),
        ({"columns": {"promt": "prompt"}}, UnknownName, "unknown column 'promt'; did you mean 'prompt'?"),
        (
            {"columns": {"prompt": "question"}},
            DataError,
            "a.jsonl has no column 'question' (given for 'prompt'); it has: prompt, chosen, rejected",
        ),
    ],
)
def test_bad_argument(tmp_path: Path, options: dict[str, Any], kind: type[BenchError], message: str) -> None:
    path = write(tmp_path / "a.jsonl", GOOD * 3)
    with pytest.raises(kind) as caught:
        load(str(path), **options)
    assert message in str(caught.value)


# --- the real file ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HH_FILE.exists(), reason="the HH test file is not beside this checkout")
def test_real_hh_file() -> None:
    found = {split: Reader(str(HH_FILE)).load(split) for split in ("train", "validation", "test")}
    for data in found.values():
        assert adds_up(data)
        counts = {rule: n for rule, n in data.counts.items() if rule != "in other splits"}
        # 5 rows with different numbers of turns, 4 with an empty last turn in chosen: the data's README
        assert counts == {"read": 2312, "different prompts": 5, "empty response": 4}
    pairs = [pair for data in found.values() for pair in data.pairs]
    assert len(pairs) == 2303
    assert len({pair.id for pair in pairs}) == 2303
    for pair in pairs:
        assert pair.prompt.startswith("\n\nHuman:")
        assert pair.prompt.endswith("\n\nAssistant:")
        for response in (pair.chosen, pair.rejected):
            assert response == f" {response.strip()}" != " "
    prompts = {split: {pair.prompt for pair in data.pairs} for split, data in found.items()}
    assert not prompts["train"] & (prompts["validation"] | prompts["test"])
    assert not prompts["validation"] & prompts["test"]
