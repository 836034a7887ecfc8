"""What goes wrong is one line with its exit status, and nothing that was there is lost.

Names that do not exist and options out of range are in test_cli.py, data files that cannot be read in data/.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from rlhf_bench.cli import cli
from rlhf_bench.data import Reader, hub, mini
from rlhf_bench.modeling import model_files, models
from rlhf_bench.modeling.checkpoints import checkpoint_hash
from rlhf_bench.modeling.models import load_policy

from ..tiny import save_policy, save_reward, save_run, write_training

TOY = Path(__file__).parents[2] / "trainers" / "toy.yaml"
CONFIG = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 128, "max_response_tokens": 16}}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights (sft and reward), and a file of pairs, which is quicker to read than hh-mini."""
    folder = tmp_path_factory.mktemp("bad")
    pairs = [
        json.dumps({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected})
        for p in mini.generate("validation", n=200)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    config = {"data": {**CONFIG["data"], "source": "pairs.jsonl"}}
    save_run(folder / "checkpoints" / "default", config=config, samples=1, tokens=1, seconds=1.0)
    return folder


@pytest.fixture(autouse=True)
def here(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of all that, free to be broken."""
    shutil.copytree(original, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (model_files, hub):
        monkeypatch.setattr(module, "hub_answers", lambda: False)


def call(line: str) -> Result:
    return CliRunner().invoke(cli, ["--quiet", *shlex.split(line)])


def fails(line: str, status: int) -> str:
    """Run it; check the form of the failure; return what the one line says after "error: "."""
    result = call(line)
    assert result.exit_code == status, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert "unexpected error" not in lines[0]
    assert result.stdout == ""
    return lines[0].removeprefix("error: ")


def train(what: str) -> str:
    return f"train {what} --recipe {TOY} --set data.source=pairs.jsonl"


# --- names and values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "train all --set ppo.kl_coef=-1",
            "ppo.kl_coef: given -1, expected greater than or equal to 0",
        ),
        ("train all --set ppo.kl_coef=high", 'ppo.kl_coef: given "high", expected a number'),
        ("train all --set sft.max_steps=2.5", "sft.max_steps: given 2.5, expected an integer"),
        ("train all --set sft.keep=worst", "sft.keep: given \"worst\", expected 'last' or 'best'"),
        ("train all --set kl_coef=1", "unknown key 'kl_coef'; did you mean 'ppo.kl_coef'?"),
        ("train all --set seed", "--set: given 'seed', expected KEY=VALUE, a key of the file and its value in YAML"),
        ("train all --seeds 1001", "invalid value for '--seeds': 1001 is not in the range 1<=x<=1000"),
        ("train all --set seed=99999999999999999999", "seed: given 99999999999999999999, expected less than "),
        ("train base --explain --dry-run", "--explain: given with --dry-run"),
        ("train base --sweep base.lr=0.1,0.2 --set base.lr=0.1", "--sweep base.lr: given with --set of the same key"),
        ("train all --recipe no.yaml", "unknown recipe 'no.yaml'; known: "),
        ("eval --samples 999999999999", "samples: given 999999999999, expected less than or equal to "),
        ("eval --samples 2 --set samples=3", "--set samples: given with --samples"),
        ("eval --limit 2 --set prompts=3", "--set prompts: given with --limit"),
        ("eval --strip think", "--strip: given without --responses"),
        ("eval --columns prompt=x", "--columns: given without --responses"),
        ("eval --responses a=pairs.jsonl --split nope", "--split: given with response files alone"),
        ("eval --responses a=pairs.jsonl --samples 3", "--samples: given with response files alone"),
        ("eval --reward-model a=", "--reward-model: given 'a=', expected [NAME=]PATH"),
        ("eval --data ''", "--data: given an empty text"),
        ("eval --suite=", "--suite: given an empty text"),
        ("report ''", "an argument: given an empty text"),
        ("data prepare pairs.jsonl --out out --revision main", "--revision: given with pairs.jsonl, which is no "),
        ("data prepare hh-mini --out out --revision main", "--revision: given with hh-mini, which is no "),
        ("audit --reward-model mean:x", "--reward-model: given mean:x, expected two or more members"),
        ("train all --set model.n_head=7", "model.n_head: given 7, expected a divisor of "),
        ("train all --set model.n_positions=64", "model.n_positions: given 64, expected at least 192 "),
        ("train all --set data.filters=hh-edge-case", "unknown "),
        ("train all --explain reward extra", "unknown stage 'extra'; known: "),
        ("eval --reference sftt --limit 2", "unknown reference model 'sftt'; did you mean 'sft'?"),
        ("eval --model sft=somewhere --limit 2", "two models have the name 'sft'; give one of them another: NAME=..."),
        ("eval --model chosen=somewhere --limit 2", "the name 'chosen' is the data's own response in every table"),
        (
            "eval --reward-model x/a --reward-model y/a --limit 2",
            "--reward-model: the name 'a' is given twice",
        ),
        ("eval --responses =a.jsonl", "--responses: given '=a.jsonl', expected NAME=FILE, such as "),
        ("eval --responses a=a.jsonl --columns promt=x", "unknown column 'promt'; did you mean 'prompt'?"),
        ("eval --responses a=a.jsonl --columns prompt", "--columns: given 'prompt', expected ROLE=NAME,..., such as "),
        ("eval --model a=x --prompt-template chatlm", "unknown prompt template 'chatlm'; did you mean 'chatml'?"),
        (
            "eval --model a=x --prompt-template b=chatml",
            "--prompt-template b=...: no --model, --reward-model or --perplexity-model has that name",
        ),
        ("eval --prompt-template chatml", "--prompt-template: given without a --model"),
        ("eval --from m.json --limit 3", "--from: given with other options about what is evaluated"),
        ("eval --limit -3", "invalid value for '--limit': -3 is not in the range x>=1"),
        ("eval --samples 0", "invalid value for '--samples': 0 is not in the range x>=1"),
        ("eval --seed none", "invalid value for '--seed': 'none' is not a valid integer"),
        *[
            (
                f"compare a b --difference gold={size}",
                f"--difference: given gold='{size}', expected METRIC=SIZE with a ",
            )
            for size in ("nan", "inf", "0", "-1", "big")
        ],
        ("data prepare pairs.jsonl --out o --filter hh-edge-case", "unknown "),
        ("data prepare pairs.jsonl --out o --column colour=x", "unknown "),
    ],
)
def test_names_and_values_that_cannot_be(here: Path, line: str, message: str) -> None:
    before = {str(path) for path in here.rglob("*")}
    assert fails(line, 2).startswith(message)
    assert {str(path) for path in here.rglob("*")} == before  # nothing was begun


def test_a_recipe_or_suite_file_with_a_bad_key_or_no_yaml(here: Path) -> None:
    Path("mine.yaml").write_text("ppo: {kl_coeff: 0.2}\n")
    assert fails("train all --recipe mine.yaml", 2) == "unknown key 'ppo.kl_coeff'; did you mean 'ppo.kl_coef'?"
    Path("mine.yaml").write_text("ppo: {kl_coef: [\n")
    assert re.match(r"mine\.yaml: line 2: .*; expected a YAML mapping", fails("train all --recipe mine.yaml", 2))
    assert fails("train all --recipe yours.yaml", 2).startswith("unknown recipe 'yours.yaml'")
    Path("mine.yaml").write_text("# nothing yet\n")
    assert fails("eval --suite mine.yaml", 2).startswith("mine.yaml is empty; expected the keys of a suite")
    assert fails("train all --recipe mine.yaml", 2) == (
        "mine.yaml is empty; expected the keys of a recipe, such as description and ppo"
    )


@pytest.mark.parametrize("name", [".", "..", "../esc", "p/q", "default/seed-1", "/proc/esc", ".hidden", "a b", "a\nb"])
def test_a_runs_name_is_a_plain_folder_name(here: Path, name: str) -> None:
    before = {str(path) for path in here.parent.rglob("*")}
    quoted = shlex.quote(name)
    for line in (
        f"train base --recipe {TOY} --run {quoted}",
        f"train base --recipe {TOY} --run {quoted} --sweep base.lr=0.001,0.002",
        f"eval --limit 2 --run {quoted}",
        f"eval --responses a=pairs.jsonl --run {quoted}",
        f"audit --run {quoted}",
        f"audit --run {quoted} --reward-model checkpoints/default/reward --limit 5",
        f"selftest --run {quoted}",
        f"push {quoted} --to org/name --dry-run",
    ):
        assert fails(line, 2).startswith("run: given "), line
    assert {str(path) for path in here.parent.rglob("*")} == before


def test_what_cannot_be_written_is_an_error_before_anything_is_computed(here: Path) -> None:
    """/proc takes no new folder, not even root's."""
    for line in (
        "eval --responses a=texts.jsonl --results /proc/x",
        "audit --limit 5 --results /proc/x",
        f"{train('base')} --checkpoints /proc/x",
    ):
        Path("texts.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
        assert "/proc/x" in fails(line, 1)


def test_options_of_numbers_take_no_nan(here: Path) -> None:
    for option in ("--timeout nan", "--poll inf", "--requests-per-minute nan"):
        text = fails(f"judge run nothing --judge length {option}", 2)
        assert text.endswith("is not a finite number; see: rlhf-bench judge run --help")


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "eval --run other --checkpoints .",
            "other holds no checkpoint; make them with: rlhf-bench train all --run other",
        ),
        (
            "audit --run other --checkpoints .",
            "other/reward does not exist; make it with: rlhf-bench train reward --run other",
        ),
        (
            "selftest --run other --checkpoints .",
            "other/sft does not exist; make it with: rlhf-bench train sft --run other",
        ),
    ],
)
def test_a_missing_checkpoint_names_the_command_that_makes_it(line: str, message: str) -> None:
    Path("other").mkdir()  # a run that is there, and not trained so far
    assert fails(line, 1) == message


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _pickle(file: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, file)


