"""rlhf-bench judge as it is typed: what it prints, its exit status, and what it leaves behind."""

from __future__ import annotations

import json
import math
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rlhf_bench.cli import cli
from rlhf_bench.evaluate.request import read_request
from rlhf_bench.judge.analysis.length import LENGTH_ALONE
from rlhf_bench.report import write_report
from rlhf_bench.report.result import load_result
from rlhf_bench.report.tables.judge import win_rate_table
from rlhf_bench.store import ResultStore

from ..judge.conftest import serving

KEY = "sk-planted-0123456789"
DEAD = "http://127.0.0.1:9/v1"
# model, prompt, response, gold
ROWS = [
    (model, f"p{i}", response, gold)
    for i in range(4)
    for model, response, gold in (("base", "short", 0.1), ("sft", "a longer one", 0.3), ("dpo", "long" * 9, 0.2))
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one result: sft is best by gold, dpo longest, base worst and shortest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    store = ResultStore(tmp_path / "results" / "hh-test" / "tiny")
    keys = [{"model": m, "seed": 0, "prompt_id": p, "sample": 0} for m, p, _, _ in ROWS]
    store.write_responses(
        {**key, "prompt": f"Human: {key['prompt_id']}?", "response": response, "finish_reason": "eos", "n_tokens": 3}
        for key, (_, _, response, _) in zip(keys, ROWS, strict=True)
    )
    store.write_scores(pd.DataFrame(keys).assign(gold=[gold for *_, gold in ROWS]))
    store.write_metrics({"models": {m: {} for m in ("base", "sft", "dpo")}})
    data = {"source": "hh-mini", "split": "test", "n_prompts": 4}
    models = {m: [] for m in ("base", "sft", "dpo")}
    manifest = {"suite": "hh-test", "run": "tiny", "data": data, "models": models, "reference": "sft", "seeds": [0]}
    store.write_manifest(manifest)
    return tmp_path


def call(line: str) -> Result:
    return CliRunner().invoke(cli, shlex.split(line))


def judge(line: str, status: int = 0) -> str:
    result = call(f"judge {line}")
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def test_plan_of_a_built_in_judge() -> None:
    assert judge("plan tiny --judge length --baseline base") == (
        "pairs: 8, each in both orders\ncalls: none; the judge length is built in (no API calls) and costs nothing\n"
    )


def test_plan_of_a_model_counts_calls_and_cost_and_makes_no_call() -> None:
    """Each prompt has a text of its own, so 4 prompts x 2 models x 2 orders are 16 calls."""
    lines = judge("plan tiny --judge gpt-4o --baseline base").splitlines()
    assert lines[:2] == ["pairs: 8, each in both orders", "calls: 16, of those answered already: 0, to send: 16"]
    assert lines[2].startswith("tokens to come: about ")
    assert lines[3].startswith("cost to come: about $0.")
    assert lines[4] == "charged so far to this result and judge: $0.0000, 0 calls"


def test_run_and_show() -> None:
    """Gold: both models win all 4 prompts. Exact limits for 4 of 4: 0.025 ** (1 / 4) = 0.398."""
    ran = judge("run tiny --judge gold --baseline base")
    assert "gold against base: 8 pairs in both orders, questions: 16 read.\n" in ran
    assert ran.count("[0.398, 1.000]") >= 2
    text = " ".join(ran.split())
    assert "of its responses are longer than the baseline's: equal length is outside" in text
    assert "no position fault found (p 1.000)" in text
    assert "gold: base is 1000; compared with base." in text
    shown = judge("show tiny")
    assert ran == f"{shown}tables and page: rlhf-bench report results/hh-test/tiny\n"


def test_where_length_alone_decides_there_is_no_number_at_equal_length(here: Path) -> None:
    judge("run tiny --judge gold --baseline base --model sft")
    folder = here / "results" / "hh-test" / "tiny"
    path = folder / "judge" / "judge.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["judgings"][0]["equal_length"][0]["warning"] = LENGTH_ALONE
    path.write_text(json.dumps(stored), encoding="utf-8")
    shown = " ".join(judge("show tiny").split())
    assert f"gold, sft against base: {LENGTH_ALONE}." in shown
    (row,) = win_rate_table(load_result(folder)).rows
    assert row[4] is None


def test_strengths_say_which_template(here: Path) -> None:
    """The strengths of the pairs are shown with a run against any baseline, and those of a ranking beside them."""
    judge("run tiny --judge gold --baseline base")
    assert "gold: base is 1000; compared with base, sft.\n" in judge("run tiny --judge gold --baseline sft --model dpo")
    judge("run tiny --judge gold --template rank")
    lines = judge("show tiny").splitlines()
    assert [line.partition(":")[0] for line in lines if ": base is 1000" in line] == ["gold (none)", "gold (rank@1)"]


def test_a_round_robin_ranks_three_models() -> None:
    """By gold sft > dpo > base; the longest, dpo, first by length."""
    for baseline, model in (("base", "sft"), ("base", "dpo"), ("sft", "dpo")):
        judge(f"run tiny --judge gold --baseline {baseline} --model {model}")
        judge(f"run tiny --judge length --baseline {baseline}")
    stored = ResultStore(Path("results/hh-test/tiny")).read_judge()
    order = {row["judge"]: [cell["model"] for cell in row["models"]] for row in stored["strengths"]}
    # gold's run against base was made twice, and the second, of dpo alone, took the first one's place
    assert order == {"gold": ["sft", "dpo", "base"], "length": ["dpo", "sft", "base"]}
    assert len(stored["judgings"]) == 4


def test_two_runs_leave_the_same_bytes() -> None:
    verdicts = Path("results/hh-test/tiny/judge/verdicts.parquet")
    judge("run tiny --judge random --baseline base")
    first = verdicts.read_bytes()
    judge("run tiny --judge length --baseline sft")
    assert verdicts.read_bytes() != first
    judge("run tiny --judge random --baseline base")
    again = verdicts.read_bytes()
    verdicts.unlink()
    judge("run tiny --judge length --baseline sft")
    judge("run tiny --judge random --baseline base")
    assert verdicts.read_bytes() == again


def test_the_report_shows_what_was_judged(here: Path) -> None:
    folder = here / "results/hh-test/tiny"
    write_report(folder, only=("tables",))
    assert not list((folder / "tables").glob("judge*"))
    judge("run tiny --judge length --baseline base")
    write_report(folder, only=("tables", "page"))
    table = pd.read_csv(folder / "tables/judge.csv")
    assert table[["judge", "baseline", "model", "win_rate", "win_rate_n", "pairs", "unread"]].values.tolist() == [
        ["length", "base", "dpo", 1.0, 4, 4, 0],
        ["length", "base", "sft", 1.0, 4, 4, 0],
    ]
    audit = pd.read_csv(folder / "tables/judge_audit.csv")
    assert audit[["consistency", "first_position", "longer", "accuracy"]].values.tolist() == [[1.0, 0.5, 1.0, 1.0]]
    assert pd.read_csv(folder / "tables/judge_strengths.csv")["model"].tolist()[-1] == "base"
    assert '<section id="judge">' in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        (
            "run tiny --judge length",
            2,
            "error: --baseline: not given, and pairwise@1 compares with one; name a model of the result",
        ),
        (
            "run tiny --judge length --baseline base --template likert",
            2,
            "error: --baseline: given 'base', but likert@1 compares with none; leave it out",
        ),
        ("run tiny --baseline base", 2, "error: missing option '--judge'; see: rlhf-bench judge run --help"),
        ("run tinny --judge length --baseline base", 2, "error: unknown result 'tinny'; known: hh-test/tiny"),
        ("run tiny --judge length --baseline bas", 2, "error: unknown model 'bas'; did you mean 'base'?"),
        (
            "run tiny --judge reward --baseline base",
            1,
            "error: results/hh-test/tiny has no reward scores, which this judge needs; use another judge, such as "
            "length",
        ),
        (
            "run tiny --judge gpt-4o --baseline base",
            2,
            "error: --max-cost: not given, expected US dollars such as 2.00, the most that 'gpt-4o' may cost; `judge "
            "plan` estimates it for a stored result",
        ),
        (
            "run tiny --judge gpt-4o --baseline base --max-cost lots",
            2,
            "error: --max-cost: given 'lots', expected US dollars such as 2.00, or 0 for no call",
        ),
        (
            "run tiny --judge gpt-4o --baseline base --max-cost 1",
            1,
            "error: OPENAI_API_KEY is not set; export it, name a server that needs none with --base-url, or use a "
            "built-in judge: reward, gold, length or random (what the ledger holds is read with --max-cost 0)",
        ),
        (
            "run tiny --judge lenght --baseline base",
            2,
            "error: --max-calls: not given, and there is no price for 'lenght' at https://api.openai.com/v1 (`judge "
            "run` takes one with --prices; 'length' is a built-in judge); say how many calls may be made",
        ),
        (
            "run tiny --judge m --baseline base --base-url localhost:9",
            2,
            "error: --base-url: given 'localhost:9', expected a URL such as http://localhost:8000/v1",
        ),
        (
            f"run tiny --judge m --baseline base --base-url {DEAD} --max-calls 20 --attempts 1 --concurrency 1",
            1,
            f"error: no connection to {DEAD} in 4 attempts; check that the server runs, the network and --base-url; "
            "the same command tries again",
        ),
        (
            "plan tiny --judge m --baseline base --template pairwize",
            2,
            "error: unknown judge template 'pairwize'; did you mean 'pairwise'?",
        ),
        (
            "show tiny",
            1,
            "error: results/hh-test/tiny was not judged; do it with: rlhf-bench judge run results/hh-test/tiny "
            "--judge length --baseline NAME",
        ),
        (
            "ledger stats",
            1,
            "error: there is no ledger at results/judge.sqlite; one is made by `rlhf-bench judge run`, or named with "
            "--ledger",
        ),
    ],
)
def test_bad_input_is_one_line(line: str, status: int, message: str) -> None:
    last = judge(f"{line} --quiet", status).splitlines()[-1]
    assert last == message


