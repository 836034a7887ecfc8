"""Several processes give the rows of one, to the last bit; what was interrupted is continued in any number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ...several import Launcher, same_files
from ..tiny import save_run

PROMPTS, SAMPLES = 8, 24  # five prompts fill a batch of the sampler
NO_REPORT = "import rlhf_bench.report; rlhf_bench.report.write_report = lambda result: None\n"  # a test of its own


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoints/several: sft and reward."""
    folder = tmp_path_factory.mktemp("several")
    config = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 192, "max_response_tokens": 6}}
    save_run(folder / "checkpoints" / "several", config=config, samples=1, tokens=1, seconds=1.0)
    return folder


def words(work: Path, results: str, *more: object) -> list[object]:
    return [
        "eval", "--suite", "hh-test", "--run", "several", "--checkpoints", work / "checkpoints", "--results",
        work / results, "--limit", PROMPTS, "--samples", SAMPLES, "--best-of-n", 64, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(work: Path, launch: Launcher) -> Path:
    ended = launch(*words(work, "alone"), plan=NO_REPORT)
    assert ended.statuses == [0], ended.errors
    return work / "alone" / "hh-test" / "several"


def assert_same_result(a: Path, b: Path) -> None:
    same_files(a, b, ["responses.jsonl", "metrics.json"])
    for name in ("scores.parquet", "best_of_n.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(a / name), pd.read_parquet(b / name), check_exact=True)
    ours, theirs = (json.loads((folder / "manifest.json").read_text(encoding="utf-8")) for folder in (a, b))
    assert ours["key"] == theirs["key"]


# counts the rows that this process itself samples, scores and compares; a batch is sampled by a private function, since
# the public one is called with all prompts in every process
COUNT = """
import json, os, atexit
from rlhf_bench.modeling import sampling
from rlhf_bench.modeling import logprobs
from rlhf_bench.modeling.reward_model import ScoreModel
counts = {"sampled": 0, "scored": 0, "compared": 0}
draw, forward, token_kl = sampling.decode_steps, ScoreModel.forward, logprobs.token_kl
def count(name, function, size):
    def counted(*args):
        counts[name] += size(*args)
        return function(*args)
    return counted
sampling.decode_steps = count("sampled", draw, lambda *a: len(a[1]) * a[2])
ScoreModel.forward = count("scored", forward, lambda self, batch: len(batch.ids))
logprobs.token_kl = count("compared", token_kl, lambda policy, reference, batch: len(batch.ids))
end = os._exit
def write(status):
    print(json.dumps(counts), flush=True)
    end(status)
os._exit = write
"""


def test_two_processes_give_the_rows_of_one(work: Path, launch: Launcher, alone: Path) -> None:
    ended = launch(*words(work, "two"), processes=2, plan=NO_REPORT + COUNT)
    assert ended.statuses == [0, 0], ended.errors
    assert_same_result(alone, work / "two" / "hh-test" / "several")
    assert ended.errors[1] == ""  # the first process speaks for both
    assert ended.out[0].count("report page: ") == 1
    assert "report page: " not in ended.out[1]
    counts = [json.loads(out.splitlines()[-1]) for out in ended.out]
    # the table's prompts are sampled in batches of 5 and 3, the pool's two at a time, 64 responses each
    assert [c["sampled"] for c in counts] == [5 * SAMPLES + 4 * 64, 3 * SAMPLES + 4 * 64]
    table = PROMPTS * SAMPLES
    # the responses are in batches of 64, 64 and 64, the chosen ones of the data in a single one
    assert [c["compared"] for c in counts] == [2 * 64 + PROMPTS, table - 2 * 64]
    # the table, the pool, the data's own responses, and the four rows by which each process checks the reward model
    assert sum(c["scored"] for c in counts) == table + PROMPTS * 64 + 2 * PROMPTS + 2 * 4


# at a call of the reward scorer; the table's rows are its first, the data's own the next two, the pool's the fourth
DIE = """
import os, signal
from rlhf_bench.scorers.reward import RewardScorer
score = RewardScorer.score
calls = []
def die(self, rows, context):
    calls.append(1)
    if len(calls) == {call} and os.environ.get("RANK", "1") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return score(self, rows, context)
RewardScorer.score = die
"""


@pytest.mark.parametrize(("begun_by", "continued_by"), [(2, 1), (1, 2)])
def test_what_was_killed_goes_on_in_any_number(
    work: Path, launch: Launcher, alone: Path, begun_by: int, continued_by: int
) -> None:
    results = f"killed-{begun_by}"
    ended = launch(*words(work, results), processes=begun_by, plan=NO_REPORT + DIE.format(call=3))
    assert ended.statuses == ([1, -9] if begun_by == 2 else [-9])
    if begun_by == 2:
        (line,) = ended.lines
        assert line.startswith("error: process 0 of 2 lost another: it was killed or ran out of memory, or has not ")
    folder = work / results / "hh-test" / "several"
    assert not (folder / "metrics.json").exists()
    stored = folder / ".parts" / "sft-0.parquet"
    before = stored.stat().st_mtime_ns
    plan = f"""
import os, pathlib
from rlhf_bench.store import PartStore
finished = PartStore.stored
def look(self, part):
    found = finished(self, part)
    assert pathlib.Path({str(stored)!r}).stat().st_mtime_ns == {before}  # never written again
    return found
PartStore.stored = look
"""
    last = launch(*words(work, results), processes=continued_by, plan=NO_REPORT + plan)
    assert last.statuses == [0] * continued_by, last.errors
    assert_same_result(alone, folder)


def test_shards_are_stored_and_put_together_in_order(work: Path, launch: Launcher, alone: Path) -> None:
    """Killed in its second shard, continued by two processes from the first."""
    shards = NO_REPORT + "from rlhf_bench.evaluate import run; run.SHARD = 6\n"
    seen = "from rlhf_bench.modeling import sampling as s; draw = s.decode_steps\n"
    seen += "s.decode_steps = lambda *a: (print('prompts', len(a[1])), draw(*a))[1]\n"
    ended = launch(*words(work, "shards"), plan=shards + DIE.format(call=2))
    assert ended.statuses == [-9]
    folder = work / "shards" / "hh-test" / "several"
    stored = folder / ".parts" / "shards" / "sft-0"
    assert [path.name for path in stored.iterdir()] == ["0.parquet"]
    last = launch(*words(work, "shards"), processes=2, plan=shards + seen)
    assert last.statuses == [0, 0], last.errors
    drawn = sum(int(line.split()[1]) for out in last.out for line in out.splitlines() if line.startswith("prompts "))
    assert drawn == (PROMPTS - 6) + PROMPTS  # the rest of the table, and the pool
    same_files(alone, folder, ["responses.jsonl"])
    ours, theirs = (pd.read_parquet(path / "scores.parquet") for path in (alone, folder))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not (folder / ".parts").exists()


def test_an_error_in_one_process_is_reported_once(work: Path, launch: Launcher) -> None:
    plan = """
import os
from rlhf_bench.modeling import sampling
from rlhf_bench.errors import NotFinite
draw = sampling.decode_steps
def fail(*args):
    if os.environ["RANK"] == "1":
        raise NotFinite("the probabilities of the next token are NaN")
    return draw(*args)
sampling.decode_steps = fail
"""
    ended = launch(*words(work, "fails"), processes=2, plan=plan)
    assert ended.statuses == [1, 1]
    (line,) = ended.lines
    assert line.startswith("error: sft (")
    assert line.endswith("): the probabilities of the next token are NaN")


def test_what_is_stored_is_seen_by_all(work: Path, launch: Launcher, alone: Path) -> None:
    before = (alone / "metrics.json").stat().st_mtime_ns
    ended = launch(*words(work, "alone"), processes=2, plan=NO_REPORT)
    assert ended.statuses == [0, 0], ended.errors
    assert "everything is stored; nothing to compute" in ended.errors[0]
    assert (alone / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.kills
def test_accelerate_launch(work: Path, alone: Path) -> None:
    """With the configuration of the docs, for fewer processes."""
    config = Path(__file__).parents[3] / "docs" / "accelerate" / "one-node.yaml"
    launcher: list[object] = [
        "accelerate.commands.launch",
        "--config_file",
        config,
        "--num_processes",
        "2",
        "--main_process_port",
    ]
    launcher += ["0", "-m"]
    given = [sys.executable, "-m", *launcher, "rlhf_bench", *words(work, "accelerate")]
    done = subprocess.run(
        list(map(str, given)), capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert_same_result(alone, work / "accelerate" / "hh-test" / "several")
