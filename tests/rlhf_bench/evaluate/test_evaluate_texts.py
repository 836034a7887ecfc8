"""Response files evaluated: without any model, beside a run's models, and again."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from rouge_score.rouge_scorer import RougeScorer

from rlhf_bench import evaluate as evaluation
from rlhf_bench.cli import cli
from rlhf_bench.data import mini
from rlhf_bench.data.responses import read_responses
from rlhf_bench.errors import BadValue, BenchError, DataError, StoreError
from rlhf_bench.files import exclusive
from rlhf_bench.report import write_report
from rlhf_bench.report.alpaca import write_alpaca
from rlhf_bench.report.result import load_result
from rlhf_bench.report.screen import summary_text
from rlhf_bench.report.tables.summary import summary_table

from ..tiny import Log, save_run

TEXTS = [
    ("How long for an egg?", "Boil it for eight minutes.", "Eight minutes in boiling water."),
    ("Why is the sky blue?", "Because of scattering.", "Air scatters blue light more than red."),
    ("Name a colour.", "Blue, I think.", "Blue."),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def predictions(path: Path, n: int = 3, **more: Any) -> Path:
    return write(path, [{"prompt": p, "generated": g, "reference": r} | more for p, g, r in TEXTS[:n]])


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_rouge_of_a_file_is_that_of_rouge_score(tmp_path: Path) -> None:
    file = predictions(tmp_path / "a.jsonl")
    folder = evaluation.evaluate(responses=[("mine", str(file))], results=tmp_path / "results").folder
    assert folder == tmp_path / "results" / "responses" / "mine"
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = [scorer.score(reference, text) for _, text, reference in TEXTS]
    found = metrics(folder)["models"]
    for name in ("rouge1", "rouge2", "rougeL"):
        assert found["mine"][name]["value"] == pytest.approx(sum(s[name].fmeasure for s in scores) / 3, abs=1e-12)
        assert found["mine"][name]["n"] == 3
    assert list(found) == ["mine", "chosen"]  # the references are dataset responses; nothing was rejected
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["sampling"] == {"samples": 1}
    assert [entry["kind"] for entry in manifest["models"]["mine"]] == ["responses"]


def test_what_a_file_lacks_is_reported_with_its_reason(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"prompt": p, "response": g} for p, g, _ in TEXTS])
    folder = evaluation.evaluate(responses=[(None, str(file))], results=tmp_path / "results").folder
    missing = {(m["model"], m["metric"]): m["reason"] for m in metrics(folder)["missing"]}
    assert missing["a", "kl_exact"] == missing["a", "perplexity"] == "a response file: this needs the model itself"
    with_reference = evaluation.evaluate(
        responses=[("b", str(predictions(tmp_path / "b.jsonl")))], results=tmp_path
    ).folder
    assert "ended" not in metrics(with_reference)["models"]["chosen"]  # a reference text says nothing of its end
    told = {(m["model"], m["metric"]): m["reason"] for m in metrics(with_reference)["missing"]}
    assert told["chosen", "ended"] == "reference texts of a file: how the responses ended is not known"
    assert missing["a", "ended"] == "the response file: how the responses ended is not known"
    assert missing["a", "n_tokens"].startswith("the tokens are not counted")
    assert missing["all", "reward"] == "no reward model; give --reward-model PATH"
    assert missing["a", "rougeL"] == "no reference texts to compare with"
    write_report(folder)
    text = (folder / "tables" / "summary.md").read_text()
    for reason in set(missing.values()):
        assert reason in text
    assert "no reason recorded" not in text
    assert "KL" not in summary_text(folder)  # no column without a number
    assert "lines on numbers not available" in summary_text(folder)


def test_no_torch_is_loaded_for_texts_or_scores_alone(tmp_path: Path) -> None:
    """Texts are evaluated, and scores audited."""
    file = predictions(tmp_path / "a.jsonl")
    (tmp_path / "scores.jsonl").write_text('{"scores": [1, 0]}\n{"scores": [0, 1]}\n')
    code = (
        "import sys\nfrom pathlib import Path\nfrom rlhf_bench.audit import audit\n"
        "from rlhf_bench.evaluate import evaluate\n"
        f"evaluate(responses=[('a', {str(file)!r})], results=Path({str(tmp_path / 'r')!r}))\n"
        "print('torch' in sys.modules)\n"
        f"audit(scores={str(tmp_path / 'scores.jsonl')!r}, results=Path({str(tmp_path / 'r')!r})).write()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["False", "False"], done.stdout


def test_only_prompts_that_all_files_share_and_the_others_are_named(tmp_path: Path) -> None:
    a = predictions(tmp_path / "a.jsonl")
    b = write(tmp_path / "b.jsonl", [{"prompt": p, "generated": g, "reference": "x"} for p, g, _ in TEXTS[1:]])
    log = Log()
    folder = evaluation.evaluate(
        responses=[("a", str(a)), ("b", str(b))], results=tmp_path / "results", progress=log
    ).folder  # fmt: skip
    found = metrics(folder)["models"]
    assert {found[m]["n_words"]["n"] for m in ("a", "b", "chosen")} == {2}
    assert f"{a}: 1 of its 3 prompts are not among those of the other files (row 1): left out" in log.lines
    assert any("2 prompts have another reference text than in an earlier file (rows 1, 2)" in s for s in log.lines)
    assert {row["metric"] for row in metrics(folder)["pairwise"]} == {"rougeL"}
    c = write(tmp_path / "c.jsonl", [{"prompt": "Else?", "response": "No."}])
    with pytest.raises(DataError, match="have no prompt in common"):
        evaluation.evaluate(responses=[("a", str(a)), ("c", str(c))], results=tmp_path / "results")


def test_responses_that_rouge_leaves_out_are_counted_below_the_table(tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": g, "reference": r} for p, g, r in TEXTS]
    rows += [{"prompt": "天?", "response": "蓝色", "reference": "蓝色"}]
    file = write(tmp_path / "a.jsonl", rows)
    folder = evaluation.evaluate(responses=[("a", str(file))], results=tmp_path / "results").folder
    found = metrics(folder)
    assert found["models"]["a"]["rougeL"]["n"] == 3
    assert found["marks"]["rougeL"].startswith("without 1 responses: ")
    notes = summary_table(load_result(folder)).notes
    assert any(note.startswith("† ROUGE-L: without 1 ") for note in notes)


def test_samples_and_limit(tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": f"{g} {i}", "reference": r} for p, g, r in TEXTS for i in range(2)]
    file = write(tmp_path / "a.jsonl", rows[:-1])
    folder = evaluation.evaluate(responses=[("a", str(file))], results=tmp_path / "results").folder
    assert json.loads((folder / "manifest.json").read_text())["sampling"] == {"samples": "1 to 2"}
    scores = pd.read_parquet(folder / "scores.parquet")
    assert sorted(scores.loc[scores["model"] == "a", "sample"]) == [0, 0, 0, 1, 1]
    assert metrics(folder)["models"]["a"]["rougeL"]["n"] == 3  # prompts, not rows
    few = evaluation.evaluate(responses=[("a", str(file))], limit=2, results=tmp_path / "results").folder
    assert few != folder
    assert metrics(few)["models"]["a"]["rougeL"]["n"] == 2


def test_each_response_is_compared_with_its_own_references_and_the_best_counts(tmp_path: Path) -> None:
    rows = [
        {"prompt": "How?", "response": "boil the egg", "reference": "boil the egg"},
        {"prompt": "How?", "response": "fry the egg", "reference": ["boil it", "fry an egg"]},
    ]
    file = write(tmp_path / "a.jsonl", rows)
    folder = evaluation.evaluate(responses=[("a", str(file))], results=tmp_path / "results").folder
    scores = pd.read_parquet(folder / "scores.parquet")
    # equal; then "fry" and "egg" of three words on both sides, where "boil it" shares none
    assert scores.loc[scores["model"] == "a", "rouge1"].tolist() == pytest.approx([1.0, 2 / 3])


def test_what_responses_carry_is_noted_below_the_table_and_can_be_taken_out(tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": f"{p} {r}", "reference": r} for p, _, r in TEXTS]
    file = write(tmp_path / "a.jsonl", rows)
    as_it_is = evaluation.evaluate(responses=[("a", str(file))], results=tmp_path / "results").folder
    write_report(as_it_is, only=["tables"])
    assert "3 of 3 responses begin with their prompt" in (as_it_is / "tables" / "summary.md").read_text()
    options = {"responses": [("a", str(file))], "results": tmp_path / "results"}
    without = evaluation.evaluate(**options, strip=["prompt"]).folder  # type: ignore[arg-type]
    assert without != as_it_is
    assert (
        metrics(without)["models"]["a"]["rouge1"]["value"] == 1.0 > metrics(as_it_is)["models"]["a"]["rouge1"]["value"]
    )


def test_of_a_file_of_pairs_that_no_run_was_trained_on_every_pair_is_evaluated(tmp_path: Path) -> None:
    names = [f"Question {i}?" for i in range(48)]
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": n, "chosen": "Good.", "rejected": "Bad."} for n in names])
    texts = write(tmp_path / "a.jsonl", [{"prompt": n, "response": "Good."} for n in names])

    def evaluated(**options: Any) -> tuple[str, int]:
        options |= {"responses": [("a", str(texts))], "data": str(pairs), "results": tmp_path / "results"}
        manifest = json.loads((evaluation.evaluate(**options).folder / "manifest.json").read_text())
        return manifest["data"]["split"], manifest["data"]["n_prompts"]

    assert evaluated() == ("all", 48)
    split, n = evaluated(split="test")
    assert (split, 0 < n < 20) == ("test", True)
    assert evaluated(settings=["split=test"]) == ("test", n)
    assert evaluated(limit=10) == ("all", 10)


def test_a_suite_says_how_many_bootstraps(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}.", "response": "so " * (i % 7)} for i in range(20)]
    file, suite = write(tmp_path / "a.jsonl", rows), tmp_path / "responses.yaml"
    found = {}
    for resamples in (2_000, 500):  # 2,000 is what a suite has that says nothing
        suite.write_text(f"version: 1\nprompts: null\nresamples: {resamples}\n")
        folder = evaluation.evaluate(str(suite), responses=[("a", str(file))], results=tmp_path / str(resamples)).folder
        manifest = json.loads((folder / "manifest.json").read_text())
        found[resamples] = metrics(folder)["models"]["a"]["n_words"], manifest
    plain = evaluation.evaluate(responses=[("a", str(file))], results=tmp_path / "plain").folder
    (usual, manifest), (fewer, other) = found[2_000], found[500]
    assert usual == metrics(plain)["models"]["a"]["n_words"]
    assert usual["method"] == "bootstrap-t"
    assert (usual["value"], usual["low"]) != (fewer["value"], fewer["low"])
    assert usual["value"] == fewer["value"]
    assert manifest["resamples"] == 2_000
    assert other["resamples"] == 500
    assert manifest["key"] == json.loads((plain / "manifest.json").read_text())["key"] != other["key"]


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ([("a", "a.jsonl"), ("a", "b.jsonl")], "two models have the name 'a'"),
        ([("rejected", "a.jsonl")], "the name 'rejected' is the data's own response"),
    ],
)
def test_names_that_cannot_be(
    responses: list[tuple[str | None, str]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        predictions(tmp_path / name)
    with pytest.raises(BadValue, match=message):
        evaluation.evaluate(responses=responses)
    assert not Path("results").exists()


def test_a_repeated_evaluation_loads_nothing_and_a_changed_file_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = predictions(tmp_path / "a.jsonl")

    def again() -> Path:
        return evaluation.evaluate(responses=[("a", str(file))], results=tmp_path / "results").folder

    folder = again()
    with monkeypatch.context() as patch:
        patch.setattr("rlhf_bench.evaluate.run.prepare", lambda *_: pytest.fail("prepared again"))
        assert again() == folder
    predictions(file, n=2)
    other = again()
    assert other != folder
    assert metrics(other)["models"]["a"]["n_words"]["n"] == 2
    assert again() == other


def test_a_result_that_has_lost_rows_is_an_error_and_force_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the three texts and the three references of the file one row is left, and the half of another."""
    monkeypatch.chdir(tmp_path)
    predictions(Path("a.jsonl"))
    line = "eval --responses a=a.jsonl"
    assert CliRunner().invoke(cli, line.split()).exit_code == 0
    file = Path("results/responses/a/responses.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 4])
    printed = (
        f"error: {file} holds 1 of 6 rows; restore the file, or run `rlhf-bench eval` again with the same options and "
        "--force\n"
    )
    for command in (
        line, "report", "report --show", "report --alpaca-eval out", "judge run --judge length --baseline a",
        "compare responses/a responses/a",
    ):  # fmt: skip
        done = CliRunner().invoke(cli, ["--quiet", *command.split()])
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", printed), command
    assert not Path("out").exists()
    assert CliRunner().invoke(cli, [*line.split(), "--force"]).exit_code == 0
    assert file.read_bytes() == whole


@pytest.mark.parametrize(("name", "left"), [("scores.parquet", None), ("metrics.json", b""), ("metrics.json", b"{")])
def test_numbers_that_are_lost_are_computed_again(tmp_path: Path, name: str, left: bytes | None) -> None:
    def run() -> Path:
        file = str(predictions(tmp_path / "a.jsonl"))
        return evaluation.evaluate(responses=[("a", file)], results=tmp_path / "results").folder

    folder = run()
    files = ("metrics.json", "scores.parquet", "responses.jsonl")
    before = {file: (folder / file).read_bytes() for file in files}
    (folder / name).unlink()
    if left is not None:
        (folder / name).write_bytes(left)
    assert run() == folder
    assert {file: (folder / file).read_bytes() for file in files} == before


def test_a_report_says_how_many_prompts_a_pair_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """b's responses are 1, 2, 3 words longer than a's: sd 1, and a difference of 1 is an effect of 1, 10 pairs."""
    monkeypatch.chdir(tmp_path)
    for name, extra in (("a", [0, 0, 0]), ("b", [1, 2, 3])):
        rows = [{"prompt": f"p{i}", "response": "word" + " word" * n} for i, n in enumerate(extra)]
        write(Path(f"{name}.jsonl"), rows)
    assert CliRunner().invoke(cli, ["eval", "--responses", "a=a.jsonl", "--responses", "b=b.jsonl"]).exit_code == 0
    done = CliRunner().invoke(cli, ["report", "--show", "--difference", "n_words=1", "--difference", "copied=0.1"])
    assert done.exit_code == 0, done.output
    words, copied = done.stdout.splitlines()[-2:]
    assert words == "prompts that show a difference of 1 in n_words with 80 % power at p < 0.05: b - a 10"
    assert copied.endswith(": b - a not known, since the prompts do not differ")
    for given, printed in (
        ("words=1", "unknown metric of the result 'words'"),
        ("n_words=0", "--difference: given n_w"),
    ):
        wrong = CliRunner().invoke(cli, f"report --show --difference {given}".split())
        assert wrong.exit_code == 2
        assert printed in wrong.stderr


def test_force_makes_again_what_was_requested_and_no_other(tmp_path: Path) -> None:
    """Two and three prompts of one file: the second has a folder of its own, which is what --force is about."""

    def run(limit: int, *, force: bool = False) -> Path:
        file = str(tmp_path / "a.jsonl")
        return evaluation.evaluate(responses=[("a", file)], limit=limit, results=tmp_path, force=force).folder

    predictions(tmp_path / "a.jsonl")
    first, second = run(2), run(3)
    assert second.name == f"{first.name}-{json.loads((second / 'manifest.json').read_text())['key'][:6]}"
    (second / "mark").touch()
    assert run(3, force=True) == second
    assert not (second / "mark").exists()
    assert (first / "metrics.json").exists()
    assert run(1, force=True) == first  # nothing of it is stored: it takes the place of the run's name


def test_force_removes_nothing_while_another_evaluation_has_the_folder(tmp_path: Path) -> None:
    def run(*, force: bool) -> Path:
        return evaluation.evaluate(responses=[("a", str(tmp_path / "a.jsonl"))], results=tmp_path, force=force).folder

    predictions(tmp_path / "a.jsonl")
    folder = run(force=False)
    before = sorted(path.name for path in folder.iterdir())
    with exclusive(folder), pytest.raises(StoreError, match="in use by process"):
        run(force=True)
    assert {*before} <= {path.name for path in folder.iterdir()}
    assert run(force=True) == folder


def test_rows_that_were_left_out_are_counted_in_the_result(tmp_path: Path) -> None:
    one, two, whole = (predictions(tmp_path / name) for name in ("one.jsonl", "two.jsonl", "whole.jsonl"))
    with one.open("a") as file:
        file.write('{"prompt": "cut')
    with two.open("a") as file:
        file.write('nonsense\n{"prompt": "x", "generated": null}\n')
    folder = evaluation.evaluate(
        responses=[("a", str(one)), ("b", str(two)), ("c", str(whole))], skip_bad=True, results=tmp_path / "results"
    ).folder
    assert json.loads((folder / "manifest.json").read_text())["left_out"] == {str(one): 1, str(two): 2}
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    for line in (
        f"1 row of {one} was left out as malformed (--skip-bad)", f"2 rows of {two} were left out as malformed (--skip",
    ):  # fmt: skip
        for text in ((folder / "tables" / "summary.md").read_text(), page):
            assert line in text
    clean = evaluation.evaluate(responses=[("c", str(whole))], skip_bad=True, results=tmp_path / "results").folder
    assert "left_out" not in json.loads((clean / "manifest.json").read_text())
    assert not any("left out" in note for note in summary_table(load_result(clean)).notes)


# --- beside models ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoints/default of random weights, evaluated on three prompts with two samples each."""
    folder = tmp_path_factory.mktemp("texts")
    config = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 128, "max_response_tokens": 24}}
    save_run(folder / "checkpoints" / "default", config=config, samples=1, tokens=1, seconds=1.0)
    evaluation.evaluate(
        limit=3, samples=2, checkpoints=folder / "checkpoints", results=folder / "results"
    )  # fmt: skip
    return folder


