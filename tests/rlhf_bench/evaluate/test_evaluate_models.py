"""Models from elsewhere: no run, adapters, templates, several reward models."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_bench import evaluate as evaluation
from rlhf_bench.errors import BadValue, BenchError, CheckpointError, MissingExtra, ModelError
from rlhf_bench.files import read_jsonl
from rlhf_bench.modeling import adapters, opening, sampling
from rlhf_bench.modeling import models as loading
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import model_hash
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.report.screen import summary_text

from ..tiny import Log, save_elsewhere, save_reward, write_training


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models a and b of one tokenizer, two reward models, and a file of pairs."""
    folder = save_elsewhere(tmp_path_factory.mktemp("elsewhere"))
    save_reward(folder / "other", folder / "a", seed=2)
    return folder


@pytest.fixture(scope="module")
def lora(work: Path) -> Path:
    """An adapter of a: LoRA of rank 2 whose update is not zero."""
    model, _ = load_policy(work / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a Conv1D has its weights the other way round
        config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        adapted = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    adapted.peft_config["default"].base_model_name_or_path = str(work / "a")
    adapted.save_pretrained(work / "lora")
    return work / "lora"


def run(work: Path, results: Path, suite: str = "hh-test", **more: Any) -> Path:
    asked: dict[str, Any] = {
        "models": {"a": str(work / "a"), "b": str(work / "b")}, "data": str(work / "pairs.jsonl"), "reference": "a",
        "limit": 2, "samples": 2, "results": results,
    }  # fmt: skip
    return evaluation.evaluate(suite, **{**asked, **more}).folder


def read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def test_without_any_run_every_model_is_loaded_once_for_all_that_need_it(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the reference and each reward model, though every part of the seed needs them; a reward model when its form
    is checked, before anything is computed. A policy is checked then, and released until it is sampled."""
    loaded: list[str] = []
    load, load_reward = loading.load_policy, RewardModel.load
    for module in (loading, opening):
        monkeypatch.setattr(
            module, "load_policy", lambda path, **k: (loaded.append(Path(path).name), load(path, **k))[1]
        )
    monkeypatch.setattr(
        RewardModel, "load", lambda path, **k: (loaded.append(Path(path).name), load_reward(path, **k))[1]
    )
    folder = run(work, tmp_path, reward_models={"judge": str(work / "judge"), "held": str(work / "other")})
    assert sorted(loaded) == ["a", "a", "b", "b", "judge", "other"]
    assert folder == tmp_path / "hh-test" / "a+b"
    found, scores = read(folder, "metrics.json"), pd.read_parquet(folder / "scores.parquet")
    for model in ("a", "b", "chosen", "rejected"):
        assert {"reward", "reward:held"} <= set(found["models"][model])
    assert {"reward", "reward:held", "kl_exact"} <= {row["metric"] for row in found["pairwise"]}
    assert (scores.loc[scores["model"] == "a", "kl_exact"] == 0).all()
    assert (scores.loc[scores["model"] == "b", "kl_exact"] > 0).all()
    # each column is its own model's, the first given being the reward
    chosen = scores[scores["model"] == "chosen"]
    responses = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    texts = [row for row in responses if row["model"] == "chosen"]
    for column, name in (("reward", "judge"), ("reward:held", "other")):
        scorer = load_reward(work / name)
        expected = scorer.score([r["prompt"] for r in texts], [r["response"] for r in texts])
        assert chosen[column].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    manifest = read(folder, "manifest.json")
    assert [m.get("column", "reward") for m in manifest["reward_model"]] == ["reward", "reward:held"]


def test_a_checkpoint_of_a_toy_recipe_is_known_wherever_it_is(work: Path, tmp_path: Path) -> None:
    write_training(Path(shutil.copytree(work / "b", tmp_path / "moved")), toy=True)
    folder = run(work, tmp_path, models={"a": str(work / "a"), "t": str(tmp_path / "moved")})
    models = read(folder, "manifest.json")["models"]
    assert [models[name][0].get("toy") for name in ("a", "t")] == [None, True]
    assert "Toy recipe, its numbers mean nothing: t" in summary_text(folder)


def test_cut_prompts_are_logged_noted_and_an_alarm(work: Path, tmp_path: Path) -> None:
    """Of 160 positions 128 are for the response: a prompt of more than 32 tokens is cut."""
    log = Log()
    folder = run(work, tmp_path, limit=12, samples=1, progress=log)
    tokenizer = AutoTokenizer.from_pretrained(work / "a")
    prompts = {row["prompt"] for row in map(json.loads, (folder / "responses.jsonl").read_text().splitlines())}
    share = sum(len(tokenizer(prompt)["input_ids"]) > 32 for prompt in prompts) / len(prompts)
    assert share > 0.1
    line = f"a, b: {share:.1%} of the prompts are cut to 32 tokens"
    found = read(folder, "metrics.json")
    assert line in log.lines
    assert line in found["cuts"]
    assert {"model": "a, b", "kind": "cut", "text": line} in found["alarms"]
    assert not [name for name in pd.read_parquet(folder / "scores.parquet") if name.startswith("cut:")]


def test_a_model_with_a_template_of_its_own(work: Path, tmp_path: Path) -> None:
    folder = run(work, tmp_path, templates={"b": "alpaca"})
    missing = {(m["model"], m["metric"]): m["reason"] for m in read(folder, "metrics.json")["missing"]}
    assert missing["b", "kl_exact"] == "another prompt template than the reference's"
    assert ("a", "kl_exact") not in missing
    responses = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    mine = [row for row in responses if row["model"] == "b"]
    assert all(row["prompt"].endswith("\n\nAssistant:") for row in mine)  # the table's prompt is the data's
    assert all(row["response"].startswith(" ") for row in mine if row["response"].strip())
    assert read(folder, "manifest.json")["models"]["b"][0]["template"] == "alpaca"
    with pytest.raises(ModelError, match="b: the prompt template is chat, but its tokenizer has no chat template"):
        run(work, tmp_path, templates={"b": "chat"})


def test_models_without_prompts(work: Path, tmp_path: Path) -> None:
    # the default run would have them
    with pytest.raises(BenchError, match=r"unknown run 'default'; known: none; make it with: rlhf-bench train all$"):
        run(work, tmp_path, data=None, checkpoints=tmp_path)
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps({"prompt": "Name a colour.", "response": "Blue.", "reference": "Red."}) + "\n")
    folder = run(work, tmp_path, data=None, responses=[("t", str(file))], samples=1)
    found = read(folder, "metrics.json")["models"]
    assert {found[m]["rougeL"]["n"] for m in ("a", "b", "t")} == {1}
    assert found["t"]["n_tokens"]["n"] == 1  # counted by the reference's tokenizer


# --- adapters --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lora")
def test_an_adapter_is_its_base_with_the_update_added(work: Path) -> None:
    """W of the merged model is W of the base plus (lora_alpha / r) (B A)^T, the transpose because GPT-2's Conv1D stores
    (in, out); lora_alpha is 8 by default, r is 2."""
    weights = load_file(work / "lora" / "adapter_model.safetensors")
    a, b = (next(w for name, w in weights.items() if f"h.0.attn.c_attn.lora_{x}." in name) for x in "AB")
    (base, _), (merged, tokenizer) = load_policy(work / "a"), load_policy(work / "lora")
    before, after = (m.transformer.h[0].attn.c_attn.weight for m in (base, merged))
    torch.testing.assert_close(after, before + 8 / 2 * (b @ a).T, rtol=0, atol=1e-5)
    assert (after - before).abs().max() > 0.01
    assert type(merged) is type(base)
    assert len(tokenizer) == 500  # the base's: the adapter brings none
    assert model_hash(work / "lora") != model_hash(work / "a")


@pytest.mark.usefixtures("lora")
def test_an_adapter_is_evaluated_like_any_model(work: Path, tmp_path: Path) -> None:
    folder = run(work, tmp_path, models={"a": str(work / "a"), "tuned": str(work / "lora")}, samples=1)
    assert read(folder, "metrics.json")["models"]["tuned"]["kl_exact"]["value"] > 0


def damaged(work: Path, tmp_path: Path, **config: Any) -> Path:
    path = tmp_path / "lora"
    shutil.copytree(work / "lora", path)
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return path


@pytest.mark.usefixtures("lora")
def test_an_adapter_whose_base_is_missing_or_of_another_shape(work: Path, tmp_path: Path) -> None:
    path = damaged(work, tmp_path, base_model_name_or_path="./gone")
    with pytest.raises(
        CheckpointError, match=r"is an adapter and its base model cannot be used: \./gone does not exist"
    ):
        load_policy(path)
    wide = tmp_path / "wide"
    from rlhf_bench.modeling.models import new_gpt2

    _, tokenizer = load_policy(work / "a")
    new_gpt2(tokenizer, layers=2, heads=2, width=48, positions=64, seed=0).save_pretrained(wide)
    tokenizer.save_pretrained(wide)
    shutil.rmtree(path)
    with pytest.raises(CheckpointError, match=r"does not fit its base model .*wide .*size mismatch") as error:
        load_policy(damaged(work, tmp_path, base_model_name_or_path=str(wide)))
    assert "\n" not in str(error.value)
    shutil.rmtree(path)
    file = damaged(work, tmp_path) / "adapter_model.safetensors"
    weights = load_file(file)
    weights.pop(next(iter(weights)))
    save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"does not fit its base model .*missing adapter keys"):
        load_policy(path)
    shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="names no base model"):
        adapter_base(damaged(work, tmp_path, base_model_name_or_path=None))


@pytest.mark.usefixtures("lora")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"base_model', r"adapter_config\.json cannot be read \(Unterminated string .*\); restore it, or train"),
        ("[1]", r"adapter_config\.json holds a list, expected a JSON object; restore it"),
        ("{}", r"adapter_config\.json names no base model; set base_model_name_or_path"),
        (
            '{"base_model_name_or_path": "../gone"}',
            r"is an adapter and its base .*: \.\./gone does not exist",
        ),
    ],
)
def test_an_adapters_configuration_that_leads_nowhere(work: Path, tmp_path: Path, config: str, message: str) -> None:
    path = damaged(work, tmp_path)
    (path / "adapter_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message) as error:
        run(work, tmp_path / "results", models={"a": str(work / "a"), "tuned": str(path)})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("lora")
def test_an_error_names_peft_where_it_is_needed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="peft is not installed; install it with: pip install peft"):
        adapter_base(work / "lora")
    assert adapter_base(work / "a") is None


def test_a_hub_name_with_a_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf_bench.modeling import model_files

    monkeypatch.setattr(model_files, "hub_answers", lambda: True)
    assert model_files.pretrained_name("org/model@v1.0") == ("org/model",)
    assert model_files.pretrained_options("org/model@v1.0") == {"local_files_only": False, "revision": "v1.0"}
    assert model_files.pretrained_options("org/model") == {"local_files_only": False}


def test_a_response_longer_than_a_model_can_read(work: Path, tmp_path: Path) -> None:
    suite = tmp_path / "long.yaml"
    suite.write_text("version: 1\nmax_new_tokens: 160\n")
    with pytest.raises(BadValue, match="max_new_tokens: given 160,"):
        evaluation.evaluate(
            str(suite), models={"a": str(work / "a")}, data=str(work / "pairs.jsonl"), results=tmp_path
        )  # fmt: skip


def test_a_missing_model_is_named_before_anything_is_sampled(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "sample_as", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(CheckpointError, match=r"^/no/such/model does not exist; expected a model folder$"):
        run(work, tmp_path, models={"a": str(work / "a"), "b": "/no/such/model"})


def test_kl_of_responses_that_a_stop_string_ends_is_unbiased(work: Path, tmp_path: Path) -> None:
    """A model that says the stop string more readily than its reference: 7 standard errors off without its tokens."""
    model, tokenizer = load_policy(work / "a")
    stops = [i for i in range(len(tokenizer)) if "e" in tokenizer.decode([i])]
    with torch.no_grad():  # raises the logits of tokens with an e, whatever is before them
        towards = model.lm_head.weight[stops].mean(0)
        model.transformer.ln_f.bias += towards / towards.norm() ** 2
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "eager")
    suite = tmp_path / "stopped.yaml"
    suite.write_text("version: 1\ndescription: ends early\nstop: [e]\nmax_new_tokens: 24\n")
    texts = [
        json.dumps({"prompt": f"\n\nHuman: {i}\n\nAssistant:", "chosen": " b", "rejected": " c"}) for i in range(300)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(texts))
    models = {"a": str(work / "a"), "eager": str(tmp_path / "eager")}
    folder = run(work, tmp_path, str(suite), models=models, data=str(tmp_path / "pairs.jsonl"), limit=None, samples=16)
    reasons = [row["finish_reason"] for row in read_jsonl(folder / "responses.jsonl")]
    scores = pd.read_parquet(folder / "scores.parquet")
    mine = scores[scores["model"] == "eager"]
    by_prompt = (mine["kl_k1"] - mine["kl_exact"]).groupby(mine["prompt_id"]).mean()
    assert reasons.count("stop") > len(mine)
    assert abs(by_prompt.mean()) < 4 * by_prompt.std(ddof=1) / len(by_prompt) ** 0.5


def test_chosen_and_drawn_texts_against_the_reference_by_plain_transformers(work: Path, tmp_path: Path) -> None:
    """KL(reference || model) along the chosen response, summed; k1, k3 and reference perplexity of what was drawn, from
    the token ids that are stored: the texts do not always re-tokenise to them."""
    pairs = [(f"\n\nHuman: {n} eggs?\n\nAssistant:", f" For {n} minutes.", " no") for n in range(60)]
    rows = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), pair, strict=True))) for pair in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    folder = run(work, tmp_path, data=str(tmp_path / "pairs.jsonl"))
    models = {name: AutoModelForCausalLM.from_pretrained(work / name).eval() for name in "ab"}
    tokenizer = AutoTokenizer.from_pretrained(work / "a")

    def log_softmax(name: str, prompt: list[int], response: list[int]) -> Tensor:
        with torch.no_grad():
            logits = models[name](torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        return logits.double().log_softmax(-1)

    scores = pd.read_parquet(folder / "scores.parquet")
    prompts = {row["prompt_id"]: row["prompt"] for row in read_jsonl(folder / "responses.jsonl")}
    logprob, count = 0.0, 0
    for prompt_id, first in scores[scores["model"] == "b"].groupby("prompt_id", sort=False):
        text = prompts[prompt_id]
        prompt = tokenizer(text)["input_ids"]
        (chosen,) = [chosen for asked, chosen, _ in pairs if asked == text]
        response = [*tokenizer(chosen)["input_ids"], tokenizer.eos_token_id]
        ours, theirs = log_softmax("b", prompt, response), log_softmax("a", prompt, response)
        expected = (theirs.exp() * (theirs - ours)).sum()
        assert first["kl_forward"].tolist() == pytest.approx([float(expected), float("nan")], abs=1e-4, nan_ok=True)
        for k, tokens in enumerate(first["token_ids"]):
            at = torch.tensor(tokens.tolist())[:, None]
            mine, picked = (log_softmax(name, prompt, list(tokens)).gather(1, at) for name in "ba")
            logprob, count = logprob + float(picked.sum()), count + len(tokens)
            k3 = (picked - mine).exp() - 1 - (picked - mine)
            found_k = first[["kl_k1", "kl_k3", "kl_k1_token"]].iloc[k].tolist()
            k1 = float((mine - picked).sum())
            assert found_k == pytest.approx([k1, float(k3.sum()), k1 / len(tokens)], abs=1e-3, rel=1e-4)
    found = read(folder, "metrics.json")["models"]
    assert found["b"]["perplexity_reference"]["value"] == pytest.approx(math.exp(-logprob / count), rel=1e-4)
    assert found["a"]["kl_forward"]["value"] == 0.0
    assert found["b"]["kl_forward"]["value"] > 0
