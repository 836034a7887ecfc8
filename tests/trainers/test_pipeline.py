"""The whole pipeline at toy size, through the command line: what it leaves, and what a second run does to it."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file

import rlhf_bench.evaluate as evaluation
from rlhf_bench.data import Reader, mini
from rlhf_bench.errors import BadValue
from rlhf_bench.evaluate import run as evaluate_run
from rlhf_bench.modeling.checkpoints import checkpoint_hash
from rlhf_bench.modeling.logprobs import LogprobModel
from rlhf_bench.modeling.models import load_policy
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.modeling.tokens import collate, encode
from rlhf_bench.report.plots import curves
from rlhf_bench.types import POLICIES, STAGES
from trainers.config.ancestry import parents_of
from trainers.config.loading import list_recipes, load_recipe
from trainers.pipeline import train

from ..plain import PlainPython
from ..rlhf_bench.tiny import save_policy
from .conftest import TOY, call

# TRL's names; what a stage's log must hold in every row, and in the rows with an evaluation
LOGGED = {
    "base": {"loss", "grad_norm", "learning_rate", "num_tokens", "entropy", "mean_token_accuracy"},
    "sft": {"loss", "grad_norm", "learning_rate", "num_tokens", "entropy", "mean_token_accuracy"},
    "reward": {"loss", "accuracy", "margin", "grad_norm", "learning_rate"},
    "ppo": {"objective/kl", "objective/scores", "loss/policy_avg", "loss/value_avg", "val/ratio"},
    "grpo": {"loss", "reward", "reward_std", "kl", "frac_reward_zero_std", "completions/mean_length"},
    "dpo": {"loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected"},
}
EVALUATED = {"base": "eval_loss", "sft": "eval_loss", "reward": "eval_accuracy", "ppo": "eval_reward",
             "grpo": "eval_reward", "dpo": "eval_loss"}  # fmt: skip


class Work(NamedTuple):
    checkpoints: Path
    results: Path
    outputs: dict[str, Result]

    @property
    def run(self) -> Path:
        return self.checkpoints / "toy"

    @property
    def result(self) -> Path:
        return self.results / "hh-test" / "toy"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, plot_training_curve: Callable[..., None]) -> Work:
    """train all, eval, audit."""
    root = tmp_path_factory.mktemp("work")
    checkpoints, results = root / "checkpoints", root / "results"
    where = ["--run", "toy", "--checkpoints", checkpoints]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "plot_training_curve", plot_training_curve)
        trained = call("train", "all", "--recipe", TOY, *where)
    outputs = {
        "train": trained,
        "eval": call("eval", *where, "--results", results, "--limit", "6", "--samples", "2"),
        "audit": call("audit", *where, "--results", results, "--limit", "40"),
    }
    for name, output in outputs.items():
        assert output.exit_code == 0, (name, output.stderr)
    return Work(checkpoints, results, outputs)


@pytest.fixture
def copy(work: Work, tmp_path: Path) -> Path:
    """A copy of the trained run that a test may break: the folder of checkpoints."""
    shutil.copytree(work.checkpoints, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:  # a text may have other characters that end a line
        return [json.loads(line) for line in file]


def weights(run: Path) -> dict[str, bytes]:
    return {stage: (run / stage / "model.safetensors").read_bytes() for stage in STAGES if (run / stage).exists()}


def times(run: Path) -> dict[str, int]:
    return {stage: (run / stage / "model.safetensors").stat().st_mtime_ns for stage in STAGES}


def train_toy(checkpoints: Path, *words: str, run: str = "toy") -> Result:
    return call("train", *words, "--recipe", TOY, "--run", run, "--checkpoints", checkpoints)


# --- what training leaves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_has_everything(work: Work, stage: str) -> None:
    folder = work.run / stage
    names = {path.name for path in folder.iterdir()}
    plain = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    plain |= set() if stage == "reward" else {"generation_config.json"}
    assert names == plain | {"training.json", "log.jsonl", "training_curve.png", "README.md"}

    training = read_json(folder / "training.json")
    assert (training["stage"], training["seed"], training["steps"]) == (stage, 0, 3)
    assert training["hash"] == checkpoint_hash(folder)
    parents = {name: {"hash": checkpoint_hash(work.run / name)} for name in parents_of(stage, load_recipe(str(TOY)))}
    assert training["parents"] == parents
    source = {"reward"} if stage in ("ppo", "grpo") else set()  # where rewards come from decides what these become
    start = {"start"} if stage in ("ppo", "grpo", "dpo") else set()
    assert set(training["config"]) == {"model", "data", "stop", "precision", stage} | source | start
    assert ("reward" in training) == bool(source)
    assert training["data"]["source"] == "hh-mini"
    assert training["data"]["pairs"] == 200
    assert training["data"]["fingerprint"] == Reader("hh-mini", seed=0).load("train", limit=200).fingerprint
    for key in ("samples", "tokens", "seconds"):
        assert training[key] > 0, key
    assert {"recipe", "versions", "git_commit", "metrics", "counts"} <= set(training)
    assert training["alarms"] == []
    assert EVALUATED[stage] in training["metrics"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_log_has_a_row_a_step_under_trls_names(work: Work, stage: str) -> None:
    log = rows(work.run / stage / "log.jsonl")
    assert [row["step"] for row in log] == [1, 2, 3]
    for row in log:
        assert LOGGED[stage] <= set(row), LOGGED[stage] - set(row)
        assert all(np.isfinite(value) for value in row.values())
    # eval_every is 2, and there is always an evaluation at the end
    assert [EVALUATED[stage] in row for row in log] == [False, True, True]


def test_nothing_else_is_left_beside_the_checkpoints(work: Work) -> None:
    assert {path.name for path in work.checkpoints.iterdir()} == {"toy", ".reference_logps"}
    assert {path.name for path in work.run.iterdir()} - {".lock"} == set(STAGES)


def test_every_shipped_recipe_can_be_read() -> None:
    assert {"mini", "mini-short"} <= set(list_recipes())
    for name, description in list_recipes().items():
        assert load_recipe(name).description == description
        assert description


# --- training again --------------------------------------------------------------------------------------------------


def test_training_again_trains_nothing(work: Work) -> None:
    before = times(work.run)
    output = train_toy(work.checkpoints, "all")
    assert output.exit_code == 0
    assert "everything is complete" in output.stderr
    assert "nothing to train" in output.stderr
    assert times(work.run) == before


def test_another_configuration_is_an_error_that_names_the_key(work: Work) -> None:
    before = times(work.run)
    output = train_toy(work.checkpoints, "all", "--set", "dpo.beta=0.5")
    assert output.exit_code == 1
    assert output.stderr.splitlines()[-1].startswith(
        f"error: {work.run / 'dpo'} is complete with another configuration (dpo.beta: 0.1 -> 0.5)"
    )
    assert times(work.run) == before
    # what dpo.beta does not concern is still complete
    assert train_toy(work.checkpoints, "grpo", "--set", "dpo.beta=0.5").exit_code == 0


def test_force_trains_the_stage_and_later_stages_trained_from_it(copy: Path) -> None:
    run = copy / "toy"
    before, old = times(run), weights(run)
    assert train_toy(copy, "reward", "--force").exit_code == 0
    after = times(run)
    # ppo and grpo learn from the reward model; base, sft and dpo do not
    assert {stage for stage in STAGES if after[stage] != before[stage]} == {"reward", "ppo", "grpo"}
    assert weights(run) == old  # the same seed, so the same weights


def test_a_stage_whose_parent_has_changed_is_an_error(copy: Path, tmp_path: Path) -> None:
    run = copy / "toy"
    old = checkpoint_hash(run / "sft")
    shutil.rmtree(run / "sft")
    assert train_toy(copy, "sft", "--set", "sft.lr=0.01").exit_code == 0
    new = checkpoint_hash(run / "sft")
    message = (
        f"error: {run / 'reward'} was trained from sft {old}, but {run / 'sft'} is now {new}; "
        "train it again with: rlhf-bench train reward --run toy --force"
    )
    again = train_toy(copy, "all", "--set", "sft.lr=0.01")
    evaluated = call("eval", "--run", "toy", "--checkpoints", copy, "--results", tmp_path / "r", "--limit", "2")
    for output in (again, evaluated):
        assert output.exit_code == 1
        # eval opens every stage and meets another one first, perhaps
        assert output.stderr.splitlines()[-1].startswith("error: ")
        assert f"but {run / 'sft'} is now {new}" in output.stderr
    assert again.stderr.splitlines()[-1] == message


def test_weights_changed_after_training_are_an_error(copy: Path) -> None:
    file = copy / "toy" / "dpo" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # still a sound safetensors file
    file.write_bytes(data)
    output = train_toy(copy, "all")
    assert output.exit_code == 1
    assert "it was changed after training" in output.stderr


# --- the same seed, the same weights ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_seeds(work: Work) -> Path:
    """A run of two seeds, trained after every global generator was set to something else."""
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    output = train_toy(work.checkpoints.parent / "other", "all", "--seeds", "2", run="two")
    assert output.exit_code == 0, output.stderr
    return work.checkpoints.parent / "other" / "two"


def test_the_same_seed_gives_the_same_weights_to_the_bit(work: Work, two_seeds: Path) -> None:
    first, second = weights(two_seeds / "seed-0"), weights(two_seeds / "seed-1")
    assert first == weights(work.run)
    for stage in STAGES:
        assert first[stage] != second[stage], stage
        ours, theirs = (rows(run / stage / "log.jsonl") for run in (work.run, two_seeds / "seed-0"))
        assert [row | {"seconds": 0} for row in ours] == [row | {"seconds": 0} for row in theirs]


def test_a_seed_is_also_that_of_the_weights_a_model_begins_with(tmp_path: Path) -> None:
    """At a learning rate of next to nothing the weights stay what they were at first."""
    rates = ("base.lr", "base.muon_lr", "sft.lr", "reward.lr", "reward.head_lr")
    still = [f"{rate}=1e-12" for rate in rates]
    folder = train(["reward"], recipe=str(TOY), overrides=still, run="still", seeds=2, root=tmp_path)
    for stage, name in (("base", "transformer.wte.weight"), ("reward", "score.weight")):
        first, second = (load_file(folder / f"seed-{n}" / stage / "model.safetensors")[name] for n in (0, 1))
        assert (first - second).abs().mean() > 0.01, stage


def test_a_run_of_several_seeds_has_a_folder_a_seed_over_the_same_data(two_seeds: Path) -> None:
    assert {path.name for path in two_seeds.iterdir()} - {".lock"} == {"seed-0", "seed-1"}
    training = [read_json(two_seeds / f"seed-{seed}" / stage / "training.json") for seed in (0, 1) for stage in STAGES]
    assert [t["seed"] for t in training] == [0] * 6 + [1] * 6
    assert len({t["data"]["fingerprint"] for t in training}) == 1


def test_a_run_of_several_seeds_is_complete_when_no_seeds_are_given(two_seeds: Path) -> None:
    output = train_toy(two_seeds.parent, "all", run="two")
    assert "everything is complete" in output.stderr
    assert {path.name for path in two_seeds.iterdir()} - {".lock"} == {"seed-0", "seed-1"}


def test_a_run_of_one_seed_is_not_mixed_with_one_of_several(work: Work) -> None:
    output = train_toy(work.checkpoints, "all", "--seeds", "2")
    assert output.exit_code == 1
    assert "holds a run of one seed; use --run NAME" in output.stderr


def test_two_seeds_are_evaluated_each_with_its_own_models(work: Work, two_seeds: Path, tmp_path: Path) -> None:
    folder = evaluation.evaluate(
        run="two", limit=4, samples=1, checkpoints=two_seeds.parent, results=tmp_path / "results"
    ).folder
    metrics, scores = read_json(folder / "metrics.json"), pd.read_parquet(folder / "scores.parquet")
    assert set(metrics["per_seed"]) == {"0", "1"}
    for model in POLICIES:
        for seed in (0, 1):
            mine = scores[(scores["model"] == model) & (scores["seed"] == seed)]
            assert len(mine) == 4
            value = metrics["per_seed"][str(seed)][model]["reward"]["value"]
            assert value == pytest.approx(mine["reward"].mean(), abs=1e-9)
        pooled = metrics["models"][model]["gold"]
        assert (pooled["n_seeds"], pooled["n"]) == (2, 4)  # prompts, not rows
    responses, sampling = rows(folder / "responses.jsonl"), read_json(folder / "manifest.json")["sampling"]
    limits = {"max_prompt": sampling["max_prompt_tokens"], "max_response": sampling["max_new_tokens"]}
    for seed in (0, 1):
        mine = [row for row in responses if (row["model"], row["seed"]) == ("chosen", seed)]
        reward = RewardModel.load(two_seeds / f"seed-{seed}" / "reward", **limits)
        expected = reward.score([r["prompt"] for r in mine], [r["response"] for r in mine], [True] * len(mine))
        stored = scores.loc[(scores["model"] == "chosen") & (scores["seed"] == seed), "reward"]
        assert stored.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    # each seed's rewards have a scale of their own
    assert ("sft", "reward") in {(m["model"], m["metric"]) for m in metrics["missing"]}


# --- a pretrained model ----------------------------------------------------------------------------------------------


def test_a_pretrained_model_is_base_untouched(tmp_path: Path) -> None:
    given = save_policy(tmp_path / "given")
    folder = train(["sft"], recipe=str(TOY), overrides=[f"model={given}"], run="given", root=tmp_path / "checkpoints")
    ours, theirs = load_file(folder / "base" / "model.safetensors"), load_file(given / "model.safetensors")
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name in ("tokenizer.json", "config.json"):
        assert read_json(folder / "base" / name) == read_json(given / name), name
    assert read_json(folder / "base" / "training.json")["steps"] == 0
    sft = load_file(folder / "sft" / "model.safetensors")
    assert not torch.equal(sft["transformer.wte.weight"], theirs["transformer.wte.weight"])


# --- checkpoints elsewhere -------------------------------------------------------------------------------------------

ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

run, texts, stages = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
out = {}
for stage in stages:
    tokenizer = AutoTokenizer.from_pretrained(run / stage)
    model = AutoModelForCausalLM.from_pretrained(run / stage).eval()
    out[stage] = []
    for prompt, response in texts:
        head, tail = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (prompt, response))
        ids = torch.tensor([head + tail + [tokenizer.eos_token_id]])
        with torch.no_grad():
            logps = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        out[stage].append(logps[len(head) - 1 :].double().sum().item())
tokenizer = AutoTokenizer.from_pretrained(run / "reward")
model = AutoModelForSequenceClassification.from_pretrained(run / "reward").eval()
batch = tokenizer([p + r + tokenizer.eos_token for p, r in texts], padding=True, return_tensors="pt")
assert not bool(batch["attention_mask"].bool().all())   # some rows are padded
with torch.no_grad():
    out["reward"] = model(**batch).logits[:, 0].tolist()
print(json.dumps(out))
"""


