"""What every command shares: help that ends with examples, errors as one line, the exit status, common options."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from rlhf_bench.cli.signals import sigterm_as_ctrl_c
from rlhf_bench.errors import BadValue, BenchError, Interrupted, UnknownName
from rlhf_bench.runtime.processes import ALONE, Processes, several_processes

if TYPE_CHECKING:
    from rlhf_bench.progress import Progress

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
GLOBAL_FLAGS = ("--debug", "--quiet")
DEFAULT_RESULTS = Path("results")


class BenchCommand(click.Command):
    """A command; its help shows every default, and ends with two examples, as they would be typed.

    `groups`: heading -> the options below it; those of no group come last, below "Options".
    `keeps`: what an interruption leaves, from which the same command goes on; without it, it begins again.
    `keeps_nothing_with`: options with which the command only prints, so that an interruption leaves nothing.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
        keeps: str = "",
        keeps_nothing_with: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples, self.groups, self.keeps = examples, groups, keeps
        self.keeps_nothing_with = keeps_nothing_with
        for param in self.params:
            if isinstance(param, click.Option) and param.show_default is None:
                param.show_default = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _refuse_empty(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = {param.opts[0]: param.get_help_record(ctx) for param in self.get_params(ctx)}
        grouped = {name for names in self.groups.values() for name in names}
        groups = {**self.groups, "Options": [name for name in options if name not in grouped]}
        for heading, names in groups.items():
            if records := [record for name in names if (record := options[name])]:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")


class BenchGroup(click.Group):
    """A group that turns every error into one line and an exit status: 1 failed, 2 wrong usage, 130 interrupted."""

    command_class = BenchCommand

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    format_epilog = BenchCommand.format_epilog

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they are used

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            raise UnknownName("command", name, self.commands)
        return super().resolve_command(ctx, args)

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *unused: Any, **extra: Any
    ) -> NoReturn:
        words = list(sys.argv[1:] if args is None else args)
        # The global flags may be anywhere, since one adds them at the end of a command that has just failed.
        flags = [word for word in words if word in GLOBAL_FLAGS]
        others = [word for word in words if word not in GLOBAL_FLAGS]
        words = flags + others if others else []  # flags alone get the help, as no word does
        extra["standalone_mode"] = False
        try:
            with several_processes(exit_status) as processes, _signals(processes):
                status = super().main(words, "rlhf-bench", obj=processes, **extra)
        except BaseException as error:
            if "--debug" in flags and not isinstance(error, click.exceptions.NoArgsIsHelpError):
                traceback.print_exception(error)
            status = report_error(error, words, keeps=self._keeps(words))
        sys.exit(status if isinstance(status, int) else 0)

    def _keeps(self, words: Sequence[str]) -> str:
        """`keeps` of the command that `words` begin with, where it holds with its options among them."""
        command: click.Command = self
        for word in words:
            if isinstance(command, click.Group) and word in command.commands:
                command = command.commands[word]
        if not isinstance(command, BenchCommand) or not set(words).isdisjoint(command.keeps_nothing_with):
            return ""
        return command.keeps


def _signals(processes: Processes) -> contextlib.AbstractContextManager[None]:
    """Of several processes the launcher ends the others by SIGTERM, and one that waits for another must end at once."""
    return sigterm_as_ctrl_c() if processes.size == 1 else contextlib.nullcontext()


class FiniteRange(click.FloatRange):
    """A number in a range; click's own takes NaN for one, and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def _refuse_empty(args: Sequence[str]) -> None:
    """Raise BadValue for a word without text, such as an unset variable of the shell in quotes leaves."""
    for before, word in zip(["", *args], args, strict=False):
        unset = re.fullmatch(r"(--[\w-]+)=", word)
        if unset or not word:
            option = unset[1] if unset else before if before.startswith("--") else "an argument"
            raise BadValue(f"{option}: given an empty text, expected a value; give one, or leave it out")


bench_command = partial(click.command, cls=BenchCommand)


def report_error(error: BaseException, words: Sequence[str], *, keeps: str = "") -> int:
    """Print `error` on standard error as one line and return the exit status; `keeps` is the command's."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError):  # `rlhf-bench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    status, line = _describe(error, words, keeps)
    click.echo(" ".join(line.split()), err=True)
    return status


def exit_status(error: BaseException) -> int:
    """What `report_error` would return."""
    return _describe(error, ())[0]


