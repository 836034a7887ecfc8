"""Several processes train what one process trains, fail together, and are continued in any number.

Two processes of one thread give the very bits of one process of two threads: a step has two micro-batches in both. With
more micro-batches only the order of a sum differs, which the gradients of the first step show.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from rlhf_bench.types import STAGES

from ..several import Launcher, environment, same_files
from .conftest import TOY
from .killing import log_of, pairs_file

FILES = ("model.safetensors", "config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what `words` trains on."""
    return pairs_file(tmp_path_factory.mktemp("several")).parent


def words(root: Path, run: str, stages: str = "all", **settings: Any) -> list[Any]:
    given = {"data.source": root / "pairs.jsonl", "precision": "fp32", "save_seconds": 1000} | {
        key.replace("__", "."): value for key, value in settings.items()
    }
    sets = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    return ["train", *stages.split(), "--recipe", TOY, "--checkpoints", root, "--run", run, *sets]


@pytest.fixture(scope="module")
def alone(root: Path, launch: Launcher) -> Path:
    """All stages by one process of two threads."""
    ended = launch(*words(root, "alone"), threads=2)
    assert ended.statuses == [0], ended.errors
    shutil.rmtree(root / ".reference_logps")  # or no other would compute them
    return root / "alone"


def assert_same_run(a: Path, b: Path, stages: Sequence[str]) -> None:
    for stage in stages:
        same_files(a / stage, b / stage, FILES)
        assert log_of(a / stage) == log_of(b / stage), stage


# killed at step 2, before its state is saved
KILL_AT_SFT = """
import os, signal
from trainers.engine.loop import Loop
save = Loop.save
def save_or_die(loop):
    if (loop.stage.name, loop.step) == ("sft", 2) and os.environ.get("RANK", "{rank}") == "{rank}":
        os.kill(os.getpid(), signal.SIGKILL)
    save(loop)
Loop.save = save_or_die
"""