def test_plain_transformers_gives_the_same_numbers_without_this_project(
    work: Work, tmp_path: Path, plain_python: PlainPython
) -> None:
    pairs = [pair for pair in mini.generate("test", n=40) if pair.meta["turns"] == 1][:4]
    texts = [(pair.prompt, " ".join(pair.chosen.split(" ")[: 3 + 3 * i])) for i, pair in enumerate(pairs)]
    found = plain_python(ELSEWHERE, work.run, json.dumps(texts), *POLICIES, cwd=tmp_path)
    prompts, responses = [p for p, _ in texts], [r for _, r in texts]
    for stage in POLICIES:
        model, tokenizer = load_policy(work.run / stage)
        encoded = encode(tokenizer, prompts, responses, max_prompt=128, max_response=64)
        with torch.no_grad():
            ours = LogprobModel(model)(collate(encoded, pad_id=tokenizer.pad_token_id)).logps.double().sum(1)
        assert ours.tolist() == pytest.approx(found[stage], abs=1e-4)  # a sum over some 20 tokens, each to 1e-5
    reward = RewardModel.load(work.run / "reward", max_prompt=128, max_response=64)
    assert reward.score(prompts, responses, [True] * len(texts)).tolist() == pytest.approx(found["reward"], abs=1e-5)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_the_results_folder_has_everything(work: Work) -> None:
    folder = work.result
    for name in ("manifest.json", "responses.jsonl", "scores.parquet", "metrics.json", "report.html",
                 *(f"tables/{table}.{ext}" for table in ("summary", "pairwise") for ext in ("md", "csv", "tex")),
                 "tables/summary.xlsx", "tables/responses.md",
                 *(f"plots/{plot}.{ext}" for ext in ("png", "svg")
                   for plot in ("reward_vs_kl", "reward_distribution", "gold_vs_reward", "length", "training_curves")),
                 *(f"training/{stage}-0.jsonl" for stage in STAGES)):  # fmt: skip
        assert (folder / name).is_file(), name
        assert (folder / name).stat().st_size > 0, name
    assert not (folder / ".parts").exists()

    manifest = read_json(folder / "manifest.json")
    assert {name: [m["hash"] for m in models] for name, models in manifest["models"].items()} == {
        stage: [checkpoint_hash(work.run / stage)] for stage in POLICIES
    }
    assert [m["hash"] for m in manifest["reward_model"]] == [checkpoint_hash(work.run / "reward")]
    assert (manifest["suite"], manifest["run"], manifest["reference"]) == ("hh-test", "toy", "sft")
    assert (manifest["data"]["source"], manifest["data"]["split"], manifest["data"]["n_prompts"]) == (
        "hh-mini", "test", 6,
    )  # fmt: skip
    assert (manifest["sampling"]["samples"], manifest["sampling"]["temperature"]) == (2, 1.0)

    responses = rows(folder / "responses.jsonl")
    scores = pd.read_parquet(folder / "scores.parquet")
    keys = [(r["model"], r["seed"], r["prompt_id"], r["sample"]) for r in responses]
    assert (
        len(keys) == len(set(keys)) == 5 * 6 * 2 + 2 * 6
    )  # five models, six prompts, two samples; two dataset responses
    assert keys == list(scores[["model", "seed", "prompt_id", "sample"]].itertuples(index=False, name=None))