def _pointer(file: Path) -> None:
    """What git leaves where a large file was not fetched."""
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


@pytest.mark.parametrize("damage", [_cut, _empty, _pickle, _pointer])
@pytest.mark.parametrize(
    "line",
    [
        "eval --limit 2",
        "audit --limit 2",
        "selftest",
        "eval --run second --model mine=checkpoints/default/{} --limit 2",
    ],
)
def test_weights_that_are_cut_or_of_another_kind(damage: Callable[[Path], None], line: str) -> None:
    stage = "reward" if line.startswith("audit") else "sft"
    shutil.copytree("checkpoints/default", "checkpoints/second")
    file = Path("checkpoints/default", stage, "model.safetensors")
    damage(file)
    message = fails(line.format(stage), 1)
    assert message.startswith(f"{file} is ")
    assert ("is damaged: " if damage is _cut else "is no safetensors file") in message
    assert "restore" in message


def test_sound_weights_of_another_model() -> None:
    folder = Path("mine")
    save_policy(folder)
    save_file({"other.weight": torch.zeros(3)}, folder / "model.safetensors", metadata={"format": "pt"})
    message = fails("eval --model mine=mine --limit 2", 1)
    assert message.startswith("mine: its weights file lacks ")
    assert "it belongs to another model" in message