@pytest.mark.slow
@pytest.mark.parametrize(("begun_by", "continued_by", "stages"), [(2, 1, STAGES[:2]), (1, 2, STAGES)])
def test_a_killed_process_ends_the_other_and_any_number_continues(
    root: Path, launch: Launcher, alone: Path, begun_by: int, continued_by: int, stages: Sequence[str]
) -> None:
    """In sft. The later stages are trained by two processes: by one, they are those of `alone` anyway."""
    run = f"killed-{begun_by}"
    begin = words(root, run, " ".join(stages), save_seconds=0)
    ended = launch(*begin, processes=begun_by, threads=2 // begun_by, plan=KILL_AT_SFT.format(rank=begun_by - 1))
    assert ended.statuses == ([1, -9] if begun_by == 2 else [-9])
    if begun_by == 2:
        (line,) = ended.lines
        assert line.startswith(
            "error: process 0 of 2 lost another: it was killed or ran out of memory, or has not answered for 30 minutes"
        )
    last = launch(*begin, processes=continued_by, threads=2 // continued_by)
    assert last.statuses == [0] * continued_by, last.errors
    # of two the first still wrote the state that the other died at
    assert f"sft: continues after step {begun_by} of 3" in last.errors[0]
    assert_same_run(alone, root / run, stages)
    for stage in ("base", stages[-1]):
        training = json.loads((root / run / stage / "training.json").read_text(encoding="utf-8"))
        assert training["processes"] == (begun_by if stage == "base" else continued_by)
    if continued_by == 2:
        assert last.errors[1] == last.out[1] == ""  # the first process speaks for all
        assert "seed 0, fp32 on cpu, 2 processes, " in last.errors[0]


# everything is made and loaded in float64, so that fp32 does not round; all that loads goes through `load_as`
SAVE_GRADIENTS = """
import os, torch
from rlhf_bench.modeling import models
from rlhf_bench.runtime.sharding import gather
from trainers.engine.optim import Optimizer
torch.set_default_dtype(torch.float64)
load = models.load_as
models.load_as = lambda kind, path, device, dtype, *rest: load(kind, path, device, torch.float64, *rest)
step = Optimizer.step
def spy(self, *, where):
    path = "{folder}/" + where.split(",")[0] + "." + os.environ.get("RANK", "0")
    grads = gather([p.grad for p in self.parameters])
    if not os.path.exists(path):
        torch.save(grads, path)
    return step(self, where=where)
Optimizer.step = spy
"""


Spied = Callable[..., Path]


@pytest.fixture(scope="module")
def spied(root: Path, launch: Launcher, alone: Path) -> Spied:
    """Trains `stages` for a step and gives the run's folder; the gradients are beside it. Each run is made once."""

    def train(parents: str, stages: str, processes: int, *, fsdp: bool = False) -> Path:
        run = root / f"gradients-{processes}-{stages.replace(' ', '-')}{'-fsdp' * fsdp}"
        if run.exists():
            return run
        for parent in parents.split():
            shutil.copytree(alone / parent, run / parent)
        folder = run.with_name(f"{run.name}-spied")
        folder.mkdir()
        short = {f"{stage}__max_steps": 1 for stage in stages.split() if stage in ("base", "sft", "reward", "dpo")}
        short |= {f"{stage}__steps": 1 for stage in stages.split() if stage in ("ppo", "grpo")}
        small = {} if processes == 1 else {f"{stage}__micro_batch_size": 3 for stage in stages.split()}
        given = words(root, run.name, stages, **short, **small)
        if not parents:  # Muon's state in bf16 does not matter here
            given += ["--set", "base.optimizer=adamw"]
        if fsdp:
            given += ["--fsdp"]
        ended = launch(*given, processes=processes, plan=SAVE_GRADIENTS.format(folder=folder))
        assert set(ended.statuses) == {0}, ended.errors
        return run

    return train


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
@pytest.mark.parametrize(
    ("parents", "stages"),
    [("", "base"), ("base", "sft"), ("base sft", "reward"), ("base sft reward", "ppo grpo dpo")],
)
def test_gradients_do_not_depend_on_the_processes(
    root: Path, spied: Spied, parents: str, stages: str, fsdp: bool
) -> None:
    """The first step from the same parents, by one process in one piece and by two in several, an odd number in some
    stages: in float64, 1e-5 of each tensor's norm. With unsharded models in each process, and with sharded ones."""
    alone, both = spied(parents, stages, 1), spied(parents, stages, 2, fsdp=fsdp)
    for stage in stages.split():
        one = torch.load(both.with_name(f"{alone.name}-spied") / f"{stage}.0")
        first, second = (torch.load(both.with_name(f"{both.name}-spied") / f"{stage}.{rank}") for rank in (0, 1))
        norms = [g.norm().item() for g in one]
        floor = 1e-12 * max(norms)  # a bias that both scores of a pair share has no gradient but rounding
        assert max(norms) > 1e-3
        for a, b, c, norm in zip(one, first, second, norms, strict=True):
            assert a.dtype == b.dtype == torch.float64
            assert (a - b).norm().item() <= 1e-5 * norm + floor
            assert torch.equal(b, c)
        row = log_of(both / stage)[0]
        for key, value in log_of(alone / stage)[0].items():
            if key == "rewards/accuracies":
                continue  # before the first step policy and reference are one model, and rounding decides
            assert row[key] == pytest.approx(value, rel=1e-9, abs=1e-9), (stage, key)


@pytest.mark.slow
def test_a_reward_function_is_called_in_the_first_process_with_every_response(
    root: Path, launch: Launcher, alone: Path
) -> None:
    """It answers differently each time, as a server might: both processes train on the one answer."""
    for parent in ("base", "sft"):
        shutil.copytree(alone / parent, root / "function" / parent)
    (root / "moody.py").write_text(
        "import os, random\n"
        "def reward(prompts, responses):\n"
        "    with open('calls', 'a') as file:\n"
        "        print(os.environ['RANK'], len(responses), file=file)\n"
        "    return [random.random() for _ in responses]\n"
    )
    plan = f"import os, random; os.chdir({str(root)!r}); random.seed(int(os.environ['RANK']))"
    ended = launch(*words(root, "function", "grpo", reward__function="moody:reward"), processes=2, plan=plan)
    assert ended.statuses == [0, 0], ended.errors  # processes that hold different weights would be refused
    # 8 responses a step, 3 steps; 4 held-out ones after the second and the last
    assert (root / "calls").read_text().splitlines() == ["0 8", "0 8", "0 4", "0 8", "0 4"]


# --- errors: one line, whoever makes them, and no hang ---------------------------------------------------------------


RAISE = """
import os
from rlhf_bench.errors import NotFinite
from trainers.engine.loop import Loop
write = Loop.end_row
def raise_there(loop):
    if os.environ["RANK"] in "{ranks}" and loop.step == 2:
        raise NotFinite("rank " + os.environ["RANK"] + ": NaN")
    return write(loop)
Loop.end_row = raise_there
"""


@pytest.mark.parametrize(("ranks", "who"), [("0", 0), ("1", 1), ("01", 0)])
def test_an_error_is_reported_once(root: Path, launch: Launcher, ranks: str, who: int) -> None:
    ended = launch(*words(root, f"raise-{ranks}", "base"), processes=2, plan=RAISE.format(ranks=ranks))
    assert ended.statuses == [1, 1]
    assert ended.lines == [f"error: rank {who}: NaN"]
    assert ended.errors[who].endswith(f"error: rank {who}: NaN\n")


def test_ctrl_c_in_one_process_stops_all_after_the_step(root: Path, launch: Launcher) -> None:
    plan = """
import os, signal
from trainers.engine.loop import Loop
write = Loop.end_row
def interrupt(loop):
    if os.environ["RANK"] == "1" and loop.step == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return write(loop)
Loop.end_row = interrupt
"""
    ended = launch(*words(root, "interrupted", "base"), processes=2, plan=plan)
    assert ended.statuses == [130, 130]
    (line,) = ended.lines
    assert line.startswith("interrupted: base: interrupted after step 2 of 3, which is kept")


def test_a_process_that_hangs_is_given_up(root: Path, launch: Launcher) -> None:
    plan = """
import datetime, os, time
from rlhf_bench.runtime import processes
processes.TIMEOUT = datetime.timedelta(seconds=2)
processes.LAST_WORD = 0.1
from trainers.engine.loop import Loop
write = Loop.end_row
def hang(loop):
    if os.environ["RANK"] == "1":
        time.sleep(4)
        os._exit(0)
    return write(loop)
Loop.end_row = hang
"""
    ended = launch(*words(root, "hung", "base"), processes=2, plan=plan)
    assert ended.statuses == [1, 0]
    (line,) = ended.lines
    assert "process 0 of 2 lost another: " in line


def test_processes_that_hold_other_weights_are_refused(root: Path, launch: Launcher) -> None:
    plan = """
import os, torch
from trainers import base
new_gpt2 = base.new_gpt2
def other(*args, **keys):
    model = new_gpt2(*args, **keys)
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] += int(os.environ["RANK"])
    return model
base.new_gpt2 = other
"""
    ended = launch(*words(root, "other", "base"), processes=2, plan=plan)
    assert ended.statuses == [1, 1]
    (line,) = ended.lines
    assert line.startswith("error: base, step 0 of 3: processes 0 and 1 hold different weights")


def test_a_run_that_is_in_use_is_reported_once(root: Path, launch: Launcher) -> None:
    from rlhf_bench.files import exclusive

    with exclusive(root / "used"):
        ended = launch(*words(root, "used", "base"), processes=2)
    assert ended.statuses == [1, 1]
    (line,) = ended.lines
    assert line.startswith(f"error: {root / 'used'} is in use by process {os.getpid()}")


def test_wrong_usage_is_reported_once(root: Path, launch: Launcher) -> None:
    for given, expected in (
        (["train", "--nonsense"], "error: unknown option '--nonsense'; "),
        (["train", "spo"], "error: unknown stage 'spo'; "),
        (words(root, "wrong", "base", base__lr=-1), "error: base.lr: "),
        (["report"], "error: report runs in one process; expected train or eval under torchrun or accelerate launch: "),
    ):
        ended = launch(*given, processes=2)
        assert ended.statuses == [2, 2], ended.errors
        (line,) = ended.lines
        assert line.startswith(expected)


def test_an_environment_without_a_meeting_place(root: Path, launch: Launcher) -> None:
    plan = "import os; os.environ['WORLD_SIZE'] = '2'"
    ended = launch(*words(root, "nowhere", "base"), plan=plan)
    assert ended.statuses == [2]
    (line,) = ended.lines
    assert line.startswith("error: WORLD_SIZE is 2 but RANK, MASTER_ADDR, MASTER_PORT is not set")


@pytest.mark.parametrize(("variable", "name"), [("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")])
def test_models_that_are_sharded_otherwise_are_refused(root: Path, launch: Launcher, variable: str, name: str) -> None:
    """And not trained unsharded in silence."""
    plan = f"import os; os.environ['ACCELERATE_USE_{variable}'] = 'true'"
    ended = launch(*words(root, "sharded", "base"), processes=2, plan=plan)
    assert ended.statuses == [2, 2]
    (line,) = ended.lines
    assert line.startswith(f"error: accelerate's configuration sets {name}")


def test_processes_that_do_not_meet(root: Path, launch: Launcher) -> None:
    """The second never comes."""
    plan = """
import datetime, os
from rlhf_bench.runtime import processes
processes.TIMEOUT = datetime.timedelta(seconds=1)
if os.environ["RANK"] == "1":
    os._exit(0)
"""
    ended = launch(*words(root, "lonely", "base"), processes=2, plan=plan)
    assert ended.statuses == [1, 0]
    (line,) = ended.lines
    assert line.startswith("error: the 2 processes did not meet at 127.0.0.1, port ")
    assert line.endswith("within 0 minutes; expected all of them to be started and to reach it")


LATE_IMPORT = """
from pathlib import Path
from rlhf_bench.runtime.processes import several_processes

def threads():
    return {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}

with several_processes(lambda error: 1) as processes:
    import torch.distributed.nn.functional  # as transformers does
    assert processes.gather(processes.rank) == [0, 1]
    assert any("gloo" in name for name in threads())
print(sorted(name for name in threads() if "gloo" in name))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads have names in /proc on Linux")
def test_no_thread_outlives_the_processes_work() -> None:
    """One that is left may want Python's lock while the interpreter ends, which aborts the process."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", LATE_IMPORT], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environment(rank, 2, store.port)},
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [process.communicate()[0] for process in both] == ["[]\n", "[]\n"]


# --- the launchers themselves ----------------------------------------------------------------------------------------


@pytest.mark.kills
def test_torchrun(root: Path, alone: Path) -> None:
    run = "torchrun"
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    command = [sys.executable, "-m", *launcher, "rlhf_bench", *map(str, words(root, run, "base"))]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    same_files(alone / "base", root / run / "base", FILES)
    assert done.stdout.count("checkpoints: ") == 1