def _describe(error: BaseException, words: Sequence[str], keeps: str = "") -> tuple[int, str]:
    if isinstance(error, click.Abort):  # click's wrapping of Ctrl-C
        error = error.__cause__ if isinstance(error.__cause__, KeyboardInterrupt) else KeyboardInterrupt()
    if isinstance(error, Interrupted):
        return 130, f"interrupted: {error}"
    if isinstance(error, KeyboardInterrupt):
        again = f"{keeps}; the same command goes on from there" if keeps else "the same command begins again"
        return 130, f"interrupted: {again}: {shlex.join(['rlhf-bench', *words])}"
    if isinstance(error, click.NoSuchOption) and error.ctx:
        known = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts]
        error = UnknownName("option", error.option_name, [name for name in known if name.startswith("-")])
    if isinstance(error, click.UsageError):
        text = error.format_message().rstrip(".").replace("is not a valid integer range", "is not a valid integer")
        text = text.replace("is not a valid float range", "is not a valid number")
        where = f"; see: {error.ctx.command_path} --help" if error.ctx else ""
        return error.exit_code, f"error: {text[:1].lower()}{text[1:]}{where}"
    if isinstance(error, click.ClickException):
        return error.exit_code, f"error: {error.format_message()}"
    if isinstance(error, BenchError):
        return error.exit_status, f"error: {error}"
    if isinstance(error, OSError) and error.strerror:
        return 1, f"error: {_os_error(error, keeps)}"
    again = shlex.join(["rlhf-bench", "--debug", *(word for word in words if word != "--debug")])
    hint = f"unexpected error; rerun with --debug for the traceback: {again}"
    reason = next(iter(str(error).splitlines()), "")
    return 1, f"error: {type(error).__name__}: {reason} ({hint})"


def _os_error(error: OSError, keeps: str) -> str:
    advice = {
        errno.ENOSPC: f"; make room and run the same command again{f': {keeps}' if keeps else ''}",
        errno.EACCES: "; choose a folder that you may write to, or change its permissions",
        errno.EPERM: "; choose a folder that you may write to, or change its permissions",
        errno.EROFS: "; choose a folder that you may write to",
        errno.ENOENT: "; it is not there, or cannot be made there: give another path",
        errno.ENOTDIR: "; a file is where a folder is needed: choose another folder",
        errno.EEXIST: "; a file is where a folder is needed: choose another folder",
    }
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}{advice.get(error.errno or 0, '')}"


def current_processes() -> Processes:
    """The processes that a launcher has started for this command; ALONE without one."""
    found = click.get_current_context().find_root().obj
    return found if isinstance(found, Processes) else ALONE


def make_progress() -> Progress:
    """The progress display, unless --quiet is given; of several processes the first shows it."""
    from rlhf_bench.progress import Progress

    quiet = bool(click.get_current_context().find_root().params.get("quiet"))
    return Progress(quiet=quiet or not current_processes().is_first)


# Types of options and arguments.
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=0)
POSITIVE = click.IntRange(min=1)
ABOVE_ZERO = FiniteRange(min=0, min_open=True)

checkpoints_option = click.option(
    "--checkpoints", type=FOLDER, default=Path("checkpoints"), help="Folder of all runs' checkpoints."
)
results_option = click.option("--results", type=FOLDER, default=DEFAULT_RESULTS, help="Folder of all results.")


def with_options(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    """Options that several commands share, in the order of their help."""

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def name_values(
    option: str, given: Iterable[str], *, expected: str, name_of: Callable[[str], str] | None = None
) -> dict[str, str]:
    """{"mine": "path"} from ["mine=path"]; `expected` is the form and an example.

    `name_of` gives the name of a path without one. Raises BadValue, for a name that is given twice as well.
    """
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if name_of is not None and (not equals or "/" in name):
            name, equals, path = name_of(text), "=", text
        if not (name and equals and path):
            raise BadValue(f"{option}: given {text!r}, expected {expected}")
        if name in pairs:
            raise BadValue(f"{option}: the name {name!r} is given twice, expected a name of its own for each")
        pairs[name] = path
    return pairs


def names_of(option: str, text: str) -> list[str]:
    """["a", "b"] from "a,b". Raises BadValue for an empty name, or one that is given twice."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise BadValue(f"{option}: given {text!r}, expected different names with a comma between them")
    return names


def sizes(given: Iterable[str]) -> dict[str, float]:
    """{"gold": 0.1} from ["gold=0.1"], of --difference. Raises BadValue."""
    expected = "METRIC=SIZE with a size above 0, such as gold=0.1"
    found: dict[str, float] = {}
    for metric, text in name_values("--difference", given, expected=expected).items():
        try:
            found[metric] = float(text)
        except ValueError:
            found[metric] = math.nan
        if not 0 < found[metric] < math.inf:
            raise BadValue(f"--difference: given {metric}={text!r}, expected {expected}")
    return found
