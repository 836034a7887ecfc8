"""Model cards and `push`: what would be uploaded, what is, and that no token is ever shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from click.testing import CliRunner, Result

from rlhf_bench.cli import cli, publish
from rlhf_bench.hub import hub_answers
from rlhf_bench.modeling.checkpoints import checkpoint_hash
from rlhf_bench.report.model_card import Evaluated, model_card
from rlhf_bench.store import MANIFEST_KEYS
from rlhf_bench.types import Estimate

from ..tiny import save_policy

TOKEN = "hf_planted0123456789"
TRAINING: dict[str, Any] = {
    "stage": "sft", "seed": 3, "config": {"sft": {"lr": 0.002, "loss_on": "response"}},
    "parents": {"base": {"hash": "beefbeefbeefbeef"}},
    "data": {"source": "Anthropic/hh-rlhf", "fingerprint": "f00d", "pairs": 20000},
    "metrics": {"eval_loss": 0.4736, "eval_perplexity": 1.606}, "samples": 640, "tokens": 12345, "steps": 10,
    "seconds": 12.5, "precision": "bf16",
    "alarms": [{"name": "entropy_collapse", "step": 7, "message": "entropy fell from 2 to 0.1 nats a token"}],
}  # fmt: skip
EVALUATED = Evaluated("hh-test", "hh-mini", "test", 150, "sft", {
    "gold": Estimate(1.25, 1.0, 1.5, 150), "kl_exact": Estimate(0.0, math.nan, math.nan, 150),
})  # fmt: skip


def block(card: str) -> dict[str, Any]:
    _, metadata, _ = card.split("---\n", 2)
    return dict(yaml.safe_load(metadata))


def test_the_metadata_is_what_the_hub_reads() -> None:
    """Read back by huggingface_hub itself."""
    card = model_card(TRAINING, name="org/mine-sft", evaluated=[EVALUATED])
    data = huggingface_hub.ModelCard(card).data
    kind = {key: data.to_dict()[key] for key in ("library_name", "pipeline_tag", "datasets")}
    assert kind == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "datasets": ["Anthropic/hh-rlhf"],
    }  # fmt: skip
    assert data.model_name == "mine-sft"
    assert [(r.dataset_name, r.dataset_split, r.metric_type, r.metric_value) for r in data.eval_results] == [
        ("hh-test on hh-mini", "test", "gold", 1.25),
        ("hh-test on hh-mini", "test", "kl_exact", 0.0),
        ("Anthropic/hh-rlhf", "validation", "eval_loss", 0.4736),
        ("Anthropic/hh-rlhf", "validation", "eval_perplexity", 1.606),
    ]


def test_the_metadata_has_one_value_a_metric_that_of_most_prompts() -> None:
    few = EVALUATED._replace(n_prompts=5, numbers={"gold": Estimate(-0.5, -2.0, 1.0, 5)})
    other = EVALUATED._replace(suite="safety", n_prompts=7, numbers={"gold": Estimate(0.1, 0.0, 0.2, 7)})
    for order in ([few, EVALUATED, other], [EVALUATED, other, few]):
        card = model_card(TRAINING, name="org/mine-sft", evaluated=order)
        results = huggingface_hub.ModelCard(card).data.eval_results
        gold = [(r.dataset_name, r.metric_value) for r in results if r.metric_type == "gold"]
        assert gold == [("hh-test on hh-mini", 1.25), ("safety on hh-mini", 0.1)]
        assert "5 prompts" in card  # the text is about both


def test_the_text_has_data_intervals_alarms_configuration_and_how_to_load() -> None:
    card = model_card(TRAINING, name="org/mine-sft", evaluated=[EVALUATED])
    for part in (
        "`Anthropic/hh-rlhf` (20,000 training pairs, fingerprint f00d). Parents: base (beefbeefbeefbeef).",
        "| Gold | 1.25 | [1, 1.5] |",
        "| KL exact | 0 | – |",
        "- step 7, entropy_collapse: entropy fell from 2 to 0.1 nats a token",
        '"loss_on": "response"',
        'AutoModelForCausalLM.from_pretrained("org/mine-sft")',
    ):
        assert part in card
    reward = model_card({**TRAINING, "stage": "reward", "alarms": []}, name="reward")
    assert "AutoModelForSequenceClassification" in reward
    assert "None was raised." in reward
    assert block(reward)["pipeline_tag"] == "text-classification"


@pytest.mark.parametrize("source", ["hh-mini", "/home/me/pairs.jsonl", "./data", "data/pairs.jsonl"])
def test_only_a_name_on_the_hub_is_given_as_a_data_set(source: str) -> None:
    card = model_card({**TRAINING, "data": {**TRAINING["data"], "source": source}}, name="x")
    assert "datasets" not in block(card)


# push


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A run of one seed with an sft checkpoint, and a result that holds its numbers beside another's."""
    folder = tmp_path / "checkpoints" / "mine" / "sft"
    save_policy(folder)
    training = {**TRAINING, "hash": checkpoint_hash(folder), "parents": {}}
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "log.jsonl").write_text("{}\n")
    (folder / "README.md").write_text("the card of the training")
    for name, made_of in (("mine", training["hash"]), ("other", "0" * 16)):
        result = tmp_path / "results" / "hh-test" / name
        result.mkdir(parents=True)
        manifest = {
            **dict.fromkeys(MANIFEST_KEYS, "x"), "seeds": [3], "suite": "hh-test", "reference": "sft",
            "models": {"sft": [{"seed": 3, "hash": made_of}]},
            "data": {"source": "hh-mini", "split": "test", "n_prompts": 150},
        }  # fmt: skip
        (result / "manifest.json").write_text(json.dumps(manifest))
        gold = {"mine": 1.25, "other": 9.75}[name]
        numbers = {"3": {"sft": {"gold": Estimate(gold, gold - 1, gold + 1, 150).to_dict()}}}
        (result / "metrics.json").write_text(json.dumps({"models": {}, "per_seed": numbers}))
    return tmp_path


