"""Ask a judge what has not been answered yet, read the answers, and never pay for one twice."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlhf_bench.errors import Interrupted, JudgeError
from rlhf_bench.judge.asking import Asking, Item, Outcome, look_up, stored_readings
from rlhf_bench.judge.budget import dollars
from rlhf_bench.judge.calls import Attempt, Call
from rlhf_bench.judge.client import Client, Reply, backoff
from rlhf_bench.judge.pace import Pace
from rlhf_bench.judge.types import Reading
from rlhf_bench.progress import Progress, Task

__all__ = ["Limits", "ask", "schema_line"]

MOST_WAIT = 300.0  # a server that asks for a longer pause than this is not waited for
FAILURES_IN_A_ROW = 10  # calls given up, with no answer between them: the server is down, or refuses all of them
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast and how often to ask."""

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    attempts: int = 6  # requests a call, the first included
    first_wait: float = 0.5  # seconds before the second; doubled from there
    retry_unreadable: int = 0  # questions put again where the answer could not be read


def ask(
    asking: Asking[Any],
    items: Sequence[Item],
    key: Callable[[], str],
    *,
    limits: Limits,
    rng: random.Random,
    progress: Progress,
) -> dict[Item, Outcome]:
    """Ask what the ledger does not know, within the cap, and return what is known then of every item.

    `key` gives the API key, and is called only if there is something to ask. What does not fit under the cap stays
    "missing". Where the server refuses the JSON schema, all is asked without it. Raises JudgeError where the server
    cannot be used at all, Interrupted after Ctrl-C; what was answered is in the ledger in each case.
    """
    asking.ledger.settle(asking.scope)
    found = look_up(asking, items)
    # Two items may be one call, where two samples are the same text.
    to_ask = {o.key: item for item, o in found.items() if _is_open(o, limits)}
    if not to_ask or asking.cap.cost == 0 or asking.cap.calls == 0:
        return found
    run = _Run(asking, Client(asking.endpoint, key()), limits, rng, deque(to_ask.values()))
    with progress.task(f"asking {asking.endpoint.model}", total=len(to_ask)) as task:
        try:
            asyncio.run(run.all(task))
        except KeyboardInterrupt:
            raise Interrupted(
                f"{run.answered} answers of this run are kept, {dollars(asking.ledger.spent(asking.scope).cost)} spent "
                "on this result and judge so far; the same command goes on from there"
            ) from None
    if run.fatal:
        raise JudgeError(run.fatal)
    if run.schema_refused:
        progress.log(schema_line(asking, run.schema_refused))
        return ask(asking.without_schema(), items, key, limits=limits, rng=rng, progress=progress)
    after = look_up(asking, items)
    return {item: _failed(o) if o.key in run.failed else o for item, o in after.items()}


def schema_line(asking: Asking[Any], reason: str) -> str:
    return (
        f"{asking.endpoint.base_url} refuses the JSON schema for {asking.endpoint.model!r} ({reason}); asking without "
        "it, and reading the answers as text"
    )


def _is_open(outcome: Outcome, limits: Limits) -> bool:
    status = outcome.reading.status
    return status == "missing" or (status == "unreadable" and outcome.answers <= limits.retry_unreadable)


def _failed(outcome: Outcome) -> Outcome:
    return outcome._replace(reading=Reading("failed")) if outcome.reading.status == "missing" else outcome


