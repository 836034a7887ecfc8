"""Prompts written by hand for each template, and read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_bench.data.hh import Message, form_prompt, render, split_turns
from rlhf_bench.errors import ModelError, UnknownName
from rlhf_bench.modeling.templates import Template

from .chat import make_tokenizer

ONE = "\n\nHuman: Name a colour.\n\nAssistant:"
TWO = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a colour.\n\nAssistant:"
TOKENIZER = SimpleNamespace(bos_token="<s>", eos_token="</s>", chat_template=None)
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("hh", ONE, TWO),
        ("plain", "Name a colour.\n\n", "Hi\n\nHello.\n\nName a colour.\n\n"),
        (
            "alpaca",
            f"{ALPACA}### Instruction:\nName a colour.\n\n### Response:\n",
            f"{ALPACA}### Instruction:\nHi\n\n### Response:\nHello.\n\n"
            "### Instruction:\nName a colour.\n\n### Response:\n",
        ),
        (
            "chatml",
            "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
            "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "llama2",
            "<s>[INST] Name a colour. [/INST]",
            "<s>[INST] Hi [/INST] Hello. </s><s>[INST] Name a colour. [/INST]",
        ),
    ],
)
def test_a_prompt_of_one_and_of_two_turns(name: str, one: str, two: str) -> None:
    template = Template.of(name, TOKENIZER)
    assert template.prompt(ONE) == one
    assert template.prompt(TWO) == two


def test_system_text_is_where_each_form_has_it() -> None:
    prompt = f"Be brief.{ONE}"
    assert split_turns(prompt)[0] == Message("system", "Be brief.")
    assert Template.of("llama2", TOKENIZER).prompt(prompt) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nName a colour. [/INST]"
    )
    assert Template.of("chatml", TOKENIZER).prompt(prompt).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


@pytest.mark.parametrize("prompt", [ONE, TWO, f"Be brief.{ONE}"])
def test_turns_make_the_same_prompt_again(prompt: str) -> None:
    assert render(split_turns(prompt)) == prompt


def test_a_prompt_without_turns_is_one_turn() -> None:
    assert split_turns(form_prompt("A post. TL;DR:")) == [Message("user", "A post. TL;DR:")]


@pytest.mark.parametrize(
    ("name", "written"), [("plain", "Blue."), ("alpaca", "Blue."), ("chatml", "Blue."), ("llama2", " Blue.")]
)
def test_what_is_before_a_response(name: str, written: str) -> None:
    """Llama 2 writes a space after [/INST] (`_llama2`, as its paper)."""
    template = Template.of(name, TOKENIZER)
    assert template.response(" Blue.") == template.response("Blue.") == written
    assert template.read("Blue.") == template.read("\n Blue.") == " Blue."
    assert template.read(" \n") == " \n"
    hh = Template.of("hh", TOKENIZER)
    assert (hh.response(" Blue."), hh.read("Blue."), hh.stop) == (" Blue.", "Blue.", ())


class Chatty:
    """A tokenizer with a chat template that refuses system text, as some do."""

    chat_template = "there"

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        if messages[0]["role"] == "system":
            raise ValueError("System role not supported\nat all")
        text = "".join(f"<{m['role']}>{m['content']}<turn>\n" for m in messages)
        return text + ("<assistant>" if add_generation_prompt else "")


def test_the_tokenizers_own_template_and_what_ends_its_turns() -> None:
    template = Template.of("chat", Chatty(), name="mine")
    assert template.prompt(TWO) == "<user>Hi<turn>\n<assistant>Hello.<turn>\n<user>Name a colour.<turn>\n<assistant>"
    assert template.stop == ("<turn>",)
    assert template.prompt(f"Be brief.{ONE}") == "<user>Be brief.\n\nName a colour.<turn>\n<assistant>"


def test_a_template_that_is_not_there() -> None:
    with pytest.raises(ModelError, match=r"mine: .*its tokenizer has no chat template"):
        Template.of("chat", TOKENIZER, name="mine")
    with pytest.raises(UnknownName, match="unknown prompt template 'chatlm'; did you mean 'chatml'"):
        Template.of("chatlm", TOKENIZER)


def test_the_command_line_knows_the_same_names() -> None:
    from rlhf_bench.cli import eval_given as command
    from rlhf_bench.data.response_columns import GIVEN

    assert command.COLUMNS == GIVEN


STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("\n\nHuman: a\n\nAssistant:", "[user]a[assistant]"),
        ("Be kind.\n\nHuman: a\n\nAssistant:", "[user]Be kind.\n\na[assistant]"),
        (
            "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nHuman: d\n\nAssistant:",
            "[user]a\n\nb[assistant]c[user]d[assistant]",
        ),
    ],
)
def test_turns_that_a_template_refuses_are_joined(prompt: str, written: str) -> None:
    template = Template.of("chat", make_tokenizer(template=STRICT))
    assert template.prompt(prompt) == written


def test_a_template_that_refuses_a_prompt_in_any_form_is_named() -> None:
    template = Template.of("chat", make_tokenizer(template=STRICT), name="mine")
    with pytest.raises(ModelError, match=r"^mine: its chat template refuses a prompt \(roles must alternate\)"):
        template.prompt("\n\nAssistant: a\n\nHuman: b\n\nAssistant:")
