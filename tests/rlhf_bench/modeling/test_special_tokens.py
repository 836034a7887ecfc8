"""Beginning of sequence, ends of a response, and text that spells a special token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from rlhf_bench.modeling.checkpoints import prompt_form
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.perplexity_model import LanguageModel
from rlhf_bench.modeling.reward_form import make_form
from rlhf_bench.modeling.sampling import SamplingConfig, sample
from rlhf_bench.modeling.special import continued_text, end_ids, generation_config, line_end_ids, prefix_ids
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import encode, encode_prompts
from rlhf_bench.types import Completion, Prompt

from .architectures import tiny_model
from .chat import CHATML, LLAMA3, make_spaced_tokenizer, make_tokenizer

HH = "\n\nHuman: Blue?\n\nAssistant:"
BOS, EOS, START, END = 1, 2, 3, 4


@pytest.mark.parametrize("form", ["hh", "plain", "alpaca", "chatml", "llama2", "chat"])
def test_every_form_has_the_beginning_of_sequence_once_and_no_end(form: str) -> None:
    tokenizer = make_tokenizer(bos=True, template=LLAMA3)
    template = Template.of(form, tokenizer)
    ((ids, _),) = encode_prompts(tokenizer, [template.prompt(HH)], max_prompt=99)
    assert (ids[0], ids.count(BOS), ids.count(EOS)) == (BOS, 1, 0)


def test_a_cut_prompt_keeps_its_beginning_of_sequence() -> None:
    tokenizer = make_tokenizer(bos=True)
    (whole, _), (cut, was_cut) = (encode_prompts(tokenizer, [HH], max_prompt=n)[0] for n in (99, 6))
    assert (cut, was_cut) == ([BOS, *whole[-5:]], True)


LONG = "Be kind.\n\nHuman: one two three\n\nAssistant: four five\n\nHuman: six seven\n\nAssistant:"


@pytest.mark.parametrize("form", ["hh", "alpaca", "chatml", "chat"])
def test_a_prompt_that_is_too_long_loses_whole_turns_after_the_templates_head(form: str) -> None:
    tokenizer = make_tokenizer(bos=True, template=LLAMA3)
    template = Template.of(form, tokenizer)
    shorter = LONG.replace("\n\nHuman: one two three\n\nAssistant: four five", "")
    (expected, _), (whole, was_cut) = template.encode_prompts([shorter, LONG], max_prompt=999)
    assert (was_cut, len(whole) > len(expected)) == (False, True)
    for room in (len(whole) - 1, len(expected)):
        assert template.encode_prompts([LONG], max_prompt=room) == [(expected, True)]
    # of the last turn that is too long by itself the beginning goes, the head and the cue stay
    ((cut, _),) = template.encode_prompts([LONG], max_prompt=len(expected) - 1)
    assert tokenizer.decode(cut) == tokenizer.decode(expected).replace("six ", "")


def test_a_foreign_reward_models_conversation_loses_whole_turns() -> None:
    tokenizer = make_tokenizer(template=CHATML)
    form = make_form("chat", tokenizer, trained_here=False)
    limits = {"max_response": 99}
    shorter = LONG.replace("\n\nHuman: one two three\n\nAssistant: four five", "")
    ((kept),) = form.encode([shorter], [" Yes."], [True], max_prompt=999, **limits)
    ((cut),) = form.encode([LONG], [" Yes."], [True], max_prompt=len(kept.prompt) + 1, **limits)
    assert cut == kept._replace(prompt_cut=True)


def test_a_tokenizer_that_puts_nothing_in_front() -> None:
    tokenizer = make_tokenizer()
    assert prefix_ids(tokenizer) == []
    assert encode_prompts(tokenizer, [HH], max_prompt=99)[0][0] == tokenizer(HH)["input_ids"]


def test_perplexity_reads_the_beginning_of_sequence_of_a_cut_prompt_too() -> None:
    """Likelihoods of plain transformers on plain tokens."""
    tokenizer, model = make_tokenizer(bos=True), tiny_model("llama", vocab_size=400)
    reader = LanguageModel(model, tokenizer)
    for limit in (99, 14):
        reader.limit = limit
        (row,) = reader.encode([HH], [" Blue."], [True])
        ids = tokenizer(HH + " Blue.")["input_ids"]  # <s> ... </s>
        ids = ids if limit == 99 else [BOS, *ids[-13:]]
        assert row.prompt + row.response == ids
        with torch.no_grad():
            table = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(table[i - 1, ids[i]].item() for i in range(len(row.prompt), len(ids)))
        assert reader.score([HH], [" Blue."], [True]).logprob.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("form", ["hh", "plain", "chatml", "chat"])
def test_text_that_spells_a_special_token_stays_text(form: str) -> None:
    """The template's own tokens are those; a user's <|im_end|> and </s> are characters."""
    tokenizer = make_tokenizer(template=CHATML)
    template = Template.of(form, tokenizer)
    innocent, spelled = (template.prompt(f"\n\nHuman: a{text}b\n\nAssistant:") for text in ("", "<|im_end|></s><s>"))
    (plain, _), (marked, _) = encode_prompts(tokenizer, [innocent, spelled], max_prompt=999)
    special = {BOS, EOS, START, END}
    assert [i for i in marked if i in special] == [i for i in plain if i in special]
    assert "a<|im_end|></s><s>b" in tokenizer.decode(marked)
    (row,) = encode(
        tokenizer, [innocent], [template.response(" x</s>y")], max_prompt=999, max_response=99, end_id=template.end_id
    )
    assert [i for i in row.response if i in special] == [row.response[-1]]
    assert tokenizer.decode(row.response[:-1]).endswith("x</s>y")


def test_the_learned_end_is_the_templates() -> None:
    """Of a chat template that ends a turn with another token than end-of-text, that token; else end-of-text."""
    tokenizer = make_tokenizer(template=CHATML)
    ends = {form: Template.of(form, tokenizer).end_id for form in ("hh", "chatml", "chat")}
    assert ends == {"hh": None, "chatml": END, "chat": END}
    template = Template.of("chat", tokenizer)
    (row,) = encode(
        tokenizer, [template.prompt(HH)], [template.response(" Blue.")], max_prompt=99, max_response=99,
        end_id=template.end_id,
    )  # fmt: skip
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Blue?"}, {"role": "assistant", "content": "Blue."}], tokenize=True
    )["input_ids"]
    assert row.prompt + row.response == whole[:-1]  # all but the line end after <|im_end|>
    assert template.describe() == {"template": "chat", "front": [], "end": "<|im_end|>"}


# sampling


def says(token: int, *, after: int = 3, **options: Any) -> tuple[Completion, float]:
    """A response in which `token` is all but certain at step `after`, and its log-probability by plain transformers."""
    tokenizer = make_tokenizer(template=CHATML, eos=options.pop("eos", "</s>"))
    model = tiny_model("llama", vocab_size=400)
    if "ends" in options:
        model.generation_config = GenerationConfig(eos_token_id=options.pop("ends"))
    prompt = Prompt("id", HH)
    config = SamplingConfig(max_new_tokens=12, **options)
    layer = torch.nn.Linear(32, 400)
    layer.weight = model.lm_head.weight  # type: ignore[union-attr, assignment]
    with torch.no_grad():
        layer.bias.zero_()
        layer.bias[torch.arange(400) < 7] = -30.0
        layer.bias[token] = 12.0
    model.lm_head = layer
    ((completion,),) = sample(model, tokenizer, [prompt], config, seed=after)
    ids = torch.tensor([tokenizer(HH)["input_ids"] + list(completion.ids)])
    with torch.no_grad():
        table = model(ids).logits[0].log_softmax(-1)
    start = ids.shape[1] - len(completion.ids) - 1
    return completion, sum(table[start + i, token].item() for i, token in enumerate(completion.ids))


@pytest.mark.parametrize(
    "options",
    [
        {"ends": [EOS, END]},  # listed in generation_config alone
        {"ends": END},
        {"eos": "<|im_end|>", "stop": ("<|im_end|>",)},  # the model's own end is a stop string as well
        {"stop": ("\n\nHuman:", "<|im_end|>")},  # a stop string that is one special token
    ],
)
def test_every_end_token_ends_a_response_and_counts(options: dict[str, Any]) -> None:
    completion, logprob = says(END, **options)
    assert completion.finish_reason == "eos"
    assert (completion.ids[-1], completion.stop_ids) == (END, ())
    assert END not in completion.ids[:-1]
    assert "<|im_end|>" not in completion.text
    assert sum(completion.logps) == pytest.approx(logprob, abs=1e-3)


def test_an_end_token_that_nothing_names_ends_nothing() -> None:
    assert says(END)[0].finish_reason == "length"


# what is saved


def test_generation_config_is_kept_and_added_to() -> None:
    tokenizer, model = make_tokenizer(), tiny_model("llama", vocab_size=400)
    model.generation_config = GenerationConfig(eos_token_id=[EOS, 9], temperature=0.6, top_k=5, do_sample=False)
    kept = generation_config(model, tokenizer, END)
    assert kept.eos_token_id == [EOS, 9, END]
    assert (kept.temperature, kept.top_k, kept.do_sample) == (0.6, 5, False)
    assert (kept.bos_token_id, kept.pad_token_id) == (BOS, 0)
    assert model.generation_config.eos_token_id == [EOS, 9]
    model.generation_config = GenerationConfig()
    bare = generation_config(model, tokenizer)
    assert (bare.eos_token_id, bare.do_sample) == (EOS, True)
    assert end_ids(model, tokenizer) == [EOS]


# a model's own form


def test_a_model_with_a_chat_template_and_no_training_is_prompted_in_it(tmp_path: Path) -> None:
    for name, template in (("with", CHATML), ("without", None)):
        tiny_model("llama", vocab_size=400).save_pretrained(tmp_path / name)
        make_tokenizer(template=template).save_pretrained(tmp_path / name)
    assert [prompt_form(tmp_path / name) for name in ("with", "without")] == ["chat", "hh"]
    (tmp_path / "with" / "training.json").write_text('{"prompt_form": "plain"}')
    assert prompt_form(tmp_path / "with") == "plain"
    model, tokenizer = load_policy(tmp_path / "without")
    assert prefix_ids(tokenizer) == []
    assert end_ids(model, tokenizer) == [EOS]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize(
    ("prompt", "response"), [("\n\nHuman: Colour?\n\nAssistant:", " Blue."), ("Colour?\n", "Blue.")]
)
def test_a_response_has_no_space_that_its_tokenizer_puts_before_a_text(
    legacy: bool, prompt: str, response: str
) -> None:
    """Tokens of prompt and response joined are those of the whole text, and the response's decode to its text."""
    tokenizer = make_spaced_tokenizer(legacy=legacy)
    (row,) = encode(tokenizer, [prompt], [response], max_prompt=99, max_response=99)
    whole = tokenizer(prompt + response, add_special_tokens=False)["input_ids"]
    assert row.prompt + row.response[:-1] == whole
    assert tokenizer.convert_ids_to_tokens(row.response[:1]) == ["\u2581Blue" if response[0] == " " else "Blue"]
    assert continued_text(tokenizer, row.response[:-1]) == response
    bytewise = make_tokenizer()
    assert line_end_ids(bytewise) == []
    ids = bytewise(response, add_special_tokens=False)["input_ids"]
    assert continued_text(bytewise, ids) == response


MISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
TURNS = "{% for m in messages %}{{ m['role'] }}\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
WITH_HEAD = TURNS + "{% if add_generation_prompt %}assistant\n{% endif %}"


@pytest.mark.parametrize("template", [MISTRAL, WITH_HEAD])
@pytest.mark.parametrize("tokenizer", ["bytes", "spaced", "legacy"])
def test_a_chat_prompt_and_its_response_are_the_tokens_of_the_whole_conversation(tokenizer: str, template: str) -> None:
    """By plain calls of the tokenizer. Mistral's template has a space between the two, others have none."""
    made = (
        make_tokenizer(template=template)
        if tokenizer == "bytes"
        else make_spaced_tokenizer(legacy=tokenizer == "legacy", template=template)
    )
    messages = [{"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "Blue."}]
    whole = made(made.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    prompt, response = ["\n\nHuman: Colour?\n\nAssistant:"], [" Blue."]
    (row,) = Template.of("chat", made).encode(prompt, response, max_prompt=99, max_response=99)
    joined = row.prompt + row.response
    assert joined == whole[: len(joined)]
    assert made.decode(whole[len(joined) :]).strip() == ""
