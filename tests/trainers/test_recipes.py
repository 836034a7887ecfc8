"""Each published pipeline's recipe, from its first stage to its suite, on stand-ins: rows of the data's form, and a
GPT-2 of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_bench.data import mini
from rlhf_bench.files import read_jsonl, write_jsonl

from ..rlhf_bench.tiny import save_policy
from .conftest import call

# what is trained, and the stand-in's own sizes
RECIPES = {
    "reddit-grpo": ({"base", "sft", "reward", "grpo"}, ["sft.max_steps=1"]),
    "hh-ppo-grpo-dpo": (
        {"base", "reward", "ppo", "grpo", "dpo"},
        ["reward.save_steps=1", "reward.max_steps=2", "reward.checkpoint=1", "ppo.steps=2"],
    ),
    "hh-sft-ppo-grpo-dpo": ({"base", "sft", "reward", "ppo", "grpo", "dpo"}, ["sft.max_steps=1"]),
    "guide": (
        {"base", "sft", "reward", "ppo", "grpo", "dpo"},
        ["sft.max_steps=3", "sft.warmup_steps=2", "ppo.batch_size=8", "ppo.minibatches=2"],
    ),
    "instruct-ppo": ({"base", "sft", "reward", "ppo"}, ["sft.max_steps=1", "ppo.batch_size=4"]),
}
ROLLOUTS = ("eval_size=2", "max_prompt_tokens=48", "max_response_tokens=8")
SMALL = [
    "precision=fp32", "data.max_prompt_tokens=64", "data.max_response_tokens=12", "reward.eval_size=4",
    *(f"ppo.{key}" for key in ROLLOUTS), *(f"grpo.{key}" for key in ROLLOUTS),
]  # fmt: skip
LENGTHS = {"reward": "max_steps=1", "dpo": "max_steps=1", "ppo": "steps=1", "grpo": "steps=1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_policy(tmp_path_factory.mktemp("models") / "gpt2")


def write_rows(path: Path, recipe: str) -> Path:
    """Rows of the form of the recipe's data: whole dialogues for HH, else prompt, chosen and rejected."""
    pairs = mini.generate("train", n=40)
    if recipe.startswith("hh-"):
        rows = [{"chosen": p.prompt + p.chosen, "rejected": p.prompt + p.rejected} for p in pairs]
    else:
        rows = [{"prompt": f"{i}. Say it.", "chosen": p.chosen, "rejected": p.rejected} for i, p in enumerate(pairs)]
    write_jsonl(path, rows)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_from_first_stage_to_suite(recipe: str, model: Path, tmp_path: Path) -> None:
    stages, own = RECIPES[recipe]
    data = write_rows(tmp_path / "rows.jsonl", recipe)
    lengths = [f"{stage}.{text}" for stage, text in LENGTHS.items() if stage in stages]
    small = [text for text in SMALL if text.partition(".")[0] in {"precision=fp32", "data", *stages}]
    if recipe == "guide":
        shown = [{"instruction": f"{i}. Name it.", "input": "A colour.", "output": "Blue."} for i in range(40)]
        write_jsonl(tmp_path / "alpaca.jsonl", [*shown, {"instruction": "", "input": "", "output": "Red."}])
        own = [*own, f"sft.source={tmp_path / 'alpaca.jsonl'}"]
    settings = [f"model={model}", f"data.source={data}", *small, *lengths, *own]
    sets = [word for text in settings for word in ("--set", text)]
    trained = call("train", "all", "--recipe", recipe, *sets, "--checkpoints", tmp_path / "c")
    assert trained.exit_code == 0, trained.output
    run = tmp_path / "c" / "default"
    assert {path.name for path in run.iterdir() if (path / "training.json").exists()} == stages
    assert f"next: rlhf-bench eval --suite {recipe} --run default" in trained.output

    done = call(
        "eval", "--suite", recipe, "--run", "default", "--checkpoints", tmp_path / "c", "--results", tmp_path / "r",
        "--set", "prompts=3", "--set", "max_new_tokens=8", "--set", "resamples=100",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    metrics = json.loads((tmp_path / "r" / recipe / "default" / "metrics.json").read_text())
    assert set(metrics["models"]) >= stages - {"reward"}
    if recipe == "hh-ppo-grpo-dpo":
        training = json.loads((run / "ppo" / "training.json").read_text())
        step = json.loads((run / "reward-steps" / "checkpoint-1" / "training.json").read_text())
        assert training["reward"]["source_hashes"] == {"checkpoint-1": step["hash"]}
        assert set(training["parents"]) == {"base", "reward"}
    if recipe == "guide":
        record = json.loads((run / "sft" / "training.json").read_text())["demonstrations"]
        assert (record["empty"], 30 <= record["rows"] < 40) == (1, True)
        rates = [row["learning_rate"] for row in read_jsonl(run / "sft" / "log.jsonl")]
        assert rates[:2] == pytest.approx([1e-5, 2e-5])  # two steps of warm-up to 2e-5
        row = read_jsonl(run / "grpo" / "log.jsonl")[0]
        assert 0 < row["sampling/nucleus_mass"] < 1
        assert row["sampling/nucleus_kl"] > 0
