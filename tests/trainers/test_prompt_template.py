"""Templates in training: every stage reads the same form, the checkpoint says which, evaluation and scoring follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import trainers.engine.rollout
from rlhf_bench.errors import BadValue, ModelError
from rlhf_bench.modeling.checkpoints import prompt_form
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.sampling import sample
from rlhf_bench.modeling.templates import Template
from rlhf_bench.modeling.tokens import encode
from rlhf_bench.types import TEMPLATES, Prompt
from trainers.config.checks import check_combinations
from trainers.config.loading import load_recipe
from trainers.config.recipe import DataConfig, Recipe
from trainers.engine.batches import encode_rows
from trainers.engine.rollout import RolloutMaker
from trainers.engine.stage import Stage

from .conftest import PAIRS, TOY, call, stage_in

QUESTION = "\n\nHuman: Blue?\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant:"
# what a model reads before " no", and its answer; end-of-text is the tokenizer's own
FORMS = {
    "hh": (QUESTION, " no"),
    "plain": ("Blue?\n\nYes.\n\nWhy?\n\n", "no"),
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nBlue?\n\n### Response:\nYes.\n\n### Instruction:\nWhy?\n\n### Response:\n",
        "no",
    ),
    "chatml": (
        "<|im_start|>user\nBlue?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n",
        "no",
    ),
    "llama2": ("<|endoftext|>[INST] Blue? [/INST] Yes. <|endoftext|><|endoftext|>[INST] Why? [/INST]", " no"),
    "chat": ("user: Blue?|assistant: Yes.|user: Why?|assistant: ", "no"),
}
CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def stage_of(template: str, folder: Path, name: str = "sft", max_prompt: int = 120, **more: Any) -> Stage:
    recipe = Recipe.model_validate(
        {
            "precision": "fp32",
            "data": {
                "source": "tests",
                "prompt_template": template,
                "max_prompt_tokens": max_prompt,
                "max_response_tokens": 8,
            },
            **more,
        }
    )
    return stage_in(folder, name, recipe, PAIRS)


def test_the_recipe_knows_every_template() -> None:
    assert set(FORMS) == set(TEMPLATES)
    for template in TEMPLATES:
        assert DataConfig(prompt_template=template).prompt_template == template  # type: ignore[arg-type]


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_stage_reads(policy_folder: Path, template: str) -> None:
    """Prompt and response separately, and end-of-text after the response whatever the form. Nothing is cut."""
    tokenizer = load_policy(policy_folder)[1]
    tokenizer.chat_template = CHAT
    row = encode_rows(stage_of(template, policy_folder, max_prompt=300).recipe, tokenizer, [QUESTION], [" no"])[0]
    prompt, response = FORMS[template]
    assert row.prompt == tokenizer(prompt)["input_ids"]
    assert row.response == [*tokenizer(response)["input_ids"], tokenizer.eos_token_id]


def test_a_rollout_prompts_in_the_template_and_scores_in_the_form_of_the_data(
    policy_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Prompt] = []
    scored: list[tuple[str, str]] = []

    def spy(model: Any, tokenizer: Any, prompts: Sequence[Prompt], config: Any, **options: Any) -> Any:
        asked.extend(prompts)
        assert config.stop == ("\n\nHuman:", "<|im_end|>")
        return sample(model, tokenizer, prompts, config, **options)

    def score(prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]) -> Tensor:
        scored.extend(zip(prompts, responses, strict=True))
        return torch.zeros(len(prompts))

    monkeypatch.setattr(trainers.engine.rollout, "sample", spy)
    # private, since the public way to other rewards, a function by its name, is given no spy
    monkeypatch.setattr(RolloutMaker, "_rewards", lambda self: (score, {}))
    stage = stage_of("chatml", tmp_path, "grpo", grpo={"batch_size": 3, "num_generations": 2})
    policy = LogprobModel(load_policy(policy_folder)[0])
    maker = RolloutMaker(stage, stage.recipe.grpo, policy, policy, tokenizer)
    rollout = maker.make(0, samples=2)
    write = Template.of("chatml", tokenizer)
    known = {pair.prompt: tuple(tokenizer(write.prompt(pair.prompt))["input_ids"]) for pair in PAIRS}
    assert [prompt.ids for prompt in asked] == [known[prompt.text] for prompt in asked]
    assert len(scored) == 6
    for (prompt, response), row in zip(scored, rollout.rows, strict=True):
        assert tuple(row.prompt) == known[prompt]
        assert not response.strip() or (response[0] == " " and response[1] != " ")
    # and log-probabilities of the reference are of these prompts
    assert torch.equal(rollout.reference_logps, maker.logps(policy, rollout.batch))


def test_a_tokenizer_without_the_template(policy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"^data\.prompt_template=chat: "):
        check_combinations(load_recipe("mini", ["data.prompt_template=chat"]))
    done = call(
        "train", "base", "--checkpoints", tmp_path, "--set", f"model={policy_folder}",
        "--set", "data.prompt_template=chat", "--set", "data.limit=5",
    )  # fmt: skip
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {policy_folder}: the prompt template is chat, but its tokenizer has no chat template"
    )
    with pytest.raises(BadValue, match=r"data\.prompt_template: given \"vicuna\", expected 'hh', 'plain'"):
        load_recipe("mini", ["data.prompt_template=vicuna"])
    with pytest.raises(ModelError, match="no chat template"):
        encode_rows(stage_of("chat", policy_folder).recipe, load_policy(policy_folder)[1], ["p"], ["r"])


@pytest.mark.usefixtures("no_report")
def test_evaluation_and_scoring_take_the_form_that_the_checkpoint_names(tmp_path: Path) -> None:
    where = ["--run", "toy", "--checkpoints", tmp_path]
    settings = ["--set", "data.prompt_template=plain", "--set", "grpo.steps=1"]
    done = call("train", "grpo", "--recipe", TOY, *where, *settings)
    assert done.exit_code == 0, done.stderr
    run = tmp_path / "toy"
    assert {prompt_form(run / stage) for stage in ("base", "sft", "reward", "grpo")} == {"plain"}
    reward = RewardModel.load(run / "reward", max_prompt=60, max_response=20)
    ours = reward.encode([QUESTION], [" no"])
    assert ours == encode(reward.tokenizer, [FORMS["plain"][0]], ["no"], max_prompt=60, max_response=20)

    done = call("eval", *where, "--results", tmp_path / "r", "--limit", "2", "--samples", "1",
                "--model", f"again={run / 'grpo'}")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    result = next((tmp_path / "r").rglob("manifest.json"))
    models = json.loads(result.read_text())["models"]
    assert {name: entry[0].get("template") for name, entry in models.items()} == dict.fromkeys(
        ("base", "sft", "grpo", "again"), "plain"
    )
    found = json.loads(result.with_name("metrics.json").read_text())
    assert "kl_exact" in found["models"]["grpo"]
    assert found["models"]["again"]["perplexity"]["value"] == found["models"]["grpo"]["perplexity"]["value"]


def test_a_checkpoint_that_says_nothing_reads_the_hh_form(policy_folder: Path) -> None:
    assert prompt_form(policy_folder) == prompt_form("a-name/on-the-hub") == "hh"