class Hub:
    """HfApi as far as it is used."""

    def __init__(self) -> None:
        self.repos: list[tuple[str, bool]] = []
        self.commits: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        if self.error:
            raise self.error
        self.repos.append((repo, private))
        return f"https://hub/{repo}"

    def create_commit(self, repo: str, operations: list[Any], *, commit_message: str) -> None:
        self.commits.append((repo, {op.path_in_repo: op.path_or_fileobj for op in operations}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    monkeypatch.setattr(publish, "hub_answers", lambda: True)
    return made


def push(work: Path, *words: str) -> Result:
    where = ["--checkpoints", str(work / "checkpoints"), "--results", str(work / "results")]
    return CliRunner().invoke(cli, ["push", "mine", "--to", "org/mini", *where, *words])


def test_a_dry_run_prints_everything_and_uploads_nothing(work: Path, hub: Hub) -> None:
    output = push(work, "--dry-run")
    assert output.exit_code == 0, output.stderr
    first = output.stdout.splitlines()[0]
    assert first.startswith("org/mini-sft  ")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "training.json", "log.jsonl", "README.md"):
        assert name in first
    assert "| Gold | 1.25 | [0.25, 2.25] |" in output.stdout  # of its own weights
    assert "9.75" not in output.stdout
    assert output.stdout.rstrip().endswith("nothing was uploaded (--dry-run)")
    assert (hub.repos, hub.commits) == ([], [])


def test_what_is_uploaded_is_what_was_announced(work: Path, hub: Hub) -> None:
    output = push(work, "sft", "--private")
    assert output.exit_code == 0, output.stderr
    assert hub.repos == [("org/mini-sft", True)]
    ((repo, files),) = hub.commits
    assert repo == "org/mini-sft"
    assert output.stdout.splitlines()[0].partition(": ")[2].split(", ") == list(files)
    assert 'from_pretrained("org/mini-sft")' in files["README.md"].decode()
    assert output.stdout.splitlines()[-1] == "uploaded: https://hub/org/mini-sft"


def test_seeds_have_repositories_of_their_own(work: Path) -> None:
    (work / "checkpoints" / "mine" / "sft").rename(work / "sft")
    (work / "checkpoints" / "mine" / "seed-3").mkdir()
    (work / "sft").rename(work / "checkpoints" / "mine" / "seed-3" / "sft")
    assert push(work, "--dry-run").stdout.startswith("org/mini-sft-seed-3  ")


def test_no_token_is_printed_or_stored(work: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.error = RuntimeError(f"401 Unauthorized for Bearer {TOKEN}\nand more")
    output = push(work, "--debug")
    assert output.exit_code == 1
    assert output.stderr.splitlines()[-1].startswith(
        "error: org/mini-sft cannot be written: 401 Unauthorized for Bearer ***"
    )
    assert TOKEN not in output.stdout + output.stderr
    hub.error = None
    done = push(work)
    assert TOKEN not in done.stdout + done.stderr
    assert not [path for path in work.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    output = push(work)
    assert (output.exit_code, output.stderr) == (
        1, "error: no token for the hub; expected one in HF_TOKEN, or log in with: hf auth login\n",
    )  # fmt: skip


def test_no_network_is_one_line(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library, offline."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub_answers.cache_clear()
    output = push(work)
    hub_answers.cache_clear()
    assert (output.exit_code, output.stderr) == (
        1, "error: the hub cannot be reached (no network, or HF_HUB_OFFLINE is set); nothing was uploaded\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ("push", "gone", "--to", "org/x"),
            2,
            "error: unknown run 'gone'; known: mine; make it with: rlhf-bench train all --run gone",
        ),
        (("push", "mine", "ppo", "--to", "org/x"), 1, "ppo does not exist; make it with: rlhf-bench train ppo"),
        (("push", "mine", "pqo", "--to", "org/x"), 2, "error: unknown stage 'pqo'; did you mean 'ppo'?"),
        (("push", "mine", "--to", "nobody"), 2, "error: --to: given 'nobody', expected ORG/NAME"),
    ],
)
def test_bad_input_is_one_line(work: Path, words: tuple[str, ...], status: int, message: str) -> None:
    output = CliRunner().invoke(cli, [*words, "--checkpoints", str(work / "checkpoints")])
    assert output.exit_code == status
    assert message in output.stderr
    assert len(output.stderr.splitlines()) == 1