@pytest.fixture
def asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """A run against a server that answers everything, with a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def run(model: str) -> Result:
        with serving(here, 0.0) as server:
            return call(
                f"judge run tiny --judge {model} --baseline base --base-url {server.url} --template pairwise-letter "
                "--max-calls 100 --attempts 1 --quiet --debug"
            )

    return run


def test_the_ledger_is_counted_checked_and_carried(asked: Callable[[str], Result]) -> None:
    """16 questions, 20 prompt tokens and 1 of the answer each; a model without a price is charged nothing."""
    assert asked("judge-1").exit_code == 0
    stats = judge("ledger stats")
    assert stats.endswith("/v1: 16 calls (16 answered), 320 + 16 tokens, $0.0000 charged\n")
    checked = judge("ledger verify")
    assert checked.startswith("results/judge.sqlite: 16 calls, 16 attempts, ")
    assert checked.endswith("; all as they were written\n")
    rows = int(judge("ledger export out.jsonl").split()[0])
    assert len(Path("out.jsonl").read_text().splitlines()) == rows
    new = judge("ledger import out.jsonl --ledger other.sqlite")
    assert new.startswith("new: 16 calls, 16 attempts, ")
    assert judge("ledger stats --ledger other.sqlite") == stats
    again = judge("ledger import out.jsonl --ledger other.sqlite")
    assert again.startswith("new: 0 calls, 0 attempts, ")
    Path("broken.jsonl").write_text("{\n")
    assert judge("ledger import broken.jsonl", 1).startswith("error: broken.jsonl")


def unpacked(file: Path) -> bytes:
    """What a file says, where its bytes are packed."""
    if file.suffix == ".parquet":
        return pd.read_parquet(file).to_csv().encode()
    if file.suffix == ".xlsx":
        with zipfile.ZipFile(file) as parts:
            return b"".join(parts.read(name) for name in parts.namelist())
    return file.read_bytes()


def test_a_planted_key_is_in_no_output_and_no_file(asked: Callable[[str], Result], here: Path) -> None:
    """The model `echo` repeats the request's header in its error; --debug shows the traceback. Verdicts, ledger,
    export, tables, page and the manifest of an evaluation that is judged are looked through."""
    echoed, judged = asked("echo"), asked("judge-1")
    assert (echoed.exit_code, judged.exit_code) == (1, 0)
    assert "Bearer [key]" in echoed.output
    assert "Traceback" in echoed.output
    Path("ours.jsonl").write_text(json.dumps({"prompt": "Question?", "response": "ours"}) + "\n")
    Path("theirs.jsonl").write_text(json.dumps({"prompt": "Question?", "response": "theirs"}) + "\n")
    with serving(here, 0.0) as server:
        evaluation = call(
            "eval --responses theirs=theirs.jsonl --responses ours=ours.jsonl --reference theirs --debug "
            f"--judge judge-1 --base-url {server.url} --max-calls 2"
        )
    outputs = [echoed, judged, evaluation, *(call(f"{line} --debug") for line in AFTERWARDS)]
    assert all(KEY not in output.output for output in outputs)
    seen = {file.suffix for file in here.rglob("*") if file.is_file() and KEY.encode() not in unpacked(file)}
    assert {".sqlite", ".jsonl", ".json", ".parquet", ".xlsx", ".html"} <= seen
    for file in (file for file in here.rglob("*") if file.is_file()):
        # the server's own log of requests, written by the test, holds bodies alone
        assert KEY.encode() not in unpacked(file), file


AFTERWARDS = (
    "judge run tiny --judge length --baseline base",
    "judge show tiny",
    "judge ledger stats",
    "judge ledger verify",
    "judge ledger export out.jsonl",
    "report hh-test/tiny",
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("eval --max-cost 1", "error: --max-cost: given without --judge, which it is about"),
        ("eval --max-calls 0", "error: --max-calls: given without --judge, which it is about"),
        (f"eval --base-url {DEAD}", "error: --base-url: given without --judge, which it is about"),
        (
            "eval --judge gpt-4o",
            "error: --max-cost: not given, expected US dollars such as 2.00, the most that 'gpt-4o' may cost; `judge "
            "plan` estimates it for a stored result",
        ),
        (
            f"eval --judge gpt-4o --base-url {DEAD} --max-cost 1",
            f"error: --max-calls: not given, and there is no price for 'gpt-4o' at {DEAD} (`judge run` takes one with "
            "--prices); say how many calls may be made",
        ),
        (
            "eval --judge gpt-4o --base-url here --max-cost 1",
            "error: --base-url: given 'here', expected a URL such as http://localhost:8000/v1",
        ),
    ],
)
def test_eval_reports_before_it_begins_that_a_judge_cannot_be_used(line: str, message: str) -> None:
    result = call(line)
    assert (result.exit_code, result.stderr) == (2, f"{message}\n")


@pytest.mark.parametrize(
    ("judged", "files", "message"),
    [
        ("length", 1, "given with one model, ours"),
        ("gold", 2, "no known true reward"),
        ("reward", 2, "no reward model"),
    ],
)
def test_eval_computes_nothing_for_a_judge_that_could_not_judge(
    here: Path, judged: str, files: int, message: str
) -> None:
    row = json.dumps({"prompt": "Question?", "response": "An answer"})
    for name in ("ours", "theirs"):
        Path(f"{name}.jsonl").write_text(f"{row}\n")
    given = ["--responses ours=ours.jsonl", "--responses theirs=theirs.jsonl"][:files]
    result = call(f"eval {' '.join(given)} --judge {judged}")
    assert (result.exit_code, result.stderr.count("error: --judge")) == (2, 1)
    assert message in result.stderr.splitlines()[-1]
    assert not (here / "results" / "responses").exists()


def test_eval_of_response_files_with_a_judge(here: Path) -> None:
    """Both answer the same questions; ours is the longer one each time."""
    for name, text in (("ours", "a much longer response"), ("theirs", "short")):
        rows = [json.dumps({"prompt": f"Question {i}?", "response": f"{text} {i}"}) for i in range(4)]
        Path(f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    files = "--responses theirs=theirs.jsonl --responses ours=ours.jsonl"
    result = call(f"eval {files} --reference theirs --judge length")
    assert result.exit_code == 0, result.output
    assert "length against theirs: 4 pairs in both orders, questions: 8 read" in result.output
    (table,) = here.glob("results/responses/*/tables/judge.csv")
    row = pd.read_csv(table).iloc[0]
    assert (row["model"], row["win_rate"]) == ("ours", 1.0)
    assert math.isnan(pd.read_csv(table.with_name("judge_audit.csv"))["accuracy"].iloc[0])  # no gold reward here


def test_eval_with_a_judge_at_a_server_of_ones_own(here: Path) -> None:
    """8 questions, of which the cap allows 6."""
    for name in ("ours", "theirs"):
        rows = [json.dumps({"prompt": f"Question {i}?", "response": f"{name} {i}"}) for i in range(4)]
        Path(f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    with serving(here, 0.0) as server:
        result = call(
            "eval --responses theirs=theirs.jsonl --responses ours=ours.jsonl --reference theirs --judge judge-1 "
            f"--base-url {server.url} --max-calls 6"
        )
        assert len(server.requests()) == 6
    assert result.exit_code == 0, result.output
    (judging,) = ResultStore(next(here.glob("results/responses/*"))).read_judge()["judgings"]
    assert (judging["base_url"], judging["calls_charged"]) == (server.url, 6)


@pytest.mark.usefixtures("no_report")
def test_eval_from_a_manifest_repeats_a_built_in_judge_and_no_other(here: Path) -> None:
    """A stored result takes the judge that is named last. 16 calls are made, none by the manifest alone."""
    for name in ("ours", "theirs"):
        rows = [json.dumps({"prompt": f"Question {i}?", "response": f"{name} {i}"}) for i in range(4)]
        Path(f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    line = "eval --responses theirs=theirs.jsonl --responses ours=ours.jsonl --reference theirs"
    call(line)
    (manifest,) = here.glob("results/responses/*/manifest.json")
    plain = json.loads(manifest.read_text())
    assert "length against theirs" not in call(f"eval --from {manifest} --results a").stderr

    call(f"{line} --judge length")
    judged = json.loads(manifest.read_text())
    assert judged.pop("request") == plain.pop("request") | {"judge": {"name": "length"}}
    assert judged == plain
    assert (
        read_request(manifest)[0].stamp() == plain["stamp"]
    )  # the judge decides no number: nothing is computed for it
    again = call(f"eval --from {manifest} --results b")
    assert "length against theirs: 4 pairs in both orders, questions: 8 read" in again.output
    with serving(here, 0.0) as server:
        options = f"--judge judge-1 --base-url {server.url}"
        call(f"{line} {options} --max-calls 8")
        told = call(f"eval --from {manifest} --results c")
        assert len(server.requests()) == 8
        assert (told.exit_code, "against theirs" in told.output) == (0, False)
        assert (
            "the judge of that evaluation does not judge again, since its calls may cost; to run it add: "
            f"{options} and --max-cost USD or --max-calls N\n"
        ) in told.stderr
        call(f"eval --from {manifest} --results c {options} --max-calls 8")
        assert len(server.requests()) == 16
    assert len(list(here.glob("c/responses/*/judge"))) == 1


def test_a_schema_that_was_refused_is_not_sent_again(here: Path) -> None:
    """Prompts 0 and 1, then all four: 16 calls and one refusal in all. `--schema` tries it once more."""
    with serving(here, 0.0) as server:
        line = f"tiny --judge refuses --baseline base --base-url {server.url}"
        told = call(f"judge run {line} --max-calls 16 --limit 2").stderr
        assert f"{server.url} refuses the JSON schema for 'refuses' (HTTP 400 response_format is not supported)" in told
        again = call(f"judge run {line} --max-calls 16")
        assert (again.exit_code, "schema" in again.stderr) == (0, False)
        judge(f"run {line} --max-calls 16")
        assert ["response_format" in row["sent"] for row in server.requests()] == [True] + [False] * 16
        assert "calls: 16, of those answered already: 16, to send: 0" in judge(f"plan {line}")
        assert "16 missing" not in judge(f"run {line} --max-cost 0")
        judge(f"run {line} --max-calls 17 --schema")
        assert ["response_format" in row["sent"] for row in server.requests()][17:] == [True]


def test_questions_without_an_answer_are_missing(here: Path) -> None:
    """No key is set, and none is needed. 4 prompts x 2 models, in both orders."""
    line = "gpt-4o against base: 8 pairs in both orders, questions: 16 missing; $0.0000 charged.\n"
    assert line in judge("run tiny --judge gpt-4o --baseline base --max-cost 0")
    assert line in judge("show tiny")


def test_a_model_without_a_verdict_says_why(here: Path) -> None:
    """dpo has been judged; then sft is to be judged as well, without a call."""
    with serving(here, 0.0) as server:
        line = f"run tiny --judge judge-1 --baseline base --base-url {server.url} --template pairwise-letter --quiet"
        judge(f"{line} --model dpo --max-calls 8")
        printed = judge(f"{line} --max-calls 0")
    assert "questions: 8 missing, " in printed
    rows = {row[2]: row for row in win_rate_table(load_result(here / "results/hh-test/tiny")).rows}
    assert rows["sft"][-2:] == [4, 4]  # pairs, unread
    assert rows["dpo"][-1] < 4
