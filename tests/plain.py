"""Runs Python that does not have this project: what transformers and peft alone make of a folder.

One process imports both and forks another for each script: to import them takes longer than what is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["PlainPython"]

SERVER = """
import gc, json, os, sys, traceback
gc.disable()
sys.modules["rlhf_bench"] = sys.modules["trainers"] = None  # an import of either is an error
import peft, torch
import transformers.models.gpt2.modeling_gpt2
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

def run(code, words, folder, out, errors):
    for descriptor, path in ((1, out), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.chdir(folder)
    sys.argv[1:] = words
    try:
        exec(code, {})
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

gc.freeze()  # no process that is forked looks through what is imported
gc.enable()
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        run(**json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class PlainPython:
    """`with PlainPython(folder) as run: run(code, *words, cwd=...)`; stdout and stderr go to files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.out, self.errors = folder / "out", folder / "errors"
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, bufsize=1, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __enter__(self) -> PlainPython:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)  # closes the pipes and waits

    def __call__(self, code: str, *words: object, cwd: Path) -> Any:
        """Run a script with these words as its arguments; gives what it prints, which is JSON."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        request = {"code": code, "words": [str(word) for word in words], "folder": str(cwd)}
        request |= {"out": str(self.out), "errors": str(self.errors)}
        self.server.stdin.write(json.dumps(request) + "\n")
        status = int(self.server.stdout.readline())
        assert status == 0, self.errors.read_text(encoding="utf-8")
        return json.loads(self.out.read_text(encoding="utf-8"))
