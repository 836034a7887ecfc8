"""Adapters in training: what they start from, what is trained, what lies on disk, and who can read it."""

from __future__ import annotations

import json
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerBase

from rlhf_bench.data import PreferenceData
from rlhf_bench.errors import BadValue, BenchError, CheckpointError, MissingExtra, ModelError, StaleParent
from rlhf_bench.modeling import quantized
from rlhf_bench.modeling.adapters import adapter_base
from rlhf_bench.modeling.checkpoints import checkpoint_hash, model_hash, open_checkpoint
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.merge import merge
from rlhf_bench.modeling.models import load_policy, new_gpt2
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.tokens import collate, encode
from rlhf_bench.selftest import selftest
from trainers.config.loading import load_recipe
from trainers.config.optimizer import LoraConfig
from trainers.engine import lora
from trainers.engine.critic import make_critic
from trainers.engine.lora import adapt, check_lora
from trainers.engine.states import load_trained, trained_state

from ..plain import PlainPython
from ..several import Launcher
from .conftest import TOY, FirstStep, call, stage_in
from .killing import Training, pairs_file, same_bits

NO_DATA = PreferenceData("tests", "train", [], {}, [], "")
ADAPTED = ("sft", "reward", "ppo", "grpo", "dpo")
EVERYWHERE = {f"{stage}.lora.r": 2 for stage in ADAPTED}
TEXTS = [("\n\nHuman: Blue?\n\nAssistant:", " Blue."), ("\n\nHuman: Why?\n\nAssistant:", " I am happy to help. no")]


def with_update(model: Any) -> Any:
    """The adapted model with a B that is not 0, so that A has a gradient as well."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


# --- one step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
@pytest.mark.parametrize("rank", [1, 64])
def test_the_first_loss_is_that_of_the_full_model(first_step: FirstStep, stage: str, rank: int) -> None:
    """B is 0, whatever the rank; only the adapter, and a reward model's new head, get a gradient."""
    full, _ = first_step(stage)
    ours, result = first_step(stage, lora={"r": rank})
    assert ours.loss == full.loss
    trained = {name for name, p in result.trained.model.named_parameters() if p.requires_grad}
    assert {name for name in trained if ".lora_" not in name} == (
        {"score.modules_to_save.default.weight"} if stage == "reward" else set()
    )
    assert ours.gradients.keys() == trained
    assert {name.split(".")[-4] for name in trained if ".lora_" in name} == {"c_attn", "c_proj", "c_fc"}
    for name, gradient in ours.gradients.items():  # dL/dA = B^T ... = 0 at B = 0
        assert (gradient.abs().max() == 0) == (".lora_A." in name), name