def test_our_own_responses_as_a_file_give_the_numbers_of_the_model(work: Path, tmp_path: Path) -> None:
    """Reward, gold, ROUGE, lengths and ends of the text file equal those of the model that wrote it, row by row."""
    first = work / "results" / "hh-test" / "default"
    folder = evaluation.evaluate(
        run="default", responses=[("copy", str(first / "responses.jsonl"))], limit=3, samples=2,
        checkpoints=work / "checkpoints", results=tmp_path / "results",
    ).folder  # fmt: skip
    scores = pd.read_parquet(folder / "scores.parquet")
    columns = [
        "prompt_id",
        "sample",
        "reward",
        "reward_std",
        "gold",
        "rouge1",
        "rougeL",
        "n_tokens",
        "n_words",
        "ended",
    ]
    columns = [column for column in columns if column in scores]
    assert {"reward", "gold", "ended"} <= set(columns)
    sft, copy = (scores.loc[scores["model"] == m, columns].reset_index(drop=True) for m in ("sft", "copy"))
    assert len(sft) == 6
    pd.testing.assert_frame_equal(sft, copy, rtol=0, atol=1e-5)
    missing = {(m["model"], m["metric"]): m["reason"] for m in metrics(folder)["missing"]}
    assert missing["copy", "kl_exact"] == "a response file: this needs the model itself"
    assert math.isfinite(metrics(folder)["models"]["copy"]["reward"]["value"])


