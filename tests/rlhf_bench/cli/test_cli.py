from __future__ import annotations

import errno
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rlhf_bench import __version__
from rlhf_bench.cli import cli
from rlhf_bench.cli.base import BenchCommand, BenchGroup, name_values
from rlhf_bench.cli.results import find_result, remember_result
from rlhf_bench.errors import BadValue, CheckpointError, Interrupted, UnknownName


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(line: str) -> Result:
    return CliRunner().invoke(cli, shlex.split(line))


def commands(group: click.Group, path: str = "rlhf-bench") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "error: unknown command 'trian'; did you mean 'train'?"),
        ("data prepair", "error: unknown command 'prepair'; did you mean 'prepare'?"),
        ("train --recip mini", "error: unknown option '--recip'; did you mean '--recipe'?"),
        ("eval --suit hh-test", "error: unknown option '--suit'; did you mean '--suite'?"),
        ("--versoin", "error: unknown option '--versoin'; did you mean '--version'?"),
        ("train sftt", "error: unknown stage 'sftt'; did you mean 'sft'?"),
        ("train xyz", "error: unknown stage 'xyz'; known: all, base, dpo, grpo, ppo, reward, sft"),
        ("list suits", "error: unknown kind 'suits'; did you mean 'suites'?"),
        (
            "eval --limit 0",
            "error: invalid value for '--limit': 0 is not in the range x>=1; see: rlhf-bench eval --help",
        ),
        (
            "audit --limit many",
            "error: invalid value for '--limit': 'many' is not a valid integer; see: rlhf-bench audit --help",
        ),
        (
            "train --seeds 0",
            "error: invalid value for '--seeds': 0 is not in the range 1<=x<=1000; see: rlhf-bench train --help",
        ),
        (
            "eval --model dpo",
            "error: --model: given 'dpo', expected NAME=PATH, such as --model mine=checkpoints/mine/dpo",
        ),
        (
            "eval --model a=x --model a=y",
            "error: --model: the name 'a' is given twice, expected a name of its own for each",
        ),
        ("compare a", "error: compare: given a, expected two results, A and B, or --published FILE"),
        ("report nothing", "error: unknown result 'nothing'; known: none"),
        ("data prepare hh-mini", "error: missing option '--out'; see: rlhf-bench data prepare --help"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(line: str, message: str) -> None:
    result = call(line)
    assert result.stderr == message + "\n"
    assert result.stdout == ""
    assert result.exit_code == 2


def test_unknown_recipe_suite_and_key() -> None:
    for line, message in [
        ("train all --recipe minni", "error: unknown recipe 'minni'; did you mean 'mini'?"),
        ("eval --suite hh-tst", "error: unknown suite 'hh-tst'; did you mean 'hh-test'?"),
        ("train all --set ppo.kl_coeff=1", "error: unknown key 'ppo.kl_coeff'; did you mean 'ppo.kl_coef'?"),
    ]:
        result = call(line)
        assert (result.stderr, result.exit_code) == (message + "\n", 2)
    assert not list(Path.cwd().iterdir())  # nothing was begun


def test_report_without_any_result() -> None:
    result = call("report --show")
    assert result.stderr == "error: no result in results/; make one with: rlhf-bench eval --suite hh-test\n"
    assert result.exit_code == 2


@pytest.mark.parametrize("path", COMMANDS)
def test_help_ends_with_two_examples_that_parse(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scores.jsonl",):  # files that have to exist
        Path(name).touch()
    words = path.split()[1:]
    result = CliRunner().invoke(cli, [*words, "--help"])
    assert result.exit_code == 0
    heading, *examples = result.output.splitlines()[-3:]
    assert heading == "Examples:"
    for example in examples:
        assert example.startswith(f"  {path}")
        _parse(shlex.split(example)[1:])


def _parse(words: list[str]) -> None:
    """Parse as click would, without running anything; an unknown option or argument raises."""
    command: click.Command = cli
    context = None
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context("x", words)
    assert context.args == []


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_has_help(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{path} {param.opts[0]}"


def test_version_and_no_arguments() -> None:
    assert call("--version").output == f"rlhf-bench, version {__version__}\n"
    result = call("")
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: rlhf-bench")


@pytest.mark.parametrize("group", ["", "judge", "data"])
@pytest.mark.parametrize("flags", ["--debug", "--quiet", "--debug --quiet"])
def test_global_flags_alone_print_the_help_as_no_word_does(flags: str, group: str) -> None:
    help_ = call(group)
    result = call(f"{group} {flags}")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", help_.stderr)
    assert help_.stderr.startswith(f"Usage: {f'rlhf-bench {group}'.strip()} [OPTIONS] COMMAND")


# What a command may raise, through a command line of its own.


def raising(error: BaseException, line: str = "go") -> Result:
    @click.group(cls=BenchGroup)
    @click.option("--debug", is_flag=True)
    @click.option("--quiet", is_flag=True)
    def group(debug: bool, quiet: bool) -> None:
        pass

    @group.command("go", cls=BenchCommand)
    def go() -> None:
        raise error

    return CliRunner().invoke(group, shlex.split(line))


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (CheckpointError("no sft in checkpoints/mini"), 1, "error: no sft in checkpoints/mini"),
        (BadValue("limit: given 0, expected 1 or more"), 2, "error: limit: given 0, expected 1 or more"),
        (UnknownName("suite", "hh-tst", ["hh-test"]), 2, "error: unknown suite 'hh-tst'; did you mean 'hh-test'?"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            1,
            "error: a/b: No space left on device; make room and run the same command again",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "results"),
            1,
            "error: results: Permission denied; choose a folder that you may write to, or change its permissions",
        ),
        (
            ValueError("two\nlines"),
            1,
            "error: ValueError: two (unexpected error; rerun with --debug for the traceback: rlhf-bench --debug go)",
        ),
        (
            Interrupted("ppo is kept up to step 20; the same command goes on from there"),
            130,
            "interrupted: ppo is kept up to step 20; the same command goes on from there",
        ),
        (
            KeyboardInterrupt(),
            130,
            "interrupted: the same command begins again: rlhf-bench go",
        ),
    ],
)
def test_an_error_is_one_line_with_its_status(error: BaseException, status: int, message: str) -> None:
    result = raising(error)
    assert result.stderr.lstrip("\n") == message + "\n"
    assert result.exit_code == status


