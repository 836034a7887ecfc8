"""`rlhf-bench demo`: what goes wrong is one line, before a model is loaded."""

from __future__ import annotations

import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
from click.testing import CliRunner, Result

from rlhf_bench.cli import cli


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def call(line: str) -> Result:
    return CliRunner().invoke(cli, ["--quiet", "demo", *shlex.split(line)])


def test_errors_in_one_line(checkpoints: Path, busy_port: int, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "empty" / "seed-0").mkdir(parents=True)
    at = f"--checkpoints {checkpoints}"
    for line, printed in {
        f"--export {tmp_path}/a --models sft,pop {at}": "did you mean 'ppo'?",
        f"--export {tmp_path}/b --run empty --checkpoints {tmp_path}/checkpoints": "holds no checkpoint",
        f"--export {tmp_path}/c --port 7860": "expected one or the other",
        f"--port {busy_port}": f"given {busy_port}, which cannot be used",
    }.items():
        result = call(line)
        assert result.exit_code in (1, 2), line
        assert (len(result.stderr.splitlines()), printed in result.stderr) == (1, True), result.stderr


def test_without_gradio_it_names_the_command_that_installs_it(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = call(f"--checkpoints {checkpoints}")
    assert result.exit_code == 1
    assert "pip install gradio" in result.stderr
    result = call(f"--checkpoints {checkpoints} --export {tmp_path / 'space'}")  # which needs none
    assert result.exit_code == 0
    assert (tmp_path / "space" / "app.py").is_file()


def test_ctrl_c_ends_it_in_one_line(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    import rlhf_bench.demo.app as app

    def launch(*_: object, **__: object) -> str:
        Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)).start()
        return "http://127.0.0.1:7860/"

    monkeypatch.setattr(app, "launch", launch)
    result = call(f"--models ppo --checkpoints {checkpoints}")
    assert (result.exit_code, result.stderr.strip()) == (
        130, "interrupted: http://127.0.0.1:7860/ is no longer served",
    )  # fmt: skip