def test_gradients_are_pefts_own(policy_folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Our log-probabilities bypass the model's own forward; peft's wrapper with the same weights does not."""
    ours = load_policy(policy_folder, dtype=torch.float64)[0]
    adapt(ours, LoraConfig(r=3, alpha=5), policy_folder, seed=0)
    with_update(ours)
    plain = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float64)
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules="all-linear", fan_in_fan_out=True, task_type="CAUSAL_LM")
    with warnings.catch_warnings(action="ignore"):
        theirs = peft.get_peft_model(plain, config)
    weights = {name.replace(".default", ""): p for name, p in ours.named_parameters() if p.requires_grad}
    peft.set_peft_model_state_dict(theirs, {f"base_model.model.{name}": p.detach() for name, p in weights.items()})

    rows = encode(tokenizer, [p for p, _ in TEXTS], [r for _, r in TEXTS], max_prompt=60, max_response=60)
    batch = collate(rows, pad_id=0)
    loss = -LogprobModel(ours)(batch).logps.sum()
    loss.backward()
    labels = batch.ids.masked_fill(~batch.response_mask, -100)
    logits = theirs(input_ids=batch.ids, attention_mask=batch.attention_mask.long()).logits
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].flatten(), reduction="sum")
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = {
        name.removeprefix("base_model.model."): p.grad for name, p in theirs.named_parameters() if p.grad is not None
    }
    assert len(gradients) == 2 * 8  # A and B of four layers in each of two blocks
    for name, p in ours.named_parameters():
        if p.requires_grad:
            assert p.grad is not None
            assert float((p.grad - gradients[name]).norm()) < 1e-9 * float(gradients[name].norm()) > 0, name


def test_the_update_is_scaled_by_alpha_over_r(policy_folder: Path) -> None:
    """W + (6 / 2) (B A)^T, the transpose because GPT-2's layers store (in, out)."""
    model = load_policy(policy_folder)[0]
    before = model.transformer.h[0].attn.c_attn.weight.clone()
    adapter = adapt(model, LoraConfig(r=2, alpha=6, target_modules=("c_attn",)), policy_folder, seed=0)
    assert adapter is not None
    layer = with_update(model).transformer.h[0].attn.c_attn
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    merged = adapter.model.merge_and_unload().transformer.h[0].attn.c_attn.weight
    torch.testing.assert_close(merged, before + 3 * (b @ a).T, rtol=0, atol=1e-5)


def test_a_saved_state_holds_what_is_trained_and_nothing_else(policy_folder: Path) -> None:
    def adapted(seed: int) -> Any:
        model = load_policy(policy_folder)[0]
        adapt(model, LoraConfig(r=2), policy_folder, seed=seed)
        return model

    first, second = with_update(adapted(0)), adapted(1)
    state = trained_state(first)
    assert {".lora_" in name for name in state} == {True}
    load_trained(second, state)
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(RuntimeError, match="does not fit"):
        load_trained(second, dict(list(state.items())[1:]))
    full = load_policy(policy_folder)[0]
    assert trained_state(full).keys() == full.state_dict().keys()


@pytest.mark.parametrize("start", ["reward", "policy", "shared"])
def test_a_critic_has_an_adapter_too(run: Path, start: str) -> None:
    """Of its own, or, where it is shared, the policy's; with the head it is all that is trained."""
    recipe = load_recipe(str(TOY), ["ppo.lora.r=3", f"ppo.critic={start}"])
    stage = stage_in(run, "ppo", recipe)
    policy = load_policy(run / "sft")[0]
    adapt(policy, recipe.ppo.lora, run / "sft", seed=0)
    critic = make_critic(stage, recipe.ppo, policy)
    assert critic is not None
    assert (critic.backbone is policy.base_model) == (start == "shared")
    trained = {name for name, p in critic.named_parameters() if p.requires_grad}
    assert {name for name in trained if ".lora_" not in name} == {"head.weight", "head.bias"}
    assert len(trained) == 2 + 2 * 8  # A and B of four layers in each of two blocks


# --- a run whose every stage but base is an adapter -------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lora")
    settings = [word for key, value in EVERYWHERE.items() for word in ("--set", f"{key}={value}")]
    done = call("train", "all", "--recipe", TOY, "--run", "toy", "--checkpoints", root, *settings)
    assert done.exit_code == 0, done.stderr
    return root / "toy"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.mark.parametrize("stage", ADAPTED)
def test_an_adapter_stays_an_adapter_on_disk(run: Path, stage: str) -> None:
    folder, on_an_adapter = run / stage, stage != "sft"
    assert not (folder / "model.safetensors").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((run / "base").resolve())
    assert (config["r"], config["lora_alpha"]) == ((4, 4) if on_an_adapter else (2, 32))
    names = load_file(folder / "adapter_model.safetensors").keys()
    assert {name for name in names if ".lora_" not in name} == (
        {"base_model.model.score.weight"} if stage == "reward" else set()
    )
    training = json.loads((folder / "training.json").read_text())
    assert training["adapter"] == {"base": "../base", "base_hash": model_hash(run / "base"), "nested": False}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f'PeftModel.from_pretrained(base, "{stage}")' in card
    assert "an adapter itself: give it merged" not in card
    assert training["hash"] == checkpoint_hash(folder)
    assert training["config"][stage]["lora"]["r"] == 2


def test_each_stage_starts_from_its_parent_and_not_from_the_root(run: Path) -> None:
    """The reference of ppo, grpo and dpo is sft: base with sft's adapter. An adapter that is switched off shows what
    it is based on."""
    sft, base = load_policy(run / "sft")[0], load_policy(run / "base")[0]
    ppo = load_policy(run / "ppo")[0]
    names = [name for name, p in base.named_parameters() if p.ndim == 2 and ".h.0." in name]
    for name in names:
        a, b, c = (dict(model.named_parameters())[name] for model in (base, sft, ppo))
        assert not torch.equal(a, b)
        assert not torch.equal(b, c)
    weights = load_file(run / "ppo" / "adapter_model.safetensors")
    prefix = "base_model.model.transformer.h.0.attn.c_attn"
    both = {part: weights[f"{prefix}.lora_{part}.weight"] for part in "AB"}
    update = (both["B"][:, 2:] @ both["A"][2:]).T  # the second half is ppo's own, and scaled
    torch.testing.assert_close(
        ppo.transformer.h[0].attn.c_attn.weight, sft.transformer.h[0].attn.c_attn.weight + update, rtol=0, atol=1e-6
    )
    assert json.loads((run / "dpo" / "log.jsonl").read_text().splitlines()[0])["rewards/margins"] == pytest.approx(
        0, abs=1e-5
    )


PLAIN_PEFT = """
import json, os, sys
import torch
from transformers import AutoModelForCausalLM

rows, found = json.loads(sys.argv[2]), {}
os.chdir(sys.argv[1])
for stage in ("sft", "dpo", "reward"):
    space = {}
    exec(open(f"{stage}/README.md").read().split("```python")[1].split("```")[0], space)
    tokenizer, model = space["tokenizer"], space["model"].eval()
    with torch.no_grad():
        if stage == "reward":
            batch = tokenizer.pad({"input_ids": [p + r for p, r in rows]}, return_tensors="pt", padding_side="right")
            found[stage] = model(**batch).logits[:, 0].tolist()
        for name, policy in (("", model), (" alone", AutoModelForCausalLM.from_pretrained(stage).eval())):
            if stage == "reward":
                break
            tables = [policy(input_ids=torch.tensor([p + r])).logits[0].log_softmax(-1) for p, r in rows]
            found[stage + name] = [
                sum(t[len(p) + i - 1, token].item() for i, token in enumerate(r))
                for t, (p, r) in zip(tables, rows)
            ]
print(json.dumps(found))
"""


def test_plain_peft_gives_the_same_numbers(run: Path, tmp_path: Path, plain_python: PlainPython) -> None:
    """Ours are of the merged model, peft's of the adapter beside its base: equal but for rounding."""
    prompts, responses = [p for p, _ in TEXTS], [r for _, r in TEXTS]
    reward = RewardModel.load(run / "reward", max_prompt=60, max_response=60)
    rows = reward.encode(prompts, responses)
    found = plain_python(PLAIN_PEFT, run, json.dumps([(r.prompt, r.response) for r in rows]), cwd=tmp_path)
    assert reward.score(prompts, responses).tolist() == pytest.approx(found["reward"], abs=1e-5)
    for stage in ("sft", "dpo"):
        policy = LogprobModel(load_policy(run / stage)[0])
        with torch.no_grad():
            ours = policy(collate(rows, pad_id=0)).logps.double().sum(1)
        assert ours.tolist() == pytest.approx(found[stage], abs=1e-4)
        assert ours.tolist() == pytest.approx(found[f"{stage} alone"], abs=1e-4)
    assert found["sft"] != pytest.approx(found["dpo"], abs=1e-4)


def test_a_complete_run_is_left_alone_and_full_stages_follow_adapters(copy: Path) -> None:
    settings = [word for key, value in EVERYWHERE.items() if "dpo" not in key for word in ("--set", f"{key}={value}")]
    words = ["--recipe", TOY, "--run", "copy", "--checkpoints", copy.parent, *settings]
    changed = call("train", "dpo", *words)
    assert "dpo.lora.r: 2 -> null" in changed.stderr.replace("{", "")
    assert changed.exit_code == 1
    done = call("train", "dpo", *words, "--force")
    assert done.exit_code == 0, done.stderr
    assert (copy / "dpo" / "model.safetensors").exists()
    assert adapter_base(copy / "dpo") is None
    log = json.loads((copy / "dpo" / "log.jsonl").read_text().splitlines()[0])
    assert log["rewards/margins"] == pytest.approx(0, abs=1e-5)


@pytest.mark.usefixtures("no_report")
def test_adapters_are_evaluated_and_checked_like_any_model(run: Path, tmp_path: Path) -> None:
    done = call("eval", "--run", "toy", "--checkpoints", run.parent, "--results", tmp_path, "--limit", "2",
                "--samples", "1", "--model", f"again={run / 'dpo'}")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    metrics = json.loads(next(tmp_path.rglob("metrics.json")).read_text())["models"]
    assert metrics["sft"]["kl_exact"]["value"] == 0
    assert metrics["dpo"]["kl_exact"]["value"] > 0
    assert metrics["again"]["reward"]["value"] == metrics["dpo"]["reward"]["value"]
    checks = selftest(None, "toy", checkpoints=run.parent)
    assert [check for check in checks if not check.ok] == []
    assert {"plain transformers, batched, gives the same reward"} <= {check.name for check in checks}


# --- merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_merged_it_is_a_plain_model(run: Path, tmp_path: Path, stage: str) -> None:
    output = tmp_path / "merged"
    done = call("merge", run / stage, output)
    assert (done.exit_code, done.stdout) == (0, f"model: {output}\n"), done.stderr
    assert not (output / "adapter_config.json").exists()
    prompts, responses = [p for p, _ in TEXTS], [r for _, r in TEXTS]
    if stage == "reward":
        ours, merged = (RewardModel.load(f, max_prompt=60, max_response=60) for f in (run / stage, output))
        assert torch.equal(ours.score(prompts, responses), merged.score(prompts, responses))
    else:
        ours, merged = (load_policy(folder)[0] for folder in (run / stage, output))
        for (name, a), (_, b) in zip(ours.named_parameters(), merged.named_parameters(), strict=True):
            assert torch.equal(a, b), name
        assert (output / "generation_config.json").exists()
    training = open_checkpoint(output).training
    assert training["merged_from"] == {"adapter": model_hash(run / stage), "base": str(run / stage / "../base")}
    assert "adapter" not in training


def test_what_cannot_be_merged(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"base is no adapter: it has no adapter_config\.json; expected an"):
        merge(run / "base", tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"none does not exist; expected an adapter's folder$"):
        merge(tmp_path / "none", tmp_path / "out")
    with pytest.raises(BadValue, match=r"^.* exists; expected a folder that does not: choose another"):
        merge(run / "sft", tmp_path)


# --- what cannot be ---------------------------------------------------------------------------------------------------


def one_line(error: BenchError) -> str:
    assert "\n" not in str(error)
    return str(error)


def set_base(adapter: Path, base: str) -> None:
    """In both files that name it."""
    for name, section, key in (
        ("adapter_config.json", None, "base_model_name_or_path"),
        ("training.json", "adapter", "base"),
    ):
        values = json.loads((adapter / name).read_text())
        (values if section is None else values[section])[key] = base
        (adapter / name).write_text(json.dumps(values))


def test_a_base_that_is_missing(copy: Path) -> None:
    for stage in ("sft", "reward"):
        set_base(copy / stage, "../base")
    shutil.rmtree(copy / "base")
    with pytest.raises(CheckpointError) as caught:
        load_policy(copy / "sft")
    assert one_line(caught.value).startswith(
        f"{copy / 'sft'} is an adapter and its base model cannot be used: ../base does not exist"
    )
    with pytest.raises(CheckpointError, match=r"reward is an adapter and its base model cannot be used: "):
        RewardModel.load(copy / "reward")
    with pytest.raises(CheckpointError) as caught:  # what an evaluation checks first
        model_hash(copy / "sft")
    assert one_line(caught.value).startswith(
        f"{copy / 'sft'} is an adapter and its base model cannot be used: ../base does not exist, as seen from it"
    )


def test_a_base_that_is_missing_though_its_name_could_be_the_hubs(copy: Path) -> None:
    set_base(copy / "sft", "mine/base")
    with pytest.raises(CheckpointError, match=r"its base model cannot be used: mine/base does not exist, as seen"):
        model_hash(copy / "sft")  # its hash on record is that of a folder


def test_a_base_of_another_shape(copy: Path) -> None:
    tokenizer = load_policy(copy / "base")[1]
    new_gpt2(tokenizer, layers=2, heads=2, width=48, positions=160, seed=0).save_pretrained(copy / "base")
    with pytest.raises(
        CheckpointError, match=r"sft: the adapter does not fit its base model .*size mismatch"
    ) as caught:
        load_policy(copy / "sft")
    one_line(caught.value)


def test_a_base_that_has_changed(copy: Path) -> None:
    tokenizer = load_policy(copy / "base")[1]
    was = model_hash(copy / "base")
    new_gpt2(tokenizer, layers=2, heads=2, width=32, positions=160, seed=5).save_pretrained(copy / "base")
    now = model_hash(copy / "base")
    with pytest.raises(StaleParent) as caught:
        model_hash(copy / "sft")
    assert one_line(caught.value).startswith(
        f"{copy / 'sft'} is an adapter of {copy / 'sft' / '../base'} {was}, which is now {now}"
    )


def test_adapters_that_lead_back_to_themselves(copy: Path) -> None:
    set_base(copy / "sft", "../dpo")
    set_base(copy / "dpo", "../sft")
    for use in (load_policy, model_hash):
        with pytest.raises(
            CheckpointError, match="more than 8 adapters, or leads back to itself; set base_model_name"
        ) as c:
            use(copy / "sft")
        one_line(c.value)


def test_an_adapter_of_the_other_kind(run: Path) -> None:
    with pytest.raises(ModelError, match=r"reward is a reward model; expected a causal language model"):
        load_policy(run / "reward")
    with pytest.raises(ModelError, match=r"sft is no reward model \(GPT2LMHeadModel\)"):
        RewardModel.load(run / "sft")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["q_proj"], "given 'q_proj', expected the end of the name of a linear layer below the head "
                     r"\(c_attn, c_fc, c_proj\), or all-linear"),
        (["c_attn", "lm_head"], "given 'lm_head', expected the end of the name of a linear layer below the head"),
        (["wte"], "given 'wte', expected the end of"),
    ],
)  # fmt: skip
def test_layers_that_cannot_have_an_adapter(policy_folder: Path, given: list[str], message: str) -> None:
    model = load_policy(policy_folder)[0]
    with pytest.raises(BadValue, match=message) as caught:
        adapt(model, LoraConfig(target_modules=tuple(given)), policy_folder, seed=0)
    one_line(caught.value)