class _Run:
    """One run's asking: workers take items from one queue until it is empty or there is a reason to stop."""

    def __init__(
        self, asking: Asking[Any], client: Client, limits: Limits, rng: random.Random, queue: deque[Item]
    ) -> None:
        self._asking = asking
        self._client = client
        self._limits = limits
        self._rng = rng
        self._queue = queue
        self._pace = Pace(limits.requests_per_minute, limits.tokens_per_minute)
        self._before = asking.ledger.spent(asking.scope).cost
        self._given_up = 0  # calls in a row
        self._over = False
        self._ended = False
        self.answered = 0
        self.failed: set[str] = set()
        self.fatal: str | None = None
        self.schema_refused: str | None = None  # what the server said

    async def all(self, task: Task) -> None:
        try:
            # What a server refuses of all, such as the key, the model or the schema, costs one request.
            await self._together([self._work(task, most=1)])
            await self._together([self._work(task) for _ in range(self._limits.concurrency)])
        finally:
            await self._client.close()

    async def _together(self, work: Iterable[Coroutine[Any, Any, None]]) -> None:
        workers = [asyncio.create_task(one) for one in work]
        try:
            # Unlike gather, wait comes back at once when it is cancelled, before its tasks have ended.
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        except BaseException:
            self._ended = True  # a cancellation alone can be lost, where an answer arrives at the same moment
            raise
        finally:  # one failed, or Ctrl-C: the others note what they had in flight
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    @property
    def _stopped(self) -> bool:
        return self._ended or self._over or self.fatal is not None or self.schema_refused is not None

    async def _work(self, task: Task, most: float = math.inf) -> None:
        """Take items until the queue is empty, `most` are done, or there is a reason to stop."""
        done = 0
        while self._queue and done < most and not self._stopped:
            item = self._queue.popleft()
            if await self._item(item):
                done += 1
                task.advance(1, **self._money(task))
            else:
                self._queue.append(item)
                await asyncio.sleep(POLL_SECONDS)

    def _money(self, task: Task) -> dict[str, object]:
        spent = self._asking.ledger.spent(self._asking.scope)
        if self._asking.endpoint.price is None:
            return {"calls charged": spent.calls}
        done = task.done + 1
        left = (task.total or done) - done
        return {"cost": dollars(spent.cost), "to come": dollars((spent.cost - self._before) * left // done)}

    async def _item(self, item: Item) -> bool:
        """Ask until there is an answer that can be read, or no more may be asked. False: come back later."""
        question = self._asking.question(item)
        for retry in range(self._limits.retry_unreadable + 1):
            call = self._asking.endpoint.call(question, retry)
            state = await self._call(call, sum(self._asking.endpoint.estimate(question)))
            if state != "answered":
                return state == "stop"
            reading = stored_readings(self._asking, [call.key])[call.key]
            if reading.status != "unreadable":
                break
        return True

    async def _call(self, call: Call, tokens: int) -> Literal["answered", "busy", "stop"]:
        for failures in range(1, self._limits.attempts + 1):
            await self._pace.wait(tokens)
            if self._stopped:
                return "stop"
            claimed = self._asking.ledger.claim(call, self._asking.scope, self._asking.cap)
            if claimed == "over":
                self._over = True
                return "stop"
            if claimed != "claimed":
                return claimed
            reply = await self._send(call)
            if reply.attempt.outcome == "answered":
                self.answered += 1
                self._given_up = 0
                return "answered"
            if reply.schema_refused:
                self.schema_refused = reply.attempt.reason
                return "stop"
            if reply.fatal:
                self.fatal = self.fatal or reply.fatal
            wait = backoff(failures, self._rng, first=self._limits.first_wait)
            if reply.wait is not None:
                self._pace.hold(min(reply.wait, MOST_WAIT))
                wait = 0.0
            if self.fatal or not reply.again or (reply.wait or 0) > MOST_WAIT or failures == self._limits.attempts:
                break
            await asyncio.sleep(wait)
        self._give_up(call, reply.attempt)
        return "stop"

    async def _send(self, call: Call) -> Reply:
        try:
            reply = await self._client.ask(call)
        except asyncio.CancelledError:
            lost = Attempt("unknown", "interrupted in flight", charged=True, cost=call.worst)
            with contextlib.suppress(Exception):  # a full disk: the claim stays, and is charged by whoever comes next
                self._asking.ledger.finish(call.key, lost)
            raise
        self._asking.ledger.finish(call.key, reply.attempt)
        return reply

    def _give_up(self, call: Call, last: Attempt) -> None:
        self.failed.add(call.key)
        self._given_up += 1
        if self._given_up >= FAILURES_IN_A_ROW and not self.fatal:
            self.fatal = (
                f"{self._given_up} calls in a row got no answer from {call.base_url}, the last one: {last.reason}; "
                "check the server and --base-url; what was answered is kept, and the same command goes on from there"
            )