def test_every_model_has_every_number_with_its_interval(work: Work) -> None:
    metrics = read_json(work.result / "metrics.json")
    wanted = {"reward", "reward_std", "reward_z", "kl_k1", "kl_k3", "kl_exact", "kl_exact_token", "rouge1", "rouge2",
              "rougeL", "n_tokens", "ended", "distinct1", "distinct2", "repetition", "perplexity", "bits_per_byte",
              "gold", *(f"gold_{name}" for name in mini.COMPONENTS)}  # fmt: skip
    assert list(metrics["models"]) == [*POLICIES, "chosen", "rejected"]
    for model in POLICIES:
        assert wanted <= set(metrics["models"][model]), wanted - set(metrics["models"][model])
        for name in wanted:
            estimate = metrics["models"][model][name]
            assert estimate["n"] == 6, name
            assert estimate["low"] <= estimate["value"] <= estimate["high"], name
        cost = metrics["training"][model]
        assert [c["seed"] for c in cost] == [0]
        assert set(cost[0]) == {"seed", "samples", "tokens", "seconds", "seconds_with_reward"}
    asked = prompts_of(work.result)
    assert metrics["reward_model"][0]["ceiling"] == pytest.approx(
        mini.ceiling([p for p in mini.load("test") if p.prompt in asked])
    )


