from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_bench.data.responses import read_responses
from rlhf_bench.data.strip import STRIPPED, carried, strip

PROMPT = "\n\nHuman: Where is Lima?\n\nAssistant:"
TWO = f"{PROMPT} In Peru.\n\nHuman: And where is Oslo?\n\nAssistant:"


@pytest.mark.parametrize(
    ("prompt", "text", "kinds"),
    [
        (PROMPT, "A.", []),
        (PROMPT, "Where is Lima? A.", ["prompt"]),
        (PROMPT, "Where  is\nLima?\n\nA.", ["prompt"]),
        (PROMPT, f"{PROMPT} A.", ["prompt"]),
        (PROMPT, "Human: Where is Lima?\n\nAssistant: A.", ["prompt"]),
        (TWO, f"{TWO} A.", ["prompt"]),
        (TWO, "And where is Oslo? A.", ["prompt"]),
        ("\n\nHuman: Hello\n\nAssistant:", "Hello there.", []),  # an answer may begin like a short prompt
        (PROMPT, "<think>\nHm.\n</think>\n\nA.", ["think"]),
        (PROMPT, "<think></think>A.", ["think"]),
        (PROMPT, "Hm.\n</think>\nA.", ["think"]),  # the template wrote the opening tag
        (PROMPT, "<thinking>Hm.</thinking><reasoning>So.</reasoning> A.", ["think"]),
        (PROMPT, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A.", None),
        (PROMPT, "A.<|im_end|>", ["special"]),
        (PROMPT, "A.</s></s>", ["special"]),
        (PROMPT, "<s> A.<|eot_id|>more", ["special"]),
        (PROMPT, "A.<|im_end|>\n<|im_start|>user\nMore?", ["special"]),
        (PROMPT, "<|im_start|>user\nWhere is Lima?<|im_end|>\n<|im_start|>assistant\nA.<|im_end|>", ["special"]),
        (PROMPT, "Where is Lima? <think>Hm.</think> A.</s>", None),
    ],
)
def test_what_is_found_and_taken_out(prompt: str, text: str, kinds: list[str] | None) -> None:
    """None: kinds that only show once another is taken out."""
    if kinds is not None:
        assert carried(text, prompt) == kinds
    if "there" not in text:
        assert strip(text, prompt, tuple(STRIPPED)).strip() == "A."
    assert strip(text, prompt, ()) == text


def test_thoughts_that_never_end_leave_nothing() -> None:
    assert strip("<think>So long", PROMPT, ("think",)) == ""
    assert carried("<think>So long", PROMPT) == ["think"]


def test_a_comparison_is_no_thought() -> None:
    text = "If a < b then </b> is odd, and x[0] > 1."
    assert carried(text, PROMPT) == []


def test_they_are_counted_and_taken_out_of_a_file(tmp_path: Path) -> None:
    texts = ["Where is Lima? A.", "<think>Hm.</think> A.", "A.", "<think>Hm"]
    file = tmp_path / "f.jsonl"
    file.write_text("".join(json.dumps({"prompt": "Where is Lima?", "response": text}) + "\n" for text in texts))
    read = read_responses(file)
    assert [answer.text for answer in read.models[0].by_prompt[PROMPT]] == [f" {text}" for text in texts]
    assert read.carried == [
        f"{file}: 1 of 4 responses begin with their prompt; --strip prompt takes it out",
        f"{file}: 2 of 4 responses hold thoughts (<think>); --strip think takes it out",
    ]
    stripped = read_responses(file, stripped=("think",))
    assert [answer.text for answer in stripped.models[0].by_prompt[PROMPT]] == [f" {texts[0]}", " A.", " A.", ""]
    assert stripped.carried[1].endswith("taken out by --strip")
    assert f"{file}: 1 of 4 responses are empty" in stripped.notes
