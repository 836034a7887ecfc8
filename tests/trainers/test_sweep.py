"""--sweep: a run a value, which share what the key does not decide; and the curve that they make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from rlhf_bench.errors import BadValue
from trainers.config.loading import load_recipe
from trainers.sweep import decided_stages, parse_sweep, train_sweep, without_ignored

from .conftest import TOY, call


def train(root: Path, *words: str) -> Result:
    return call("train", *words, "--recipe", TOY, "--run", "toy", "--checkpoints", root)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "checkpoints"
    output = train(folder, "dpo", "--sweep", "dpo.beta=0.05,0.3", "--seeds", "2")
    assert output.exit_code == 0, output.stderr
    assert output.stdout.splitlines() == [f"checkpoints: {folder / name}" for name in RUNS]
    return folder


RUNS = ("toy.dpo.beta=0.05", "toy.dpo.beta=0.3")


def read(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "training.json").read_text()))


def test_a_run_a_value_with_the_shared_stages_trained_once(root: Path) -> None:
    assert sorted(p.name for p in root.iterdir() if not p.name.startswith(".")) == ["toy", *RUNS]
    for seed in ("seed-0", "seed-1"):
        assert sorted(p.name for p in (root / "toy" / seed).iterdir() if p.name != ".lock") == ["base", "sft"]
        for run, beta in zip(RUNS, (0.05, 0.3), strict=True):
            training = read(root / run / seed / "dpo")
            assert training["config"]["dpo"]["beta"] == beta  # type: ignore[index]
            assert training["parents"]["sft"]["hash"] == read(root / "toy" / seed / "sft")["hash"]  # type: ignore[index]
        betas = [(root / run / seed / "dpo" / "model.safetensors").read_bytes() for run in RUNS]
        assert betas[0] != betas[1]


def test_again_trains_nothing_and_an_interrupted_one_goes_on(root: Path) -> None:
    times = {p: p.stat().st_mtime_ns for p in root.rglob("model.safetensors")}
    assert train(root, "dpo", "--sweep", "dpo.beta=0.05,0.3", "--seeds", "2").exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in root.rglob("model.safetensors")} == times


@pytest.mark.usefixtures("no_report")
def test_its_curve_is_evaluated_under_both_seeds(root: Path, tmp_path: Path) -> None:
    """Two members, crossed with two seeds: reward at equal KL, a table, and names by the value."""
    output = call(
        "eval", "--run", "toy", "--checkpoints", root, "--results", tmp_path, "--limit", "4", "--samples", "1",
        "--curve", f"dpo={root}/toy.dpo.beta=*/seed-{{seed}}/dpo",
    )  # fmt: skip
    assert output.exit_code == 0, output.stderr
    metrics = json.loads((tmp_path / "hh-test" / "toy" / "metrics.json").read_text())
    assert {"dpo@0.05", "dpo@0.3"} <= metrics["models"].keys()
    manifest = json.loads((tmp_path / "hh-test" / "toy" / "manifest.json").read_text())
    assert [Path(m["path"]).parent.name for m in manifest["models"]["dpo@0.3"]] == ["seed-0", "seed-1"]
    assert [entry["metric"] for entry in metrics["equal_kl"]] == ["gold"]  # toy has no reward model here
    assert metrics["models"]["dpo@0.3"]["gold"]["n_seeds"] == 2
    again = call(
        "eval", "--run", "toy", "--checkpoints", root, "--results", tmp_path, "--limit", "4", "--samples", "1",
        "--curve", f"dpo={root}/toy.dpo.beta=*/seed-{{seed}}/dpo",
    )  # fmt: skip
    assert "everything is stored" in again.stderr


def test_seed_in_a_path_without_a_run_of_several_seeds(root: Path, tmp_path: Path) -> None:
    output = call(
        "eval", "--model", f"a={root}/toy/seed-{{seed}}/sft", "--data", "hh-mini", "--results", tmp_path, "--limit", "2"
    )
    assert output.exit_code == 2
    assert "holds {seed}, and no run of several seeds takes part; name the folder, or give --run NAME" in output.stderr


def test_what_a_key_decides() -> None:
    mini = load_recipe("mini")

    def decided(key: str) -> set[str]:
        return decided_stages(("base", "sft", "reward", "ppo", "grpo", "dpo"), mini, load_recipe("mini", [key]))

    assert decided("dpo.beta=0.3") == {"dpo"}
    assert decided("sft.lr=1e-4") == {"sft", "reward", "ppo", "grpo", "dpo"}
    assert decided("reward.backbone=base") == {"reward", "ppo", "grpo"}
    assert decided("reward.function=gold") == {"ppo", "grpo"}
    assert decided("data.limit=100") == {"base", "sft", "reward", "ppo", "grpo", "dpo"}
    assert decided("save_seconds=1") == set()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dpo.beta", "--sweep: given 'dpo.beta', expected KEY=VALUE,VALUE,"),
        ("dpo.beta=0.1,,0.3", "--sweep: given 'dpo.beta=0.1,,0.3', expected KEY=VALUE,VALUE,"),
        ("dpo.beta=0.1", "--sweep dpo.beta: given 0.1, expected two or more different values"),
        ("dpo.beta=0.1,0.1", "--sweep dpo.beta: given 0.1,0.1, expected two or more different values"),
        ("data.source=a/b,c/d", "--sweep data.source: 'a/b' cannot be part of a folder's name"),
        ("seed=1,2", "--sweep seed: a seed has a place of its own; use --seeds N"),
    ],
)
def test_bad_sweeps_are_one_line(given: str, message: str) -> None:
    with pytest.raises(BadValue, match=message.replace("(", r"\(")):
        parse_sweep(given)


def test_a_value_that_does_not_fit_is_an_error_before_anything_is_trained(tmp_path: Path) -> None:
    output = train(tmp_path, "dpo", "--sweep", "dpo.beta=0.1,many")
    assert (output.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert 'dpo.beta: given "many", expected a number' in output.stderr
    output = train(tmp_path, "grpo", "--sweep", "grpo.num_generations=2,1")
    assert (output.exit_code, list(tmp_path.iterdir())) == (2, [])
    output = train(tmp_path, "dpo", "--sweep", "sft.lr=0.01,1e-3,0.001")
    assert output.stderr.startswith("error: --sweep sft.lr: 1e-3 and 0.001 are the same value")
    output = train(tmp_path, "dpo", "--sweep", "grpo.beta=0.1,0.2")
    assert (output.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "--sweep grpo.beta: it decides nothing of base, sft, dpo; sweep another key" in output.stderr


def test_a_key_that_one_value_alone_obeys(tmp_path: Path) -> None:
    """lam is GAE's: it is kept for gae and left out for reward; where no value obeys it, it is refused."""
    settings = {value: ["ppo.lam=0.9", f"ppo.advantage={value}"] for value in ("gae", "reward")}
    # private: through what is public this would be two trainings of ppo
    assert without_ignored("mini", settings, ["ppo"]) == {
        "gae": ["ppo.lam=0.9", "ppo.advantage=gae"],
        "reward": ["ppo.advantage=reward"],
    }
    sweep = parse_sweep("ppo.advantage=reward,reward_minus_value")
    with pytest.raises(BadValue, match=r"^ppo\.lam: given 0\.9, but it decides nothing: "):
        train_sweep(["ppo"], sweep, recipe="mini", run="r", overrides=["ppo.lam=0.9"], root=tmp_path)
    assert not list(tmp_path.iterdir())