def prompts_of(result: Path) -> set[str]:
    return {row["prompt"] for row in rows(result / "responses.jsonl")}


def test_kl_of_the_reference_to_itself_is_exactly_0(work: Work) -> None:
    scores = pd.read_parquet(work.result / "scores.parquet")
    sft, ppo = (scores[scores["model"] == model] for model in ("sft", "ppo"))
    for column in ("kl_k1", "kl_k3", "kl_exact", "kl_k1_token", "kl_k3_token", "kl_exact_token"):
        assert (sft[column] == 0.0).all(), column
    assert all(value == 0.0 for row in sft["token_kl"] for value in row)
    assert (ppo["kl_exact"] > 0).all()
    estimate = read_json(work.result / "metrics.json")["models"]["sft"]["kl_exact"]
    assert estimate["value"] == 0.0


def test_what_is_printed_is_the_table_and_the_paths(work: Work) -> None:
    printed = work.outputs["eval"].stdout
    for model in POLICIES:
        assert re.search(rf"^\W*{model}\b", printed, re.MULTILINE), model
    assert f"Pareto plot: {work.result / 'plots' / 'reward_vs_kl.png'}" in printed
    assert f"report page: {work.result / 'report.html'}" in printed
    again = call("report", "--show", "--results", work.results)
    assert again.stdout == printed


