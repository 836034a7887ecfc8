"""An evaluation that is killed, at any moment, and asked for again: the same bytes as without."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf_bench import evaluate as evaluation
from rlhf_bench.cli import cli
from rlhf_bench.data import mini
from rlhf_bench.report import write_report

from ..tiny import save_run

KILLS = 5
FILES = 15  # a result of models has more than these


def drawn(results: Path, evaluate: Callable[[Path], Path]) -> dict[str, bytes]:
    """Evaluated, with its tables: what every file holds but the manifest (time) and the workbook (openpyxl's clock)."""
    folder = evaluate(results)
    write_report(folder, only=["tables"])
    assert {p.name for p in folder.glob(".*")} == {".lock"}  # no parts, and no half-written files of an earlier attempt
    kept = sorted(p for p in folder.rglob("[!.]*") if p.is_file() and p.suffix != ".xlsx" and p.name != "manifest.json")
    return {p.relative_to(results).as_posix(): p.read_bytes() for p in kept}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Two response files to 60 prompts."""
    folder = tmp_path_factory.mktemp("killed")
    given = []
    for name in ("a", "b"):
        rows = [
            {"prompt": f"Say {i}.", "response": f"{name} said {i} " * (1 + i % 5), "reference": f"said {i}"}
            for i in range(60)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        given.append((name, str(folder / f"{name}.jsonl")))
    return lambda results: evaluation.evaluate(responses=given, results=results).folder


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_at_moments_spread_over_the_run(texts: Callable[[Path], Path], tmp_path: Path) -> None:
    """SIGKILL, from the first to the last moment that an undisturbed run takes; then the same call again."""
    expected = drawn(tmp_path / "undisturbed", texts)  # imports what the next ones have
    began = time.monotonic()
    assert drawn(tmp_path / "again", texts) == expected
    took, died = time.monotonic() - began, 0
    for i in range(KILLS):
        results = tmp_path / str(i)
        child = os.fork()
        if child == 0:
            drawn(results, texts)
            os._exit(0)
        time.sleep(took * i / KILLS)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        died += os.WIFSIGNALED(status)
        assert drawn(results, texts) == expected
    assert {"responses/a+b/metrics.json", "responses/a+b/tables/summary.md"} <= expected.keys()
    assert died  # the first at least, before it has done anything


def test_an_interrupted_evaluation_is_listed_with_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed() -> str:
        return CliRunner().invoke(cli, ["list", "results", "--results", "my results"]).stdout.strip()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Say {i}.", "response": f"said {i} " * (1 + i % 5), "reference": f"said {i}"} for i in range(9)]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.run, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluation.evaluate(responses=[("mine", "mine.jsonl")], results=Path("my results"))
    head, _, advice = listed().partition(" (unfinished; go on with: ")
    assert head == "responses/mine  my results/responses/mine"
    words = shlex.split(advice.removesuffix(")"))
    assert words[:2] == ["rlhf-bench", "eval"]
    assert CliRunner().invoke(cli, ["--quiet", *words[1:]]).exit_code == 0
    assert listed() == head


class _Killed(BaseException):
    pass


def test_killed_after_every_file_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and a file: an attempt ends at its n-th file and the next one goes on, n rising until nothing is left."""
    config = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 128, "max_response_tokens": 8}}
    save_run(tmp_path / "checkpoints" / "default", config=config, samples=1, tokens=1, seconds=1.0)
    chosen = tmp_path / "chosen.jsonl"
    pairs = mini.generate("test", n=60)
    chosen.write_text("".join(json.dumps({"prompt": p.prompt, "response": p.chosen}) + "\n" for p in pairs))

    def evaluate(results: Path) -> Path:
        return evaluation.evaluate(
            run="default", responses=[("text", str(chosen))], limit=2, samples=1, best_of_n=2,
            checkpoints=tmp_path / "checkpoints", results=results,
        ).folder  # fmt: skip

    expected = drawn(tmp_path / "undisturbed", evaluate)
    assert len(expected) > FILES
    replace = os.replace

    def attempt(allowed: int) -> dict[str, bytes] | None:
        """None: killed right after file number `allowed`, counted from 0, was in its place."""
        written = 0

        def put(source: str | Path, target: str | Path) -> None:
            nonlocal written
            replace(source, target)
            written += 1
            if written > allowed:
                raise _Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", put)
            with contextlib.suppress(_Killed):
                return drawn(tmp_path / "killed", evaluate)
        return None

    killed = 0
    while (found := attempt(killed)) is None:
        killed += 1
    assert found == expected
    assert killed > FILES