def test_a_tokenizer_of_another_model() -> None:
    save_policy(Path("mine"))
    model, _ = load_policy("mine")
    model.resize_token_embeddings(260)
    model.save_pretrained("mine")
    message = fails("eval --model mine=mine --limit 2", 1)
    assert message.startswith("mine: its tokenizer has 500 tokens, its embedding only 260")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", [None, "{broken"])
def test_a_model_folder_without_its_files_or_with_broken_ones(name: str, text: str | None) -> None:
    file = save_policy(Path("mine")) / name
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    assert fails("eval --model mine=mine --limit 2", 1).startswith("mine ")


def test_weights_that_were_changed_after_training() -> None:
    file = Path("checkpoints/default/sft/model.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    message = fails("eval --limit 2", 1)
    assert message.startswith("checkpoints/default/sft: its files hash to ")
    assert message.endswith("make it again with: rlhf-bench train sft --force")


def test_a_checkpoint_whose_parent_has_changed() -> None:
    sft = Path("checkpoints/default/sft")
    old = checkpoint_hash(sft)
    shutil.rmtree(sft)
    write_training(save_policy(sft, seed=7), config=CONFIG)
    message = (
        f"checkpoints/default/reward was trained from sft {old}, but {sft} is now {checkpoint_hash(sft)}; "
        "train it again with: rlhf-bench train reward --force"
    )
    for line in ("eval --limit 2", "audit --limit 2"):
        assert fails(line, 1) == message


def test_a_broken_training_json() -> None:
    Path("checkpoints/default/sft/training.json").write_text("{")
    assert fails("eval --limit 2", 1).startswith("checkpoints/default/sft/training.json cannot be read ")


# --- models that do not fit their role -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["eval", "audit"])
def test_a_reward_model_with_two_outputs(command: str) -> None:
    save_reward(Path("two"), Path("checkpoints/default/sft"), labels=2)
    assert fails(f"{command} --reward-model two --limit 2", 1) == (
        "two has 2 outputs; a reward model has 1: train one with num_labels=1"
    )


@pytest.mark.parametrize("command", ["eval", "audit"])
def test_a_language_model_as_reward_model(command: str) -> None:
    message = fails(f"{command} --reward-model checkpoints/default/sft --limit 2", 1)
    assert message.startswith("checkpoints/default/sft is no reward model (GPT2LMHeadModel); expected ")


def test_a_reward_model_as_language_model() -> None:
    message = fails("eval --model mine=checkpoints/default/reward --limit 2", 1)
    assert message.startswith("checkpoints/default/reward is a reward model; expected a causal language model")


@pytest.mark.usefixtures("no_network")
def test_a_hub_name_without_network_or_cache() -> None:
    what = (
        "nobody/nothing is neither a folder nor a model that the hub or its cache gives; "
        "download it where there is a network and give the folder's path instead"
    )
    for line in (
        train("base --set model=nobody/nothing"),
        "eval --model mine=nobody/nothing --limit 2",
        "eval --reward-model nobody/nothing --limit 2",
        "audit --reward-model nobody/nothing --limit 2",
        "selftest --model nobody/nothing",
    ):
        assert fails(line, 1) == what
    for line in (
        f"train base --recipe {TOY} --set data.source=nobody/nothing",
        "eval --data nobody/nothing --limit 2",
        "data prepare nobody/nothing --out out",
    ):
        message = fails(line, 1)
        assert "nobody/nothing" in message
        assert "give a local file instead" in message


def test_a_path_that_is_not_there() -> None:
    assert (
        fails("eval --model mine=no/where/here --limit 2", 1) == "no/where/here does not exist; expected a model folder"
    )


def _constant(path: Path, token: int) -> None:
    """A policy that gives one token with probability 1, whatever is before it."""
    save_policy(path)
    model, tokenizer = load_policy(path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[token] = 10.0
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def test_a_model_that_answers_nothing() -> None:
    _constant(Path("silent"), load_policy("checkpoints/default/sft")[1].eos_token_id)
    result = call("eval --model silent=silent --limit 3 --samples 2")
    assert result.exit_code == 1
    expected = (
        "error: silent: could not be evaluated, and the others were: silent (silent): all 6 responses are empty; "
    )
    assert result.stderr.startswith(expected)
    # the others' numbers are there, and the reason; so they are when it is evaluated again
    metrics = json.loads(Path("results/hh-test/default/metrics.json").read_text(encoding="utf-8"))
    assert {"sft", "chosen", "rejected"} == metrics["models"].keys()
    (reason,) = [m["reason"] for m in metrics["missing"] if (m["model"], m["metric"]) == ("silent", "everything")]
    assert reason.startswith("silent (silent): all 6 responses are empty")
    assert "no reason recorded" not in Path("results/hh-test/default/tables/summary.md").read_text(encoding="utf-8")
    assert call("eval --model silent=silent --limit 3 --samples 2").exit_code == 1
    alone = fails("eval --model silent=silent --data pairs.jsonl --limit 3 --samples 2", 1)
    assert alone.startswith("silent (silent): all 6 responses are empty; expected text: check that ")


def test_a_model_whose_probabilities_are_nan() -> None:
    save_policy(Path("broken"))
    model, _ = load_policy("broken")
    with torch.no_grad():
        model.transformer.ln_f.bias.fill_(float("nan"))
    model.save_pretrained("broken")
    message = fails("eval --model broken=broken --data pairs.jsonl --limit 2", 1)  # it is the reference
    assert message.startswith("broken (broken): the probabilities of the next token are NaN")
    assert [path.name for path in Path("results/hh-test/broken/.parts").iterdir()] == []


# --- data ------------------------------------------------------------------------------------------------------------


def _pairs_that_no_filter_keeps(path: Path) -> None:
    """Responses under ten characters, and pairs whose sides have different prompts."""
    rows = [{"prompt": f"\n\nHuman: {i}?\n\nAssistant:", "chosen": " Yes.", "rejected": " No."} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "line",
    [
        f"train base --recipe {TOY} --set data.source=short.jsonl --set data.filters=hh-edge-cases",
        "data prepare short.jsonl --out out --filter hh-edge-cases",
    ],
)
def test_no_row_left_after_filters(line: str) -> None:
    _pairs_that_no_filter_keeps(Path("short.jsonl"))
    message = fails(line, 1)
    assert message.startswith("no pair is left in split 'train' of short.jsonl: ")
    assert re.search(r"\d+ read; .*\d+ \w+", message)
    assert not Path("out").exists()


def test_no_row_left_after_pairs_with_different_prompts_are_dropped() -> None:
    rows = [
        {"chosen": f"\n\nHuman: {i}?\n\nAssistant: Yes.", "rejected": f"\n\nHuman: not {i}?\n\nAssistant: No."}
        for i in range(20)
    ]
    Path("apart.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = fails(f"train base --recipe {TOY} --set data.source=apart.jsonl", 1)
    assert "no pair is left" in message
    assert "20 different prompts" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing.jsonl"),
        (b"", "is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (
            '{"prompt": "a"}\n'.encode("utf-16-be"),
            "given.jsonl has the columns prompt; expected prompt/chosen/rejected",
        ),
        (b"\n \n\n", "holds blank lines only; expected at least one row"),
        (b'{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": \n', "row 2 is not JSON"),
        (b'{"question": "a", "answer": "b"}\n', "question"),
    ],
)
@pytest.mark.parametrize("command", ["train base --recipe {toy} --set data.source={}", "eval --data {} --limit 2"])
def test_a_data_file_that_cannot_be_used(command: str, content: bytes | None, message: str) -> None:
    file = Path("missing.jsonl" if content is None else "given.jsonl")
    if content is not None:
        file.write_bytes(content)
    printed = fails(command.format(file, toy=TOY), 1)
    assert file.name in printed
    assert message in printed


def write_pairs(path: str, rows: list[dict[str, str]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_pairs_of_which_none_differs_end_before_anything_is_trained() -> None:
    write_pairs("same.jsonl", [{"prompt": f"Say {i}.", "chosen": "Yes.", "rejected": "Yes."} for i in range(60)])
    n = len(Reader("same.jsonl").load("train"))
    printed = (
        f"same.jsonl, train: chosen and rejected are the same text in all {n} pairs, so {{}} would have nothing to "
        "learn; expected pairs that differ"
    )
    line = f"train {{}} --recipe {TOY} --set data.source=same.jsonl --run same"
    assert fails(line.format("all"), 1).startswith(printed.format("reward and dpo"))
    assert fails(line.format("dpo"), 1).startswith(printed.format("dpo"))
    assert not list(Path("checkpoints/same").rglob("log.jsonl"))  # nor begun
    assert call(line.format("sft")).exit_code == 0  # which learns from the chosen ones alone


# --- folders that cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("eval --limit 2 --results {}", "{}/hh-test/default cannot be written (Not a directory); give --results "),
        ("audit --limit 2 --results {}", "cannot write {}"),
        (train("base --checkpoints {}"), "{}/default: Not a directory; a file is where "),
        ("data prepare pairs.jsonl --out {}", "'{}' cannot be written ("),
    ],
)
def test_a_folder_that_cannot_be_written(line: str, message: str) -> None:
    """Below a file: for root, who runs the tests in a container, a read-only folder is none."""
    Path("file").write_text("kept")
    assert fails(line.format("file/below"), 1).startswith(message.format("file/below"))
    assert Path("file").read_text() == "kept"


# --- numbers that are not finite -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(original: Path, plot_training_curve: Callable[..., None]) -> Path:
    """A run trained as far as its reward model."""
    root = original.parent / "trained"
    pairs = original / "pairs.jsonl"
    line = f"--quiet train reward --recipe {TOY} --set data.source={pairs} --run run --checkpoints {root}"
    result = CliRunner().invoke(cli, shlex.split(line))
    assert result.exit_code == 0, result.stderr
    return root


def hashes(run: Path) -> dict[str, str]:
    return {path.name: checkpoint_hash(path) for path in run.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("stage", ["base", "sft", "reward", "ppo", "grpo", "dpo"])
def test_a_learning_rate_too_high_stops_at_its_step_and_keeps_what_was_there(
    original: Path, trained: Path, stage: str
) -> None:
    shutil.copytree(trained, "runs")
    run, parents = Path("runs/run"), {"base": (), "sft": ("base",)}.get(stage, ("base", "sft"))
    for name in ("base", "sft", "reward"):
        if name not in parents and not (name == "reward" and stage in ("ppo", "grpo")):
            shutil.rmtree(run / name)
    before = hashes(run)
    line = (
        f"train {stage} --recipe {TOY} --set data.source={original / 'pairs.jsonl'} --run run --checkpoints runs "
        "--set save_seconds=0"
    )
    message = fails(f"{line} --set {stage}.lr=1e30", 1)
    assert re.match(rf"{stage}, step \d of 3: .*(nan|NaN|inf)", message), message
    assert hashes(run) == before
    # and what the line advises works
    assert "lower the learning rate" in message
    assert message.endswith("--no-resume")
    assert call(f"{line} --no-resume").exit_code == 0
    assert (run / stage / "training.json").exists()


def test_a_reward_that_is_not_finite_stops_and_names_the_step(original: Path, trained: Path) -> None:
    shutil.copytree(trained, "runs")
    reward = Path("runs/run/reward")
    model, _ = models.load_reward_model(reward)
    with torch.no_grad():
        model.score.weight.fill_(float("inf"))
    model.save_pretrained(reward)
    training: dict[str, Any] = json.loads((reward / "training.json").read_text())
    (reward / "training.json").write_text(json.dumps(training | {"hash": checkpoint_hash(reward)}))
    line = f"--recipe {TOY} --set data.source={original / 'pairs.jsonl'} --run run --checkpoints runs"
    for stage in ("ppo", "grpo"):
        assert re.match(rf"{stage}, step 1 of 3: .*(nan|inf)", fails(f"train {stage} {line}", 1))


# --- the process itself ----------------------------------------------------------------------------------------------


def test_the_process_ends_with_the_status_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_bench", "eval", "--run", "other"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: unknown run 'other'; known: default; make it with: rlhf-bench train all --run other\n"
    )
    assert done.stdout == ""


@pytest.mark.usefixtures("no_report")
def test_the_pairs_of_this_file_can_be_used_when_nothing_is_wrong() -> None:
    """So that no test above fails for another reason than its own."""
    assert len(Reader("pairs.jsonl").load("test")) > 5
    assert call("eval --limit 2 --samples 1").exit_code == 0


def test_the_pair_is_a_form_of_reward_models_alone() -> None:
    models = "--data pairs.jsonl --model m=checkpoints/default/sft --reward-model q=./nowhere/rm"
    assert fails(f"eval {models} --prompt-template m=pair", 2).startswith(
        "unknown prompt template 'pair'; known: alpaca"
    )
    assert "nowhere/rm does not exist" in fails(f"eval {models} --prompt-template q=pair", 1)  # it is read, and goes on
