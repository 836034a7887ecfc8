"""What `evaluate` returns: tables as frames, plots as figures; and the page docs/notebook.md, run as it is."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from rlhf_bench import evaluate as evaluation
from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.evaluate import Evaluation
from rlhf_bench.report import write_report
from rlhf_bench.report.result import load_result

from ..report.make_result import make_result

PAGE = Path(__file__).parents[3] / "docs" / "notebook.md"


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return Evaluation(make_result(tmp_path_factory.mktemp("results") / "three", seeds=(0, 1, 2)))


def write_responses(path: Path, n: int = 20) -> Path:
    rows = [{"prompt": f"Say {i}.", "response": f"so {i} " * (1 + i % 4), "reference": f"so {i}"} for i in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_frames_hold_the_numbers_to_the_last_digit(three_seeds: Evaluation) -> None:
    summary = three_seeds.summary.set_index("model")
    for model in ("base", "ppo", "dpo"):
        for metric in ("gold", "kl_exact"):
            found = load_result(three_seeds.folder).estimate(model, metric)
            assert found is not None
            row = summary.loc[model, [metric, f"{metric}_low", f"{metric}_high", f"{metric}_n"]]
            assert row.tolist() == [found.value, found.low, found.high, found.n]
    pairs = three_seeds.pairwise.set_index(["metric", "a", "b"])
    stored = [r for r in load_result(three_seeds.folder).metrics["pairwise"] if r["metric"] == "gold"]
    for row in stored:
        found = pairs.loc[("gold", row["a"], row["b"])]
        assert found["difference"] == row["difference"]["value"]
        assert found["p_holm"] == row["p_holm"]


def test_every_table_that_a_report_writes_is_there(three_seeds: Evaluation) -> None:
    write_report(three_seeds.folder, only=["tables"])
    for file in (three_seeds.folder / "tables").glob("*.csv"):
        rows = file.read_text("utf-8").count("\n") - 1
        assert len(three_seeds.tables.get(file.stem, [])) == rows, file.name
    assert {"summary", "pairwise", "per_seed", "gold"} <= three_seeds.tables.keys()
    assert "best_of_n" not in three_seeds.tables  # the result has none


def test_a_row_a_response(three_seeds: Evaluation) -> None:
    key = ["model", "seed", "prompt_id", "sample"]
    assert {*key, "reward", "reward_z", "kl_exact"} <= set(three_seeds.scores)
    assert {*key, "prompt", "response", "finish_reason"} <= set(three_seeds.responses)
    assert len(three_seeds.responses.merge(three_seeds.scores, on=key)) == len(three_seeds.scores)


def test_figures_are_drawn_again_and_those_without_numbers_are_left_out(tmp_path: Path) -> None:
    result = evaluation.evaluate(responses=[("a", str(write_responses(tmp_path / "a.jsonl")))], results=tmp_path)
    drawn = result.figures
    assert "rouge" in drawn
    assert not {"reward_vs_kl", "kl_by_position"} & drawn.keys()
    bars = result.figure("rouge")
    assert isinstance(bars, Figure)
    assert bars is not drawn["rouge"]  # a change to one is no change to the other
    with pytest.raises(StoreError, match=r"has no numbers for the plot 'reward_vs_kl'"):
        result.figure("reward_vs_kl")
    with pytest.raises(UnknownName, match=r"unknown plot 'roug'; did you mean 'rouge'\?"):
        result.figure("roug")


def test_what_is_missing_is_listed_with_its_reason(tmp_path: Path) -> None:
    result = evaluation.evaluate(responses=[("a", str(write_responses(tmp_path / "a.jsonl")))], results=tmp_path)
    missing = result.missing.set_index(["model", "metric"])["reason"]
    assert missing["a", "kl_exact"] == "a response file: this needs the model itself"
    assert missing["all", "reward"] == "no reward model; give --reward-model PATH"
    assert result.pairwise.empty  # one model: no pair, but the columns of one
    assert {"metric", "a", "b", "difference", "p_holm"} <= set(result.pairwise)
    assert "pairwise" not in result.tables


@pytest.mark.parametrize("name", ["nan", "NA", "007"])
def test_a_model_keeps_its_name(name: str, tmp_path: Path) -> None:
    result = evaluation.evaluate(responses=[(name, str(write_responses(tmp_path / "a.jsonl")))], results=tmp_path)
    assert result.summary["model"].tolist() == [name, "chosen (data)"]


def test_what_is_stored_is_opened_by_its_folder(tmp_path: Path) -> None:
    result = evaluation.evaluate(responses=[("a", str(write_responses(tmp_path / "a.jsonl")))], results=tmp_path)
    stored = Evaluation(result.folder)
    assert stored == result
    pd.testing.assert_frame_equal(stored.summary, result.summary)
    assert math.isfinite(stored.summary.set_index("model").loc["a", "rougeL"])
    gone: Any = Evaluation(tmp_path / "gone")
    for member in ("tables", "summary", "pairwise", "missing", "scores", "responses", "figures"):
        with pytest.raises(StoreError, match="does not exist; expected a results folder made by `rlhf-bench eval`"):
            getattr(gone, member)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "theirs"):
        write_responses(Path(f"{name}.jsonl"))
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(code) == 9
    names: dict[str, Any] = {}
    for cell in code:
        exec(cell, names)
    assert isinstance(names["bars"], Figure)
    assert Path("rouge.pdf").stat().st_size > 1000
    assert names["result"].folder == Path("results/responses/mine+theirs")
    assert names["stored"].summary.equals(names["result"].summary)
    assert len(names["rows"]) == 60  # two files and their references, 20 prompts each
