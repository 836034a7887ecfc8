"""An evaluation that is killed at any moment and started again: the same bytes as without."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from click.testing import CliRunner

from rlhf_bench import evaluate as evaluation
from rlhf_bench.cli import cli
from rlhf_bench.data import mini
from rlhf_bench.evaluate import run
from rlhf_bench.report import write_report

from ..tiny import save_run

KILLS = 5
FILES = 15  # a result of models has more than these


def drawn(results: Path, evaluate: Callable[[Path], Path]) -> dict[str, bytes]:
    """Evaluated, with its tables: what every file holds but the manifest, which says when."""
    folder = evaluate(results)
    write_report(folder, only=["tables"])
    assert {p.name for p in folder.glob(".*")} == {".lock"}  # no parts, and no half-written files of an earlier attempt
    kept = sorted(p for p in folder.rglob("[!.]*") if p.is_file() and p.name != "manifest.json")
    assert folder / "tables" / "summary.xlsx" in kept
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
        patch.setattr(run, "collect", interrupt)
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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """sft, a response file and a pool, on 2 prompts."""
    folder = tmp_path_factory.mktemp("killed-models")
    config = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 128, "max_response_tokens": 8}}
    save_run(folder / "checkpoints" / "default", config=config, samples=1, tokens=1, seconds=1.0)
    chosen = folder / "chosen.jsonl"
    pairs = mini.generate("test", n=60)
    chosen.write_text("".join(json.dumps({"prompt": p.prompt, "response": p.chosen}) + "\n" for p in pairs))
    return lambda results: evaluation.evaluate(
        run="default", responses=[("text", str(chosen))], limit=2, samples=1, best_of_n=2,
        checkpoints=folder / "checkpoints", results=results,
    ).folder  # fmt: skip


# phase -> what it calls again and again
PHASES = {
    "sampling": "rlhf_bench.modeling.sampling.decode_steps",
    "scoring": "rlhf_bench.modeling.reward_model.ScoreModel.forward",
    "KL": "rlhf_bench.modeling.logprobs.token_kl",
    "perplexity": "rlhf_bench.modeling.perplexity_model.LogprobModel.forward",
    "statistics": "rlhf_bench.evaluate.summary.crossed",
    "report": "rlhf_bench.report.files.markdown_text",
}


@pytest.fixture(scope="module")
def undisturbed(
    models: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], dict[str, int]]:
    """What an evaluation in shards of one prompt writes, and how often it makes each phase's call."""
    calls = dict.fromkeys(PHASES, 0)

    def count(phase: str) -> None:
        calls[phase] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SHARD", 1)
        for phase in PHASES:
            before_each(patch, phase, partial(count, phase))
        return drawn(tmp_path_factory.mktemp("undisturbed"), models), calls


def before_each(patch: pytest.MonkeyPatch, phase: str, do: Callable[[], None]) -> None:
    path = PHASES[phase]
    called = resolve_name(path)

    def first(*arguments: Any, **more: Any) -> Any:
        do()
        return called(*arguments, **more)

    patch.setattr(path, first)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("phase", PHASES)
def test_killed_at_a_random_moment_of_each_phase(
    phase: str,
    models: Callable[[Path], Path],
    undisturbed: tuple[dict[str, bytes], dict[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL at one of the phase's calls, in the middle of a shard; then the same evaluation again."""
    expected, calls = undisturbed
    monkeypatch.setattr(run, "SHARD", 1)
    left = random.Random(phase).randint(1, calls[phase])  # the first call is as likely as the last

    def die() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            before_each(patch, phase, die)
            drawn(tmp_path, models)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert drawn(tmp_path, models) == expected


def test_killed_after_every_file_that_is_written(
    models: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models and a file: an attempt ends at its n-th file and the next one goes on, n rising until nothing is left."""
    expected = drawn(tmp_path / "undisturbed", models)
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
                return drawn(tmp_path / "killed", models)
        return None

    killed = 0
    while (found := attempt(killed)) is None:
        killed += 1
    assert found == expected
    assert killed > FILES
