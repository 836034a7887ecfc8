"""One rule for every command (errors.py): an unknown name is wrong usage, 2; a path with nothing at it fails, 1."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf_bench.cli import cli

from ..report.make_result import make_result
from ..tiny import save_run

CONFIG = {"data": {"source": "hh-mini", "seed": 0, "max_prompt_tokens": 128, "max_response_tokens": 8}}
GOLD = "judge plan tiny --judge gold --baseline base"

NAMES = {
    "command": ["nope", "judge nope", "data nope"],
    "option": ["eval --nope", "train --nope"],
    "suite": ["eval --suite nope", "eval --suite nope.yaml"],
    "recipe": ["train all --recipe nope", "train all --recipe nope.yaml"],
    "stage": ["train nope", "train nope --explain", "push default nope --to a/b"],
    "key": ["train all --set ppo.nope=1", "train all --sweep ppo.nope=1,2", "eval --set nope=1"],
    "run": ["eval --run nope", "audit --run nope", "selftest --run nope", "push nope --to a/b"],
    "result": [
        "report nope", "report --show nope/nope", "compare nope tiny", "compare tiny nope", "judge show nope",
        "judge plan nope --judge gold --baseline base", "judge run nope --judge gold --baseline base",
    ],
    "reference model": ["eval --reference nope"],
    "model": ["judge plan tiny --judge gold --baseline nope", f"{GOLD} --model nope"],
    "judge template": [f"{GOLD} --template nope", f"{GOLD} --template nope.yaml"],
    "prompt template": ["eval --model a=x --prompt-template nope"],
    "column": ["eval --responses a=x --columns nope=x"],
    "compared metric": ["compare tiny tiny --difference nope=1"],
    "filter": ["data prepare hh-mini --out out --filter nope"],
    "data source": ["data prepare nope --out out", "eval --data nope"],
    "kind": ["list nope"],
}  # fmt: skip

PATHS = [
    "eval --model a=./nope --limit 2",
    "eval --reward-model ./nope --limit 2",
    "eval --reward-model no/such/model --limit 2",
    "eval --curve a=nope/*",
    "eval --responses a=nope.jsonl",
    "eval --data nope.jsonl --limit 2",
    "eval --from nope.json",
    "eval --annotations nope.json",
    "audit --reward-model ./nope",
    "audit --data nope.jsonl",
    "selftest --model ./nope",
    "merge nope out",
    "train base --run new --set data.source=nope.jsonl",
    "data prepare nope.jsonl --out out",
    f"{GOLD} --prices nope.json",
    "judge ledger stats --ledger nope.sqlite",
    "judge ledger export nope.jsonl --ledger nope.sqlite",
    "judge ledger import nope.jsonl",
    "judge import tiny nope.json --format alpaca --judge gpt-4o --baseline base",
    "judge label read tiny nope.csv --rater me",
]


@pytest.fixture(scope="module", autouse=True)
def _in_a_folder_with_a_run_and_a_result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """checkpoints/default holds sft and reward, results/hh-test/tiny a result; no test changes them."""
    folder = tmp_path_factory.mktemp("statuses")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_run(Path("checkpoints/default"), config=CONFIG, samples=1, tokens=1, seconds=1.0)
        make_result(Path("results/hh-test/tiny"))
        yield


def printed(line: str, status: int) -> str:
    result = CliRunner().invoke(cli, ["--quiet", *shlex.split(line)])
    assert result.exit_code == status, result.stderr
    assert result.stdout == ""
    (message,) = result.stderr.splitlines()
    assert message.startswith("error: ")
    assert "unexpected error" not in message
    assert "nope" in message or "no/such" in message
    return message


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, lines in NAMES.items() for line in lines])
def test_an_unknown_name_is_wrong_usage(kind: str, line: str) -> None:
    assert printed(line, 2).startswith(f"error: unknown {kind} ")


@pytest.mark.parametrize("line", PATHS)
def test_a_path_with_nothing_at_it_fails(line: str) -> None:
    assert "unknown" not in printed(line, 1)
