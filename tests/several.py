"""Runs `rlhf-bench` in processes that work together, as a launcher would start them, without importing torch each time.

A server imports everything once and forks a process for each rank. A `plan` is Python that a process runs before the
command line: it breaks things on purpose, or spies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch.distributed import TCPStore

__all__ = ["Ended", "Launcher", "environment", "same_files"]

SERVER = """
import gc, json, os, signal, sys, tempfile, time
gc.disable()
os.fsync = lambda descriptor: None  # what a killed process has written is kept; only a power cut loses it
import torch
from transformers import GPT2Config, GPT2LMHeadModel
import transformers.models.gpt2.modeling_gpt2
import trainers.base, trainers.dpo, trainers.grpo, trainers.pipeline, trainers.ppo, trainers.reward, trainers.sft
import rlhf_bench.evaluate.run, rlhf_bench.modeling.reward_model, rlhf_bench.modeling.perplexity_model
import rlhf_bench.report.files, rlhf_bench.report.model_card, rlhf_bench.scorers.rouge
from rlhf_bench.cli import cli
from rlhf_bench.report.plots import curves

curves.plot_training_curve = lambda rows, stage, path: None  # it takes longer than to train the stage
# a first model, for what transformers makes and imports when it saves and loads one
with tempfile.TemporaryDirectory() as folder:
    GPT2LMHeadModel(GPT2Config(vocab_size=2, n_layer=1, n_head=1, n_embd=2, n_positions=2)).save_pretrained(folder)
    GPT2LMHeadModel.from_pretrained(folder)

def run(words, environment, threads, plan, out, errors):
    for descriptor, path in ((1, out), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.environ.update(environment)
    sys.argv = ["rlhf-bench", *words]
    torch.set_num_threads(threads)
    try:
        exec(plan, {})
        cli(words)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)

gc.freeze()  # no process that is forked looks through what is imported
gc.enable()
for line in sys.stdin:
    pids = []
    for request in json.loads(line):
        pids.append(os.fork())
        if pids[-1] == 0:
            run(**request)
    print(json.dumps(pids), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
"""


class Ended(NamedTuple):
    """How each process ended, by rank."""

    statuses: list[int]
    out: list[str]
    errors: list[str]

    @property
    def lines(self) -> list[str]:
        """What went wrong, as all processes together reported it."""
        every = [line for text in self.errors for line in text.splitlines()]
        return [line for line in every if line.startswith(("error:", "interrupted:"))]


class Launcher:
    """`with Launcher(folder) as launch: launch(words, processes=2)`; stdout and stderr go to files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            # threads that wait for work by spinning would take the processor from the other tests
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)  # closes the pipes and waits

    def __call__(
        self,
        *words: object,
        processes: int = 1,
        threads: int = 1,
        plan: str = "",
        meanwhile: Callable[[list[int]], None] = lambda pids: None,
    ) -> Ended:
        """Run one command line in each process; `plan` knows its number as os.environ["RANK"]. `meanwhile` is called
        with the processes' ids while they run."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # the launcher keeps it
        requests = [
            {
                "words": [str(word) for word in words],
                "environment": environment(rank, processes, store.port) if processes > 1 else {},
                "threads": threads,
                "plan": plan,
                "out": str(self.folder / f"{rank}.out"),
                "errors": str(self.folder / f"{rank}.errors"),
            }
            for rank in range(processes)
        ]
        self.server.stdin.write(json.dumps(requests) + "\n")
        meanwhile(json.loads(self.server.stdout.readline()))
        statuses = json.loads(self.server.stdout.readline())
        out, errors = (
            [(self.folder / f"{rank}.{kind}").read_text(encoding="utf-8") for rank in range(processes)]
            for kind in ("out", "errors")
        )
        return Ended(statuses, out, errors)


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets, of what is read."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip


def same_files(a: Path, b: Path, names: Sequence[str]) -> None:
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