def test_a_file_is_matched_to_the_prompts_of_the_run(work: Path, tmp_path: Path) -> None:
    pairs = mini.generate("test", n=6)
    rows = [{"prompt": p.prompt, "response": p.chosen} for p in pairs[:5]] + [{"prompt": "Else?", "response": "No."}]
    file, log = write(tmp_path / "a.jsonl", rows), Log()
    folder = evaluation.evaluate(
        run="default", responses=[("a", str(file))], samples=1, checkpoints=work / "checkpoints",
        results=tmp_path / "results", progress=log,
    ).folder  # fmt: skip
    found = metrics(folder)["models"]
    prompts = len({pair.prompt for pair in pairs[:5]})
    assert {found[m]["reward"]["n"] for m in ("sft", "a", "chosen")} == {prompts}
    assert found["a"]["rougeL"]["value"] == 1.0  # the data's own chosen responses, against themselves
    assert f"{file}: 1 of its {prompts + 1} prompts are not among those of the data (row 6): left out" in log.lines
    with pytest.raises(DataError, match=r"none of the .* prompts of the data is answered in"):
        evaluation.evaluate(
            run="default", responses=[("a", str(write(tmp_path / "b.jsonl", rows[5:])))],
            checkpoints=work / "checkpoints", results=tmp_path / "results",
        )  # fmt: skip