@pytest.mark.parametrize("given", ["go --lines 2", "--debug further go --lines 2"])
def test_a_command_that_goes_on_from_what_it_keeps_says_so(given: str) -> None:
    def raising(error: BaseException) -> Result:
        @click.group(cls=BenchGroup)
        @click.option("--debug", is_flag=True)
        def group(debug: bool) -> None:
            pass

        @click.group(cls=BenchGroup)
        def further() -> None:
            pass

        @click.command("go", cls=BenchCommand, keeps="each line is kept")
        @click.option("--lines")
        def go(lines: str) -> None:
            raise error

        group.add_command(further)
        for each in (group, further):
            each.add_command(go)
        return CliRunner().invoke(group, shlex.split(given))

    stopped, full = raising(KeyboardInterrupt()), raising(OSError(errno.ENOSPC, "No space left on device", "a"))
    expected = f"interrupted: each line is kept; the same command goes on from there: rlhf-bench {given}"
    assert (stopped.exit_code, stopped.stderr.strip().splitlines()[-1]) == (130, expected)
    assert full.stderr.endswith("run the same command again: each line is kept\n")


@pytest.mark.parametrize(
    ("option", "work"),
    [("--dry-run", "trainers.plan.dry_run.dry_run"), ("--explain", "trainers.config.loading.explain")],
)
def test_an_interrupted_train_that_trains_nothing_says_that_it_begins_again(
    option: str, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, interrupted)
    result = call(f"train all {option}")
    last = result.stderr.splitlines()[-1]
    assert (result.exit_code, last) == (
        130,
        f"interrupted: the same command begins again: rlhf-bench train all {option}",
    )


def test_commands_that_store_nothing_before_their_end_begin_again() -> None:
    keeping = {path for path, command in COMMANDS.items() if getattr(command, "keeps", "")}
    assert keeping == {"rlhf-bench train", "rlhf-bench eval", "rlhf-bench judge run"}


@pytest.mark.parametrize("line", ["--debug go", "go --debug"])
def test_debug_shows_the_traceback_wherever_it_is_given(line: str) -> None:
    result = raising(CheckpointError("broken"), line)
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("\nerror: broken\n")
    assert result.exit_code == 1


