"""When requests go out, by a clock that only the waiting moves."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from rlhf_bench.judge.client.budget import Availability, Pace, backoff, retry_after


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def sent(pace: Pace, clock: Clock, tokens: list[int]) -> list[float]:
    """Seconds from the start at which each request goes out, one after another."""

    async def all_of_them() -> list[float]:
        times = []
        for n in tokens:
            await pace.wait(n)
            times.append(clock.now - 100.0)
        return times

    return asyncio.run(all_of_them())


def test_no_limit_waits_for_nothing() -> None:
    clock = Clock()
    assert sent(Pace(clock=clock, sleep=clock.sleep), clock, [10, 10_000, 10]) == [0, 0, 0]


def test_requests_a_minute() -> None:
    """30 a minute: one every 2 s."""
    clock = Clock()
    assert sent(Pace(30, clock=clock, sleep=clock.sleep), clock, [1, 1, 1]) == [0, 2, 4]


def test_the_longer_of_both_waits_counts() -> None:
    """60 requests and 600 tokens a minute: 1 s a request, 0.1 s a token. After 50 tokens 5 s, after 5 tokens 1 s."""
    clock = Clock()
    assert sent(Pace(60, 600, clock=clock, sleep=clock.sleep), clock, [50, 5, 5]) == [0, 5, 6]


def test_a_hold_is_everyones_and_the_longest_counts() -> None:
    clock = Clock()
    pace = Pace(clock=clock, sleep=clock.sleep)
    pace.hold(7)
    pace.hold(3)
    assert sent(pace, clock, [1, 1]) == [7, 7]


class Fixed(random.Random):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


def test_backoff_doubles_up_to_a_minute_and_is_cut_by_up_to_a_half() -> None:
    """0.5, 1, 2, ... 32, then 64 is 60; a random part of 0.5 takes a quarter away."""
    assert [backoff(n, Fixed(0.0), first=0.5) for n in (1, 2, 3, 7, 8, 50)] == [0.5, 1, 2, 32, 60, 60]
    assert backoff(3, Fixed(0.5), first=0.5) == 1.5
    assert backoff(3, Fixed(1.0), first=0.5) == 1.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    assert retry_after({"retry-after": later}) == pytest.approx(100, abs=5)


def test_a_server_that_has_answered_may_be_away_longer_than_one_that_was_never_reached() -> None:
    def attempts(state: Availability, count: int) -> Availability:
        for _ in range(count):
            state.note_failure("connection refused", connected=False, wait=None, fatal=None)
        return state

    answered = Availability("http://localhost:1")
    answered.note_answer()
    assert not attempts(answered, 20).ended
    assert not attempts(Availability("http://localhost:1"), 3).ended
    assert "no connection to http://localhost:1 in 4 attempts" in str(
        attempts(Availability("http://localhost:1"), 4).fatal
    )
