"""Responses in the files of other tools, under ambiguous names, with several references, or without prompts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from rlhf_bench.data.responses import Answer, ResponseFile, read_responses
from rlhf_bench.errors import DataError

CASES = Path(__file__).parents[3].parent / "shared" / "cases" / "responses"
EGG = "\n\nHuman: How long for an egg?\n\nAssistant:"
Row = dict[str, Any]


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def assistant(text: Any) -> Row:
    return {"role": "assistant", "content": text}


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def answers(file: ResponseFile) -> dict[tuple[str | None, str], Sequence[Answer]]:
    return {(m.model, prompt): samples for m in file.models for prompt, samples in m.by_prompt.items()}


def one(path: Path, *rows: Any, **options: Any) -> tuple[str | None, str, list[str], tuple[str, ...]]:
    """(model, prompt, samples, references) of a file with the responses to one prompt."""
    file = read_responses(jsonl(path, *rows), **options)
    ((model, prompt), samples), *others = answers(file).items()
    assert others == []
    return model, prompt, [answer.text for answer in samples], samples[0].references


# --- which column is the response -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "response", "reference"),
    [
        (("question", "answer", "pred"), "pred", "answer"),
        (("prompt", "answer", "prediction"), "prediction", "answer"),
        (("instruction", "output", "generated_text"), "generated_text", "output"),
        (("prompt", "completion", "generated_text"), "generated_text", "completion"),
        (("Question", "Answer", "Model_Output"), "Model_Output", "Answer"),
        (("prompt", "answer", "target"), "answer", "target"),
        (("prompt", "completion"), "completion", None),
        (("question", "answer"), "answer", None),
    ],
)
def test_the_gold_answer_is_not_the_response(
    names: tuple[str, ...], response: str, reference: str | None, tmp_path: Path
) -> None:
    row = {name: "How long for an egg?" if i == 0 else name for i, name in enumerate(names)}
    expected = () if reference is None else (f" {reference}",)
    assert one(tmp_path / "f", row) == (None, EGG, [f" {response}"], expected)


@pytest.mark.parametrize(
    ("names", "both"),
    [
        (("question", "answer", "output"), ("output", "answer")),
        (("question", "response", "pred"), ("response", "pred")),
        (("question", "answer", "completion", "pred"), ("completion", "answer")),
    ],
)
def test_two_readings_are_refused_and_named(names: tuple[str, ...], both: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_responses(jsonl(tmp_path / "f", dict.fromkeys(names, "text")))
    role = "reference" if "pred" in names and "answer" in names else "response"
    for name in both:
        assert f"{role}={name}" in str(error.value)


# --- references -------------------------------------------------------------------------------------------------------


def test_each_response_has_its_own_references(tmp_path: Path) -> None:
    rows = [
        {"prompt": "How long for an egg?", "response": "x", "reference": "a"},
        {"prompt": "How long for an egg?", "response": "y", "reference": ["b", "c", "b", None]},
        {"prompt": "How long for an egg?", "response": "z", "reference": ""},
    ]
    file = read_responses(jsonl(tmp_path / "f", *rows))
    assert [answer.references for answer in answers(file)[None, EGG]] == [(" a",), (" b", " c"), ()]
    assert file.references == {EGG: " a"}


def test_references_as_text_in_a_csv(tmp_path: Path) -> None:
    row = {"prompt": "How long for an egg?", "response": "x", "references": '["a", "b"]'}
    pd.DataFrame([row]).to_csv(tmp_path / "f", index=False)
    assert answers(read_responses(tmp_path / "f"))[None, EGG][0].references == (" a", " b")


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        {"content": "x"},
        assistant("x"),
        [assistant("x")],
        [user("How long for an egg?"), assistant([{"type": "text", "text": "x"}])],
        [{"generated_text": "x"}],
        json.dumps([assistant("x")]),
    ],
)
def test_a_nested_response(response: Any, tmp_path: Path) -> None:
    assert one(tmp_path / "f", {"prompt": "How long for an egg?", "response": response})[2] == [" x"]


def test_a_list_of_responses_is_samples(tmp_path: Path) -> None:
    assert one(tmp_path / "f", {"prompt": "How long for an egg?", "responses": ["x", "y"]})[2] == [" x", " y"]


def test_the_systems_text_is_before_the_prompt(tmp_path: Path) -> None:
    row = {"system": "Be brief.", "prompt": "How long for an egg?", "response": "x"}
    assert one(tmp_path / "f", row)[1] == f"Be brief.{EGG}"


# --- other tools ------------------------------------------------------------------------------------------------------


def test_lm_evals_samples(tmp_path: Path) -> None:
    row = {
        "doc_id": 0, "doc": {"question": "?"}, "target": "eight", "resps": [["x"]], "filtered_resps": ["8"],
        "arguments": {"gen_args_0": {"arg_0": "How long for an egg?", "arg_1": {}}},
    }  # fmt: skip
    assert one(tmp_path / "f", row) == (None, EGG, [" x"], (" eight",))
    old = row | {"arguments": [["How long for an egg?", {"until": []}]], "doc_hash": "h", "resps": [["x", "y"]]}
    filters = [old | {"filter": name, "filtered_resps": [name]} for name in ("strict", "flexible")]
    assert one(tmp_path / "f", *filters) == (None, EGG, [" x", " y"], (" eight",))
    with pytest.raises(DataError, match="a task that compares log-probabilities has none"):
        read_responses(jsonl(tmp_path / "f", row | {"resps": [[[-1.0, False]], [[-2.0, True]]]}))


def test_batch_output(tmp_path: Path) -> None:
    chat = {"choices": [{"message": assistant("x"), "finish_reason": "length"}], "model": "m"}
    text = {"choices": [{"text": "y"}, {"text": "z"}], "model": "m"}
    output = {"output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "w"}]}]}
    rows = [
        {"custom_id": f"r{i}", "response": {"status_code": 200, "body": body}, "error": None}
        for i, body in enumerate([chat, text, output])
    ]
    file = read_responses(jsonl(tmp_path / "f", *rows))
    texts = {key[1]: [answer.text for answer in samples] for key, samples in answers(file).items()}
    assert texts == {f"\n\nHuman: (id r{i})\n\nAssistant:": t for i, t in enumerate([[" x"], [" y", " z"], [" w"]])}
    assert answers(file)["m", "\n\nHuman: (id r0)\n\nAssistant:"][0].finish_reason == "length"
    assert any("3 of 3 prompts are not in the file" in note for note in file.notes)
    failed = {"custom_id": "r3", "response": {"status_code": 500, "body": {}}, "error": None}
    with pytest.raises(DataError, match=r"row 4 is a request that failed \(status 500\)"):
        read_responses(jsonl(tmp_path / "f", *rows, failed))


SAMPLE = {
    "id": 1, "epoch": 1, "input": [user("How long for an egg?")], "target": ["eight", "8"],
    "output": {
        "model": "m",
        "choices": [
            {
                "message": assistant([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "x"}]),
                "stop_reason": "max_tokens",
            }
        ],
    },
}  # fmt: skip


def inspect_log(path: Path, *, zstd: bool = False) -> None:
    """As inspect_ai writes it; zipfile cannot write zstd, so the entry is written stored, and its header changed."""
    log = {"eval": {"model": "m"}}
    sample = json.dumps(SAMPLE).encode()
    packed = pa.compress(sample, codec="zstd", asbytes=True) if zstd else sample
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps(log))
        archive.writestr("samples/1_epoch_1.json", packed)
        archive.writestr("header.json", json.dumps(log))
        if zstd:
            archive.getinfo("samples/1_epoch_1.json").compress_type = 93


@pytest.mark.parametrize("zstd", [False, True])
def test_inspects_logs(zstd: bool, tmp_path: Path) -> None:
    inspect_log(tmp_path / "log.eval", zstd=zstd)
    file = read_responses(tmp_path / "log.eval")
    assert answers(file) == {
        ("m", EGG): [Answer(" x", "length", pytest.approx(float("nan"), nan_ok=True), (" eight", " 8"))]
    }
    assert "a log of inspect_ai" in file.notes[0]


def test_inspects_json_log(tmp_path: Path) -> None:
    log = {"version": 2, "status": "success", "eval": {"model": "m"}, "samples": [SAMPLE]}
    (tmp_path / "log.json").write_text(json.dumps(log, indent=1))
    ((key, (answer,)),) = answers(read_responses(tmp_path / "log.json")).items()
    assert (key, answer.text) == (("m", EGG), " x")


def test_mt_benchs_two_turns(tmp_path: Path) -> None:
    row = {"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["x", "y"]}], "tstamp": 1.0}
    asked = row | {"turns": ["How long for an egg?", "And a big one?"]}
    first, second = answers(read_responses(jsonl(tmp_path / "f", asked))).items()
    assert (first[0], first[1][0].text) == (("m", EGG), " x")
    assert second[0] == ("m", f"{EGG} x\n\nHuman: And a big one?\n\nAssistant:")
    assert second[1][0].text == " y"
    # without the questions ids stand for them, the same for every model
    prompts = [prompt for _, prompt in answers(read_responses(jsonl(tmp_path / "f", row)))]
    assert prompts == [f"\n\nHuman: (question 81, turn {turn})\n\nAssistant:" for turn in (1, 2)]


def test_arena_hards_answers(tmp_path: Path) -> None:
    row = {"question_id": "a1", "model_id": "m", "choices": [{"turns": [{"content": "x", "token_len": 1}]}]}
    assert one(tmp_path / "f", row)[2] == [" x"]
    newer = {"uid": "a1", "model": "m", "messages": [user("How long for an egg?"), assistant({"answer": "x"})]}
    assert one(tmp_path / "f", newer) == ("m", EGG, [" x"], ())


def test_a_row_of_another_shape_is_named(tmp_path: Path) -> None:
    row = {"question_id": 81, "model_id": "m", "choices": [{"turns": ["x"]}]}
    with pytest.raises(DataError, match="row 2 is not of the form of model answers"):
        read_responses(jsonl(tmp_path / "f", row, row | {"choices": 3}))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user("How long for an egg?"), assistant("x")]},
        {"conversations": [{"from": "human", "value": "How long for an egg?"}, {"from": "gpt", "value": "x"}]},
    ],
)
def test_conversations(row: Row, tmp_path: Path) -> None:
    assert one(tmp_path / "f", row) == (None, EGG, [" x"], ())


def test_predictions_without_prompts_are_numbered(tmp_path: Path) -> None:
    given = {"predictions": ["x", "y"], "references": [["a"], ["b", "c"]]}
    (tmp_path / "f").write_text(json.dumps(given))
    file = read_responses(tmp_path / "f")
    assert {prompt: (a.text, a.references) for (_, prompt), (a,) in answers(file).items()} == {
        "\n\nHuman: (row 1)\n\nAssistant:": (" x", (" a",)),
        "\n\nHuman: (row 2)\n\nAssistant:": (" y", (" b", " c")),
    }
    assert any("2 of 2 prompts are not in the file" in note for note in file.notes)


def test_a_prompt_under_an_unknown_name_is_not_numbered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none known as its prompt"):
        read_responses(jsonl(tmp_path / "f", {"task text": "How long for an egg?", "prediction": "x"}))


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table", "records"])
def test_pandas_json(orient: Any, tmp_path: Path) -> None:
    pd.DataFrame([{"prompt": "How long for an egg?", "response": "x"}]).to_json(tmp_path / "f", orient=orient)
    assert answers(read_responses(tmp_path / "f")).keys() == {(None, EGG)}


# --- the cases beside the checkout ------------------------------------------------------------------------------------

LIMA = "\n\nHuman: What should I see in Lima?\n\nAssistant:"
SEEN = " In Lima, start with the old market, then walk to the river before sunset."


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "prompt", "response", "references"),
    [
        ("question-answer-pred.jsonl", LIMA, " I do not know anything about Lima.", (SEEN,)),
        ("prompt-echoed.jsonl", LIMA, SEEN, (SEEN,)),
        ("think-blocks.jsonl", LIMA, SEEN, (SEEN,)),
        ("r_lmeval.jsonl", LIMA, SEEN, (SEEN,)),
        ("r_openai_batch.jsonl", "\n\nHuman: (id r0)\n\nAssistant:", SEEN, ()),
        ("r_messages.jsonl", LIMA, SEEN, ()),
    ],
)
def test_cases(name: str, prompt: str, response: str, references: tuple[str, ...]) -> None:
    file = read_responses(CASES / name, stripped=("prompt", "think", "special"))
    (answer,) = answers(file)[None, prompt]
    assert (answer.text, answer.references) == (response, references)
    assert len(answers(file)) == 12
    assert bool(file.carried) == (name in ("prompt-echoed.jsonl", "think-blocks.jsonl"))


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not beside this checkout")
def test_the_case_of_two_references() -> None:
    found = answers(read_responses(CASES / "two-references.jsonl"))
    assert all((answer.text,) == answer.references for samples in found.values() for answer in samples)
    assert {len(samples) for samples in found.values()} == {2}