def test_a_reward_model_scores_texts_without_any_policy(work: Path, tmp_path: Path) -> None:
    file = predictions(tmp_path / "a.jsonl")
    reward = work / "checkpoints" / "default" / "reward"
    folder = evaluation.evaluate(
        responses=[("a", str(file))], reward_models={"own": str(reward)}, results=tmp_path / "results"
    ).folder  # fmt: skip
    found = metrics(folder)["models"]
    assert {found[m]["reward"]["n"] for m in ("a", "chosen")} == {3}
    assert metrics(folder)["reward_model"] == []  # no pairs: no accuracy


def test_the_export_for_alpaca_eval_reads_back_as_the_same_texts(work: Path, tmp_path: Path) -> None:
    folder = work / "results" / "hh-test" / "default"
    files = write_alpaca(folder, tmp_path)
    assert [file.name for file in files] == ["sft.json", "chosen.json"]
    rows = json.loads(files[0].read_text())
    assert set(rows[0]) == {"instruction", "output", "generator", "dataset"}
    (back,) = read_responses(files[0]).models
    stored = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    ours = {r["prompt"]: r["response"].strip() for r in stored if (r["model"], r["sample"]) == ("sft", 0)}
    assert {prompt: answers[0].text.strip() for prompt, answers in back.by_prompt.items()} == ours


def test_a_manifest_repeats_its_evaluation(work: Path, tmp_path: Path) -> None:
    from rlhf_bench.evaluate.request import read_request
    from rlhf_bench.evaluate.run import run_request

    first = work / "results" / "hh-test" / "default"
    request, key = read_request(first / "manifest.json")
    again = run_request(request, expected=key, results=tmp_path / "results")
    assert again.is_relative_to(tmp_path)
    assert metrics(again) == metrics(first)
    assert (again / "responses.jsonl").read_bytes() == (first / "responses.jsonl").read_bytes()
    with pytest.raises(BenchError, match="no longer what they were"):
        run_request(request, expected="0" * 16, results=tmp_path / "other")
    shutil.rmtree(again)