@pytest.mark.parametrize(
    ("stage", "model", "given", "known"),
    [
        ("sft", None, "zzz", "c_attn, c_fc, c_proj"),
        ("dpo", None, "lm_head", "c_attn, c_fc, c_proj"),
        ("reward", None, "score", "c_attn, c_fc, c_proj"),
        ("sft", "llama", "c_attn", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"),
    ],
)
def test_layers_that_a_model_has_not_are_named_before_anything_is_trained(
    tmp_path: Path, stage: str, model: str | None, given: str, known: str
) -> None:
    """The model's configuration is enough: there is not so much as a weight of the llama."""
    LlamaConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path / "llama")  # fmt: skip
    of = [] if model is None else ["--set", f"model={tmp_path / model}"]
    done = call(
        "train", stage, "--recipe", TOY, *of, "--set", f"{stage}.lora.target_modules=[{given}]", "--checkpoints",
        tmp_path / "checkpoints",
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == (
        f"error: {stage}.lora.target_modules: given '{given}', expected the end of the name of a linear layer below "
        f"the head ({known}), or all-linear"
    )
    assert done.exit_code == 2
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.lora.r=0", "sft.lora.r: given 0, expected greater than or equal to 1"),
        ("sft.lora.rank=4", "unknown key 'sft.lora.rank'"),
        ("base.lora.r=4", "unknown key 'base.lora"),
        (
            "sft.lora.target_modules=c_attn",
            "sft.lora.target_modules: given \"c_attn\", expected 'all-linear' or a list",
        ),
    ],
)
def test_keys_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        load_recipe("mini", [override])
    assert message in one_line(caught.value)


