"""Response files of every form that is promised, each with the same two prompts and texts, and every way to be bad."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from openpyxl import Workbook

from rlhf_bench.data.responses import ResponseFile, read_responses
from rlhf_bench.errors import DataError, UnknownName

EGG, SKY = "\n\nHuman: How long for an egg?\n\nAssistant:", "\n\nHuman: Why is the sky blue?\n\nAssistant:"
TEXTS = {EGG: [" Eight minutes."], SKY: [' Scattering\u2028of light, "blue".']}
Rows = list[dict[str, Any]]


def rows(prompt: str, response: str, reference: str | None = None, **more: Any) -> Rows:
    """The two prompts under given column names; the second prompt is in the HH form already."""
    return [
        {prompt: given, response: TEXTS[key][0].strip()} | ({reference: f"Ref {n}."} if reference else {}) | more
        for n, (given, key) in enumerate([("How long for an egg?", EGG), (SKY, SKY)])
    ]


def jsonl(path: Path, table: Rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table), encoding="utf-8")


def as_list(path: Path, table: Rows) -> None:
    path.write_text(json.dumps(table, indent=2), encoding="utf-8")


def csv(path: Path, table: Rows) -> None:
    pd.DataFrame(table).to_csv(path, index=False, encoding="utf-8-sig")  # with a byte-order mark, as Excel writes it


def tsv(path: Path, table: Rows) -> None:
    pd.DataFrame(table).to_csv(path, index=False, sep="\t")


def parquet(path: Path, table: Rows) -> None:
    pd.DataFrame(table).to_parquet(path)


def xlsx(path: Path, table: Rows) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(list(table[0]))
    for row in table:
        sheet.append(list(row.values()))
    book.save(path)


def packed(path: Path, table: Rows) -> None:
    jsonl(path, table)
    path.write_bytes(gzip.compress(path.read_bytes()))


def texts(file: ResponseFile) -> dict[str | None, dict[str, list[str]]]:
    return {
        m.model: {prompt: [a.text for a in answers] for prompt, answers in m.by_prompt.items()} for m in file.models
    }


WRITERS = [jsonl, as_list, csv, tsv, parquet, xlsx, packed]


@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_of_file_under_any_name(write: Callable[[Path, Rows], None], tmp_path: Path) -> None:
    path = tmp_path / "outputs.dat"  # the ending says nothing
    write(path, rows("prompt", "response", "reference"))
    file = read_responses(path)
    assert texts(file) == {None: TEXTS}
    assert file.references == {EGG: " Ref 0.", SKY: " Ref 1."}
    assert file.rows == {EGG: 1, SKY: 2}


@pytest.mark.parametrize(
    ("names", "printed"),
    [
        (("prompt", "response", None), "prompt and response: prompt from 'prompt', response from 'response'"),
        (("instruction", "output", None), "prompt from 'instruction'"),
        (("prompt", "generated", "ground_truth"), "reference from 'ground_truth'"),
        (("instruction", "model_response", "reference"), "response from 'model_response'"),
        (("question", "generated", "answer"), "reference from 'answer', response from 'generated'"),
        (("instruction", "generated_text", "output"), "reference from 'output', response from 'generated_text'"),
        (("Prompt", "Response", None), "prompt from 'Prompt'"),
    ],
)
def test_the_names_that_pipelines_use(names: tuple[str, str, str | None], printed: str, tmp_path: Path) -> None:
    jsonl(tmp_path / "f", rows(*names))
    file = read_responses(tmp_path / "f")
    assert texts(file) == {None: TEXTS}
    assert bool(file.references) == (names[2] is not None)
    assert printed in file.notes[0]


def test_alpaca_evals_model_outputs(tmp_path: Path) -> None:
    as_list(tmp_path / "model_outputs.json", rows("instruction", "output", generator="their-7b", dataset="helpful"))
    file = read_responses(tmp_path / "model_outputs.json")
    assert texts(file) == {"their-7b": TEXTS}
    assert "a JSON list, 2 rows, AlpacaEval's model outputs: " in file.notes[0]
    assert file.notes[0].endswith("; not used: dataset")


def test_an_instructions_input_belongs_to_the_prompt(tmp_path: Path) -> None:
    jsonl(tmp_path / "f", [{"instruction": "Translate.", "input": "Haus", "output": "house"}])
    assert list(read_responses(tmp_path / "f").rows) == ["\n\nHuman: Translate.\n\nHaus\n\nAssistant:"]


@pytest.mark.parametrize("write", [csv, xlsx])
def test_a_column_a_model(write: Callable[[Path, Rows], None], tmp_path: Path) -> None:
    table = [{"prompt": EGG, "ppo_response": "A.", "dpo_response": "=B", "reference_response": "R.", "ppo_reward": 1}]
    write(tmp_path / "f", table)
    file = read_responses(tmp_path / "f")
    assert texts(file) == {"ppo": {EGG: [" A."]}, "dpo": {EGG: [" =B"]}}
    assert file.references == {EGG: " R."}
    assert "not used: ppo_reward" in file.notes[0]


def ours(model: str, seed: int, sample: int, **more: Any) -> dict[str, Any]:
    row = {"model": model, "seed": seed, "prompt_id": "x", "sample": sample, "prompt": EGG, "reference": " R."}
    return row | {"response": f" {model}{seed}{sample} ", "finish_reason": "length", "n_tokens": 4.0} | more


def test_our_own_responses_keep_seed_samples_and_every_space(tmp_path: Path) -> None:
    jsonl(tmp_path / "f", [ours("a", 0, 0), ours("a", 0, 1), ours("a", 1, 0), ours("chosen", 0, 0), ours("b", 0, 0)])
    file = read_responses(tmp_path / "f")
    assert [(m.model, m.seed, [a.text for a in m.by_prompt[EGG]]) for m in file.models] == [
        ("a", 0, [" a00 ", " a01 "]),
        ("a", 1, [" a10 "]),
        ("b", 0, [" b00 "]),
    ]
    answer = file.models[0].by_prompt[EGG][0]
    assert (answer.finish_reason, answer.n_tokens) == ("length", 4.0)


def test_columns_can_be_named(tmp_path: Path) -> None:
    jsonl(tmp_path / "f", rows("prompt", "response", q="ignored", reply="other"))
    file = read_responses(tmp_path / "f", columns={"response": "reply"})
    assert texts(file) == {None: {EGG: [" other"], SKY: [" other"]}}
    with pytest.raises(DataError, match=r"no column 'answer' .given for response."):
        read_responses(tmp_path / "f", columns={"response": "answer"})
    with pytest.raises(UnknownName, match="unknown column 'colour'"):
        read_responses(tmp_path / "f", columns={"colour": "q"})


def test_several_rows_of_a_prompt_are_its_samples_and_empty_texts_are_counted(tmp_path: Path) -> None:
    jsonl(tmp_path / "f", [*rows("prompt", "response"), {"prompt": "How long for an egg?", "response": ""}])
    file = read_responses(tmp_path / "f")
    assert texts(file) == {None: {**TEXTS, EGG: [" Eight minutes.", ""]}}
    assert "1 of 2 prompts have several rows, read as samples" in file.notes[1]
    assert "1 of 3 responses are empty" in file.notes[2]


def test_messages_as_prompt_and_response(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "How long for an egg?"}]
    jsonl(tmp_path / "f", [{"prompt": turn, "response": [{"role": "assistant", "content": "Eight minutes."}]}])
    assert texts(read_responses(tmp_path / "f")) == {None: {EGG: [" Eight minutes."]}}


# --- bad input -------------------------------------------------------------------------------------------------------

BAD: list[tuple[Mapping[str, Any], str]] = [
    ({"prompt": "a"}, "has no 'response'"),
    ({"response": "a"}, "has no 'prompt'"),
    ({"prompt": "  ", "response": "a"}, "has an empty 'prompt'"),
    ({"prompt": None, "response": "a"}, "has null as 'prompt'"),
    ({"prompt": "a", "response": math.nan}, "has NaN as 'response'"),
    ({"prompt": "a", "response": {"score": 1}}, "has a dict as 'response', not a text"),
    ({"prompt": "a", "response": ["b", 3]}, "has 3 as 'response', not a text"),
    ({"prompt": ["a", "b"], "response": "b"}, "has a list as 'prompt', not a text"),
    (
        {"prompt": [{"role": "robot", "content": "a"}], "response": "b"},
        "has a message with the role 'robot'; expected system, user or assistant",
    ),
    ({"prompt": "a", "response": "\ud800"}, "has half a surrogate pair in 'response'"),
]


@pytest.mark.parametrize(("row", "why"), BAD)
def test_a_row_that_cannot_be_used_is_named(row: Mapping[str, Any], why: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("".join(json.dumps(r) + "\n" for r in [*rows("prompt", "response"), row]))
    with pytest.raises(DataError) as error:
        read_responses(path)
    assert f"1 of 3 rows cannot be used (row 3 {why})" in str(error.value)
    assert str(error.value).endswith("; correct them, or leave them out with --skip-bad")
    file = read_responses(path, skip_bad=True)
    assert texts(file) == {None: TEXTS}
    assert file.notes[1].endswith("; left out")


def test_ten_thousand_malformed_rows_are_counted_and_a_few_named(tmp_path: Path) -> None:
    good = [json.dumps(row) for row in rows("prompt", "response")]
    (tmp_path / "f").write_text("\n".join([good[0], *["{broken"] * 9_999, "[1]", good[1]]) + "\n")
    with pytest.raises(DataError) as error:
        read_responses(tmp_path / "f")
    message = str(error.value)
    assert "10,000 of 10,002 rows cannot be used (row 2 is not JSON" in message
    assert "; row 6 is not JSON" in message
    assert "row 7" not in message
    assert "and 9,995 more" in message
    assert "\n" not in message
    assert texts(read_responses(tmp_path / "f", skip_bad=True)) == {None: TEXTS}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected at least one row"),
        (b"prompt,response\n", "holds no row (read as CSV)"),
        (b"  \n\n \t\n", "holds blank lines only; expected at least one row"),
        (b"prompt,response\na,\0\n", "is not text (character 18 is NUL)"),
        (b"[]", "holds no row (read as a JSON list)"),
        ("prompt,response\ncaf\u00e9,b\n".encode("latin-1"), "is not UTF-8 (byte 19); save it as UTF-8"),
        (b'{\n "data": [{"prompt": "a"}]\n}', "has the columns prompt, none known as its response"),
        (b"PK\x03\x04nonsense", "is not an intact zip file"),
        (b"PAR1nonsense", "is not a readable Parquet file"),
        (b"\x1f\x8bnonsense", "is not an intact gzip file"),
        (b"prompt,response\na,b,c\n", "1 of 1 rows cannot be used (row 1 has another number of fields than the header"),
        (b"{broken\n{broken\n", "no row is left"),
        (b"question,reward\na,b\n", "none known as its response; expected such as prompt, response and reference"),
        (b'{"chat": "a"}\n', "has the columns chat, none known as its prompt and response"),
    ],
)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_files_that_cannot_be_used(content: bytes, message: str, skip_bad: bool, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_responses(tmp_path / "f", skip_bad=skip_bad)
    assert message in str(error.value)
    assert str(error.value).isprintable()  # in one line, and without a NUL


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_responses(tmp_path)
    assert str(error.value) == (f"{str(tmp_path)!r} is a folder; expected a file: give the path of one in it")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "outputs.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"does not exist; did you mean 'outputs.jsonl' beside it\?"):
        read_responses(tmp_path / "output.jsonl")


def test_a_sample_that_is_duplicated(tmp_path: Path) -> None:
    jsonl(tmp_path / "f", [ours("a", 0, 0), ours("a", 0, 0), ours("a", "0", 1)])  # type: ignore[arg-type]
    with pytest.raises(DataError) as error:
        read_responses(tmp_path / "f")
    assert "row 2 repeats a, seed 0, sample 0 of an earlier row's prompt" in str(error.value)
    assert "row 3 has no model, seed and sample of the expected kinds" in str(error.value)