def test_the_page_reaches_for_nothing_outside(work: Work) -> None:
    page = (work.result / "report.html").read_text(encoding="utf-8")
    assert "hh-mini" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_the_audit_leaves_its_files(work: Work) -> None:
    found = re.search(r"^audit: (.+)$", work.outputs["audit"].stdout, re.MULTILINE)
    assert found
    folder = Path(found[1]).parent
    assert {"audit.json", "mistakes.jsonl"} <= {path.name for path in folder.iterdir()}
    tables = {path.name for path in (folder.parent / "tables").iterdir()}
    assert {"audit.csv", "audit_probes.md", "calibration.tex", "audit.xlsx"} <= tables


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_same_evaluation_reuses_its_folder_and_another_gets_its_own(work: Work) -> None:
    def evaluate(limit: int) -> Path:
        return evaluation.evaluate(
            run="toy", limit=limit, samples=2, checkpoints=work.checkpoints, results=work.results
        ).folder

    before = snapshot(work.result)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_run, "sampled_rows", lambda *_, **__: pytest.fail("sampled again"))
        assert evaluate(6) == work.result
    other = evaluate(3)
    assert re.fullmatch(r"toy-[0-9a-f]{6}", other.name)
    assert other.parent == work.result.parent
    assert read_json(other / "manifest.json")["data"]["n_prompts"] == 3
    assert evaluate(3) == other
    assert evaluate(6) == work.result
    assert snapshot(work.result) == before
    # fewer prompts are a part of more, and the same prompt is answered alike
    rows_3, rows_6 = ({(r["model"], r["prompt_id"], r["sample"]): r["response"] for r in rows(f / "responses.jsonl")}
                      for f in (other, work.result))  # fmt: skip
    assert rows_3.items() <= rows_6.items()