@pytest.mark.parametrize("background", [False, True])
def test_sigterm_ends_a_command_as_ctrl_c_does(background: bool) -> None:
    """A shell starts the jobs of its background with SIGINT ignored."""

    @click.group(cls=BenchGroup)
    def group() -> None:
        pass

    @group.command("go", cls=BenchCommand)
    def go() -> None:
        signal.raise_signal(signal.SIGTERM)

    def outside(*_: object) -> None:
        raise AssertionError("the command handled no SIGTERM")

    handlers = {
        signal.SIGINT: signal.SIG_IGN if background else signal.default_int_handler, signal.SIGTERM: outside,
    }  # fmt: skip
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        result = CliRunner().invoke(group, ["go"])
        assert signal.getsignal(signal.SIGTERM) == outside
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (result.exit_code, result.stderr.strip().partition(":")[0]) == (130, "interrupted")


def test_name_values() -> None:
    assert name_values("--model", ["a=x/y", "b=c=d"], expected="NAME=PATH") == {"a": "x/y", "b": "c=d"}
    for wrong in ("a", "=x", "a="):
        with pytest.raises(BadValue):
            name_values("--model", [wrong], expected="NAME=PATH")


@pytest.fixture
def make_result() -> Callable[[str], Path]:
    def make(name: str) -> Path:
        folder = Path("results", name)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        return folder

    return make


def test_a_result_is_found_by_folder_name_run_or_as_the_last(make_result: Callable[[str], Path]) -> None:
    results = Path("results")
    mini, strong = make_result("hh-test/mini"), make_result("hh-test/strong")
    for given in ("results/hh-test/mini", "hh-test/mini", "mini"):
        assert find_result(given, results) == mini
    for last in (mini, strong):
        remember_result(last)
        assert find_result(None, results) == last
    (mini / "metrics.json").write_text("{}")
    assert find_result(None, results) == mini  # the newer one has not ended
    with pytest.raises(UnknownName, match="did you mean 'hh-test/mini'"):
        find_result("hh-test/minni", results)
    make_result("other/mini")
    with pytest.raises(BadValue, match="several results are called 'mini': hh-test/mini, other/mini; give one"):
        find_result("mini", results)  # two suites have it


def test_the_folder_of_a_suite_or_a_result_can_be_given_as_that_of_all(make_result: Callable[[str], Path]) -> None:
    mini = make_result("hh-test/mini")
    go_on = f"rlhf-bench eval --from {mini}/manifest.json"  # into results/, the default
    for given, name in (("results", "hh-test/mini"), ("results/hh-test", "mini"), ("results/hh-test/mini", ".")):
        assert find_result(None, Path(given)) == find_result("mini", Path(given)) == mini
        assert call(f"list results --results {given}").output == f"{name}  {mini} (unfinished; go on with: {go_on})\n"
    Path("results").rename("mine")
    go_on = "rlhf-bench eval --from mine/hh-test/mini/manifest.json --results mine"
    shown = call("list results --results mine/hh-test").output
    assert shown == f"mini  mine/hh-test/mini (unfinished; go on with: {go_on})\n"


def test_list_runs_shows_which_stages_are_complete() -> None:
    for stage in ("base", "sft"):
        Path("checkpoints/mini", stage).mkdir(parents=True)
        Path("checkpoints/mini", stage, "training.json").write_text("{}")
    Path("checkpoints/mini/.reward.work").mkdir()  # begun and interrupted, with a state
    Path("checkpoints/mini/.reward.work/state-0.pt").touch()
    Path("checkpoints/mini/.ppo.work").mkdir()  # ended before its first state
    Path("checkpoints/three/seed-0/base").mkdir(parents=True)
    assert call("list runs").output.splitlines() == ["mini   base, sft, reward (unfinished)", "three  seed-0: nothing"]
    assert call("list results").output == "none\n"


def test_every_option_of_eval_is_in_a_group_of_its_help() -> None:
    command = COMMANDS["rlhf-bench eval"]
    assert isinstance(command, BenchCommand)
    grouped = [name for names in command.groups.values() for name in names]
    assert sorted(grouped) == sorted(param.opts[0] for param in command.params)
    shown = CliRunner().invoke(cli, ["eval", "--help"]).output.splitlines()
    headings = [line.rstrip(":") for line in shown if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Inputs", "Sampling", "Scoring", "Judge", "Output", "Options", "Examples"]


def test_a_result_given_to_eval_is_pointed_to_report(make_result: Callable[[str], Path]) -> None:
    folder = make_result("hh-test/mine")
    for given in (str(folder), "mine", "hh-test/mine"):
        found = call(f"eval {given}")
        assert found.exit_code == 2
        assert f"rlhf-bench report {given}" in found.stderr
    assert "rlhf-bench eval --help" in call("eval nothing").stderr
