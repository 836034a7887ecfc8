from __future__ import annotations

import io

import pytest

from rlhf_bench.progress import Progress, clock_time


class Clock:
    """A clock that does not move until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_every_five_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream=stream, clock=clock)
    with progress.task("sft", total=9) as task:
        for step in range(9):
            clock.now += 2.0
            task.advance(loss=1 / (step + 1))
    # Items end at 2, 4, 6, ... seconds. A line is due from 5 s on: item 3, at 6 s; the next from 11 s on: item 6,
    # at 12 s; the next from 17 s on: item 9, at 18 s, the last, which only the closing line tells.
    # 3 items in 6 s are 0.5/s, so 6 more take 12 s.
    assert stream.getvalue().splitlines() == [
        "sft: 3/9 (33%), 0.5/s, 0:12 left, loss 0.3333",
        "sft: 6/9 (67%), 0.5/s, 0:06 left, loss 0.1667",
        "sft: 9/9 (100%) in 0:18, 0.5/s, loss 0.1111",
    ]


def test_what_was_done_before_counts_in_no_rate() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(stream=stream, clock=clock).task("ppo", total=100, start=90) as task:
        clock.now += 6.0
        task.advance(6)  # 6 items in 6 s, not 96
        clock.now += 4.0
        task.advance(4)
    assert stream.getvalue().splitlines() == ["ppo: 96/100 (96%), 1/s, 0:04 left", "ppo: 100/100 (100%) in 0:10, 1/s"]


def test_without_a_total() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(stream=stream, clock=clock).task("pairs") as task:
        clock.now += 10.0
        task.advance(5)
    assert stream.getvalue().splitlines() == ["pairs: 5, 0.5/s", "pairs: 5 in 0:10, 0.5/s"]


def test_a_task_that_fails_says_where() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream=stream, clock=clock)

    def fails() -> None:
        with progress.task("dpo", total=4) as task:
            clock.now += 3.0
            task.advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert stream.getvalue() == "dpo: stopped at 1/4 (25%) after 0:03\n"


def test_nested_tasks_and_log_lines() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream, clock=Clock())
    with progress.task("outer", total=1) as outer:
        with progress.task("inner", total=1) as inner:
            inner.advance()
        progress.log("a line [with brackets]")
        outer.advance()
    assert stream.getvalue().splitlines() == [
        "inner: 1/1 (100%) in 0:00, 0/s",
        "a line [with brackets]",
        "outer: 1/1 (100%) in 0:00, 0/s",
    ]


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(quiet=True, stream=stream)
    with progress.task("sft", total=1) as task:
        task.advance()
    progress.log("line")
    assert stream.getvalue() == ""
    assert task.done == 1


def test_a_terminal_gets_bars() -> None:
    clock, stream = Clock(), Terminal()
    progress = Progress(stream=stream, clock=clock)
    for label in ("sft", "dpo"):
        with progress.task(label, total=2) as task:
            clock.now += 4.0
            task.advance(2, loss=0.5)
        progress.log("kept [so]")
    text = stream.getvalue()
    assert "2/2 (100%)" in text
    assert "in 0:04, 0.5/s" in text
    assert "loss 0.5" in text
    assert text.count("kept [so]") == 2
    assert "sft" not in text[text.index("kept") :]  # the second task's bars are its own


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (75, "1:15"), (3700, "1:01:40")])
def test_clock_time(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text