def test_an_interrupted_evaluation_completes_to_the_same_numbers(work: Work, tmp_path: Path) -> None:
    stranger = save_policy(tmp_path / "stranger", positions=160)  # another tokenizer: its KL is missing, with a reason

    def evaluate(results: str) -> Path:
        return evaluation.evaluate(
            run="toy", limit=3, samples=1, models={"stranger": str(stranger)},
            checkpoints=work.checkpoints, results=tmp_path / results,
        ).folder  # fmt: skip

    whole = evaluate("whole")
    calls: list[str] = []
    sampled_rows, anchor_rows = evaluate_run.sampled_rows, evaluate_run.anchor_rows

    def stop_at(position: int) -> None:
        """Ctrl-C when the work on part `position` (from 0) is under way."""

        def counted(source: Any, *given: Any, **more: Any) -> Any:
            rows = sampled_rows(source, *given, **more)
            if len(calls) == position:
                raise KeyboardInterrupt
            calls.append(source.name)
            return rows

        patch.setattr(evaluate_run, "sampled_rows", counted)

    with pytest.MonkeyPatch.context() as patch:
        stop_at(1)
        with pytest.raises(KeyboardInterrupt):
            evaluate("broken")
        assert calls == ["base"]
        stop_at(100)
        patch.setattr(evaluate_run, "anchor_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            evaluate("broken")
        patch.setattr(evaluate_run, "anchor_rows", anchor_rows)
        folder = evaluate("broken")
    assert calls == ["base", "sft", "ppo", "grpo", "dpo", "stranger", "sft"]  # each once, and sft's pool
    assert read_json(folder / "metrics.json") == read_json(whole / "metrics.json")
    assert (folder / "responses.jsonl").read_bytes() == (whole / "responses.jsonl").read_bytes()
    pd.testing.assert_frame_equal(*(pd.read_parquet(f / "scores.parquet") for f in (folder, whole)))
    missing = {(m["model"], m["metric"]): m["reason"] for m in read_json(folder / "metrics.json")["missing"]}
    assert missing["stranger", "kl_exact"] == "another tokenizer than the reference's"


def test_a_stage_that_was_not_trained_is_named_with_the_command_that_makes_it(work: Work, tmp_path: Path) -> None:
    for stage in ("base", "sft"):
        shutil.copytree(work.run / stage, tmp_path / "checkpoints" / "part" / stage)
    folder = evaluation.evaluate(
        run="part", limit=2, samples=1, checkpoints=tmp_path / "checkpoints", results=tmp_path / "results"
    ).folder
    missing = {(m["model"], m["metric"]): m["reason"] for m in read_json(folder / "metrics.json")["missing"]}
    assert missing["ppo", "everything"] == "not trained; make it with: rlhf-bench train ppo --run part"
    assert "rlhf-bench train reward --run part" in missing["all", "reward"]


def test_a_reward_function_that_is_not_there_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="importing no_such_module gives"):
        train(["grpo"], recipe="mini-short", overrides=["reward.function=no_such_module:f"], root=tmp_path)
    assert not list(tmp_path.iterdir())