def test_what_is_missing_is_named_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    four = LoraConfig(load_in_4bit=True)
    with pytest.raises(BadValue, match=r"sft\.lora\.target_modules: given an empty list"):
        check_lora("sft", LoraConfig(target_modules=()), cpu)
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else True)
    with pytest.raises(MissingExtra, match="bitsandbytes is not installed"):
        check_lora("sft", four, cpu)
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    done = call("train", "sft", "--set", "sft.lora.r=2", "--checkpoints", tmp_path)
    assert done.stderr.splitlines()[-1] == ("error: peft is not installed; install it with: pip install peft")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ModelError, match=r"load_in_4bit: the device is cpu"):
        check_lora("sft", four, cpu)


def test_an_adapter_is_not_merged_into_4_bits(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "check_four_bit", lambda device: None)
    with pytest.raises(ModelError, match=r"sft is an adapter, .*; merge it first: rlhf-bench merge .*sft OUTPUT$"):
        load_policy(run / "sft", load_in_4bit=True)


# --- killed and continued ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_stages_of_adapters_end_with_the_same_bits(tmp_path: Path, launch: Launcher) -> None:
    """Killed after its second step, whose state is not saved, a stage goes on from the first."""
    killed = ("sft", "reward", "ppo")  # an adapter, one with a head, one with a critic's
    settings = {**EVERYWHERE, "base.max_steps": 2, "base.optimizer": "adamw"}
    train = Training(launch, tmp_path, pairs_file(tmp_path), settings, ["ppo"])
    assert train.run("alone", 1000)[0] == 0
    ends = [train.run("killed", 0, at=(stage, 2)) for stage in killed]
    assert [status for status, _ in ends] == [-signal.SIGKILL] * len(killed)
    ends.append(train.run("killed", 0))
    assert ends[-1][0] == 0, ends[-1][1]
    for stage, (_, errors) in zip(killed, ends[1:], strict=True):
        assert f"{stage}: continues after step 1 of 3" in errors
    for stage in ("base", *killed):
        same_bits(tmp_path / "alone" / stage, tmp_path / "killed" / stage)
