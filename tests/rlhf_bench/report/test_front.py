"""The front's probabilities and the hypervolume, in the table, on the plot and on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlhf_bench.report import write_report
from rlhf_bench.report.contents import draw
from rlhf_bench.report.page.compared import compared_table
from rlhf_bench.report.result import load_result
from rlhf_bench.report.tables.tradeoff import pareto_table
from rlhf_bench.types import Estimate

from .make_result import make_result

FRONT = {
    "metric": "reward_z",
    "kl": "kl_exact",
    "front": ["sft", "ppo"],
    "on_front": {"sft": 1.0, "ppo": 0.97, "dpo": 0.25},
    "hypervolume": Estimate(7.881, 7.067, 8.696, 12).to_dict(),
    "kl_limit": 10.0,
    "left_out": ["file"],
}


def with_front(path: Path) -> Path:
    make_result(path, models=("sft", "ppo", "dpo"), gold=False, audit=False)
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["tradeoff"] = [FRONT]
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["models"]["ppo"][0]["template"] = "chat"
    manifest["reward_model"] = [{"form": "pair"}, {"form": "pair", "column": "reward:b"}]
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = with_front(tmp_path_factory.mktemp("front") / "r")
    write_report(path)
    return path


def test_table_has_a_row_a_model_and_says_what_the_area_is(drawn: Path) -> None:
    table = pareto_table(load_result(drawn))
    assert [[row[1], *row[4:]] for row in table.rows] == [
        ["sft", "yes", 1.0],
        ["ppo", "yes", 0.97],
        ["dpo", "no", 0.25],
    ]
    assert table.notes[1:] == [
        "reward_z: Hypervolume 7.88 [7.07, 8.70] reference sd × nats, above sft and below 10 nats of KL.",
        "reward_z: without file, which lack one of the two numbers.",
    ]
    assert {f"pareto.{kind}" for kind in ("md", "csv", "tex")} <= {p.name for p in (drawn / "tables").iterdir()}


def test_the_raw_reward_of_one_seed_has_the_same_front(drawn: Path) -> None:
    figure = draw(load_result(drawn), "reward_vs_kl")
    assert figure is not None
    (legend,) = figure.legends
    # the drawn corners are those of the numbers shown; make_result's dpo lies on them too
    assert legend.get_texts()[0].get_text() == (
        "Pareto front, with the probability of being on it: sft 1.00, dpo 0.25, ppo 0.97"
    )


def test_the_page_names_the_forms_that_models_read(drawn: Path) -> None:
    forms = {row[0]: str(row[-1]).partition(" ")[0] for row in compared_table(load_result(drawn)).rows}
    assert forms["sft"] == forms["dpo"] == "hh"
    assert (forms["ppo"], forms["reward"]) == ("chat", "pair")
    page = (drawn / "report.html").read_text("utf-8")
    assert "What was compared" in page


def test_the_page_has_the_table(drawn: Path) -> None:
    page = (drawn / "report.html").read_text("utf-8")
    assert "<h2>Reward against KL</h2>" in page
    assert 'href="#reward-against-kl"' in page
    assert "of KL. </figcaption>" not in page
    assert re.search(r"<figcaption>[^<]*Hypervolume 7.88 \[7.07, 8.70\]", page)


def test_an_old_table_is_removed_when_there_is_no_front(tmp_path: Path) -> None:
    path = with_front(tmp_path / "r")
    write_report(path, only=["tables"])
    make_result(path, models=("sft",), gold=False, audit=False)
    names = {p.name for p in write_report(path, only=["tables"])}
    assert "summary.md" in names
    assert not [p for p in (path / "tables").iterdir() if p.name.startswith("pareto")]
