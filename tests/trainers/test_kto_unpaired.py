"""`dpo.loss=kto_unpaired`: single responses with labels, of which no prompt has one of each."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from rlhf_bench.data.filters import named_filters
from rlhf_bench.data.sources import Reader
from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.files import read_jsonl, write_jsonl
from trainers import kto_unpaired

from ..rlhf_bench.tiny import save_policy
from .conftest import PAIRS, FirstStep, call

UNPAIRED = ["dpo.loss=kto_unpaired", "start=base", "precision=fp32", "dpo.max_steps=2", "dpo.batch_size=4"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt each; every third response is undesirable."""
    path = tmp_path_factory.mktemp("rows") / "kto.jsonl"
    write_jsonl(path, [{"prompt": f"{i}?", "completion": f"It is {i % 7}.", "label": i % 3 > 0} for i in range(60)])
    return path


def train(folder: Path, *words: str, data: Path, model: Path) -> Result:
    sets = [f"model={model}", f"data.source={data}", *UNPAIRED]
    return call("train", *words, *(w for s in sets for w in ("--set", s)), "--checkpoints", folder)


def test_the_command_trains_on_labels_alone(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("rlhf_bench.cli.train"), "PROBE_SECONDS", 0.0)
    model = save_policy(tmp_path / "gpt2")
    done = train(tmp_path / "c", "dpo", data=rows, model=model)
    assert done.exit_code == 0, done.output
    training = json.loads((tmp_path / "c" / "default" / "dpo" / "training.json").read_text())
    assert training["samples"] in (7, 8)  # two steps of four; one batch of an epoch may be of three
    assert training["counts"]["desirable"] + training["counts"]["undesirable"] in range(40, 60)
    log = read_jsonl(tmp_path / "c" / "default" / "dpo" / "log.jsonl")
    assert log[0]["loss"] == pytest.approx(0.5, abs=1e-6)  # the policy still is its reference: sigmoid(0)
    assert {"kl", "rewards/chosen", "eval_loss", "eval_rewards/margins"} <= {key for row in log for key in row}
    refused = train(tmp_path / "c", "reward", data=rows, model=model)
    assert refused.exit_code != 0
    assert "no pair is left" in refused.output
    shown = train(tmp_path / "c", "dpo", "--dry-run", data=rows, model=model)
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize("weights", [{}, {"desirable_weight": 2.0}])
def test_micro_batches_give_the_gradient_of_the_whole(first_step: FirstStep, weights: dict[str, Any]) -> None:
    section = {"loss": "kto_unpaired", "labels": [True] * 4 + [False] * 6, "batch_size": 10, "double": True, **weights}
    whole, _ = first_step("dpo", micro_batch_size=64, **section)
    parts, _ = first_step("dpo", micro_batch_size=3, **section)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    largest = max(float(g.norm()) for g in whole.gradients.values())
    assert largest > 1e-4
    for name, gradient in whole.gradients.items():
        assert float((parts.gradients[name] - gradient).norm()) < 1e-5 * max(float(gradient.norm()), 1e-6 * largest)


def test_a_batch_of_one_label_and_labels_of_one_kind(first_step: FirstStep) -> None:
    with pytest.raises(DataError, match="of both kinds"):
        first_step("dpo", loss="kto_unpaired", labels=[True] * 10)
    means = kto_unpaired.reward_means(torch.tensor([1.0, 3.0]), torch.tensor([True, True]), torch.tensor([True] * 4))
    assert means == {"rewards/chosen": 1.0}  # (1 + 3) / 4; no undesirable one in the step


def test_a_step_of_one_row_is_left_out(first_step: FirstStep) -> None:
    _, result = first_step("dpo", pairs=PAIRS[:3], loss="kto_unpaired", batch_size=5)
    assert result.counts["left_over"] == 1


def test_limit_and_filters_of_labelled_responses(rows: Path) -> None:
    reader = Reader(str(rows))
    some, fewer = (reader.labelled("train", limit=n) for n in (20, 10))
    assert len(some) == 20
    assert set(fewer) < set(some)
    with pytest.raises(BadValue, match="filters are of pairs"):
        reader.labelled("train", filters=named_filters("hh-edge-cases"))
