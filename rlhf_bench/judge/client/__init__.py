"""The client of a judge: sends questions without a stored answer, reads the answers, and never pays for one twice."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlhf_bench.errors import Interrupted, JudgeError
from rlhf_bench.judge.client.budget import Availability, Pace, backoff, dollars
from rlhf_bench.judge.client.endpoint import OPTIONAL_PARTS, Endpoint, OptionalPart
from rlhf_bench.judge.client.http import ChatServer, Reply, raw_answer
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Attempt, Call, Cap, call_key
from rlhf_bench.judge.questions import Outcome, ParsedAnswer, Question, QuestionId
from rlhf_bench.progress import Progress, Task

__all__ = ["JudgeClient", "Limits", "ask", "look_up", "stored_readings"]


@dataclass(frozen=True, slots=True)
class JudgeClient:
    """The questions, the server, the account, and how answers are read."""

    subjects: Sequence[Any]
    endpoint: Endpoint
    render: Callable[..., Question]  # of a subject, an order and a repeat index
    read: Callable[[Mapping[str, Any]], ParsedAnswer]  # of content, refusal, finish_reason, logprobs
    parser: str  # changes whenever `read` would read an answer differently
    ledger: Ledger
    scope: str  # the account: a result and a judge
    cap: Cap = field(default=Cap(0, None))

    def question(self, item: QuestionId) -> Question:
        return self.render(self.subjects[item.subject], item.order, repeat=item.repeat)

    def key(self, item: QuestionId, retry: int = 0) -> str:
        return call_key(self.endpoint.request(self.question(item), retry))

    def without(self, part: OptionalPart) -> JudgeClient:
        """The same questions without a part that the server refuses."""
        return replace(self, endpoint=part.left_out(self.endpoint))

    def adapted(self, template_hash: str, *, keep: Sequence[OptionalPart] = ()) -> JudgeClient:
        """The same questions without the parts that the ledger knows to be refused, but for those to `keep`."""
        client = self
        for part in (part for part in OPTIONAL_PARTS if part not in keep):
            endpoint = self.endpoint
            if self.ledger.is_refused(endpoint.model, endpoint.base_url, template_hash, part.refuses, part.sends):
                client = client.without(part)
        return client

    def refusal_line(self, part: OptionalPart, reason: str) -> str:
        return f"{self.endpoint.base_url} refuses {part.name} for {self.endpoint.model!r} ({reason}); {part.instead}"


def look_up(client: JudgeClient, items: Sequence[QuestionId]) -> dict[QuestionId, Outcome]:
    """What the ledger knows of `items`; "missing" where it knows nothing. Makes no call.

    Stored answers are read again where the parser has changed. Where an answer could not be read and the question was
    repeated, the last answer counts.
    """
    found: dict[QuestionId, Outcome] = {}
    open_items, retry = list(items), 0
    while open_items:
        keys = {item: client.key(item, retry) for item in open_items}
        readings = stored_readings(client, keys.values())
        open_items = []
        for item, key in keys.items():
            reading = readings.get(key)
            if reading is not None:
                found[item] = Outcome(key, reading, retry + 1)
                if reading.status == "unreadable":
                    open_items.append(item)
            elif retry == 0:
                found[item] = Outcome(key, ParsedAnswer("missing"))
        retry += 1
    return found


def stored_readings(client: JudgeClient, keys: Iterable[str]) -> dict[str, ParsedAnswer]:
    """What is read in the stored answers to `keys`; new readings are stored."""
    keys = dict.fromkeys(keys)
    readings = client.ledger.verdicts(keys, client.parser)
    bodies = client.ledger.answers(key for key in keys if key not in readings)
    new = {key: client.read(raw_answer(body)) for key, body in bodies}
    client.ledger.add_verdicts(new, client.parser)
    return readings | new


LOGGED_WAIT = 10.0  # seconds; a shorter pause is not worth a line
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast and how often to send."""

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    attempts: int = 6  # requests a call, the first included
    first_wait: float = 0.5  # seconds before the second; doubled from there
    retry_unreadable: int = 0  # repeats of a question with an answer that could not be read


def ask(
    client: JudgeClient,
    items: Sequence[QuestionId],
    key: Callable[[], str],
    *,
    limits: Limits,
    rng: random.Random,
    progress: Progress,
) -> dict[QuestionId, Outcome]:
    """Send what the ledger does not hold, within the cap, and return what is known then of every item.

    `key` gives the API key, and is called only if there is something to send. What does not fit under the cap stays
    "missing". Where the server refuses an optional part of the requests, all is sent without it. Raises JudgeError
    where no call gets an answer, Interrupted after Ctrl-C; what was answered is in the ledger in each case.
    """
    client.ledger.settle(client.scope)
    found = look_up(client, items)
    # Two items may be one call, where two samples are the same text.
    to_ask = {o.key: item for item, o in found.items() if _is_open(o, limits)}
    if not to_ask or client.cap.cost == 0 or client.cap.calls == 0:
        return found
    server = ChatServer(client.endpoint, key())
    run = _Run(client, server, limits, rng, deque(to_ask.values()), progress.log)
    with progress.task(f"calls to {client.endpoint.model}", total=len(to_ask)) as task:
        try:
            asyncio.run(run.all(task))
        except KeyboardInterrupt:
            raise Interrupted(
                f"{run.answered} answers of this run are kept, {dollars(client.ledger.spent(client.scope).cost)} spent "
                "on this result and judge so far; the same command goes on from there"
            ) from None
    state = run.availability
    if state.fatal:
        raise JudgeError(state.fatal)
    if state.paused:
        if not run.answered:
            raise JudgeError(state.paused)
        progress.log(state.paused)
    if run.refused:
        part, reason = run.refused
        progress.log(client.refusal_line(part, reason))
        return ask(client.without(part), items, key, limits=limits, rng=rng, progress=progress)
    return with_failures(client, items, run.failed)


def with_failures(
    client: JudgeClient, items: Sequence[QuestionId], failed: Mapping[str, str]
) -> dict[QuestionId, Outcome]:
    """What is known after a run, with the calls that `failed` (key -> reason). Raises JudgeError if all of them did."""
    found = {
        item: o._replace(reading=ParsedAnswer("failed")) if o.key in failed and o.reading.status == "missing" else o
        for item, o in look_up(client, items).items()
    }
    if failed and not any(outcome.answers for outcome in found.values()):
        *_, reason = failed.values()
        raise JudgeError(
            f"{len(failed)} calls got no answer from {client.endpoint.base_url}, and none did, the last one: {reason}; "
            "check the server, the model's name and --base-url; the same command tries again"
        )
    return found


def _is_open(outcome: Outcome, limits: Limits) -> bool:
    status = outcome.reading.status
    return status == "missing" or (status == "unreadable" and outcome.answers <= limits.retry_unreadable)


@dataclass
class _Run:
    """The calls of one run: workers take items from one queue until it is empty or there is a reason to stop."""

    client: JudgeClient
    server: ChatServer
    limits: Limits
    rng: random.Random
    queue: deque[QuestionId]
    log: Callable[[str], None]
    over: bool = False
    ended: bool = False
    answered: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # key -> the reason of the last attempt
    refused: tuple[OptionalPart, str] | None = None  # and the server's message

    def __post_init__(self) -> None:
        self.availability = Availability(self.client.endpoint.base_url)
        self.pace = Pace(self.limits.requests_per_minute, self.limits.tokens_per_minute)
        self.before = self.client.ledger.spent(self.client.scope).cost

    async def all(self, task: Task) -> None:
        try:
            # What a server refuses of all, such as the key, the model or the schema, costs one request.
            await self._together([self._work(task, most=1)])
            await self._together([self._work(task) for _ in range(self.limits.concurrency)])
        finally:
            await self.server.close()

    async def _together(self, work: Iterable[Coroutine[Any, Any, None]]) -> None:
        workers = [asyncio.create_task(one) for one in work]
        try:
            # Unlike gather, wait comes back at once when it is cancelled, before its tasks have ended.
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in done:
                worker.result()
        except BaseException:
            self.ended = True  # a cancellation alone can be lost, where an answer arrives at the same moment
            raise
        finally:  # one failed, or Ctrl-C: the others note what they had in flight
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    @property
    def _stopped(self) -> bool:
        return self.ended or self.over or self.availability.ended or self.refused is not None

    async def _work(self, task: Task, most: float = math.inf) -> None:
        """Take items until the queue is empty, `most` are done, or there is a reason to stop."""
        done = 0
        while self.queue and done < most and not self._stopped:
            item = self.queue.popleft()
            if await self._item(item):
                done += 1
                task.advance(1, **self._money(task))
            else:
                self.queue.append(item)
                await asyncio.sleep(POLL_SECONDS)

    def _money(self, task: Task) -> dict[str, object]:
        spent = self.client.ledger.spent(self.client.scope)
        if self.client.endpoint.price is None:
            return {"calls charged": spent.calls}
        done = task.done + 1
        left = (task.total or done) - done
        return {"cost": dollars(spent.cost), "to come": dollars((spent.cost - self.before) * left // done)}

    async def _item(self, item: QuestionId) -> bool:
        """Send until there is an answer that can be read, or no more may be sent. False: come back later."""
        question = self.client.question(item)
        for retry in range(self.limits.retry_unreadable + 1):
            call = self.client.endpoint.call(question, retry)
            state = await self._call(call, sum(self.client.endpoint.estimate(question)))
            if state != "answered":
                return state == "stop"
            reading = stored_readings(self.client, [call.key])[call.key]
            if reading.status != "unreadable":
                break
        return True

    async def _call(self, call: Call, tokens: int) -> Literal["answered", "busy", "stop"]:
        for failures in range(1, self.limits.attempts + 1):
            await self.pace.wait(tokens)
            if self._stopped:
                return "stop"
            claimed = self.client.ledger.claim(call, self.client.scope, self.client.cap)
            if claimed == "over":
                self.over = True
                return "stop"
            if claimed != "claimed":
                return claimed
            reply = await self._send(call)
            if reply.attempt.outcome == "answered":
                self.answered += 1
                self.availability.note_answer()
                return "answered"
            if reply.refused:
                self.refused = reply.refused, reply.attempt.reason
                return "stop"
            reason = reply.attempt.reason
            self.availability.note_failure(reason, connected=reply.connected, wait=reply.wait, fatal=reply.fatal)
            wait = backoff(failures, self.rng, first=self.limits.first_wait)
            if reply.wait is not None:
                if self.availability.paused:
                    return "stop"
                if self.pace.hold(reply.wait) and reply.wait >= LOGGED_WAIT:
                    self.log(f"{self.availability.pause_line(reply.wait, reason)}; going on after that")
                wait = 0.0
            if self.availability.fatal or not reply.again or failures == self.limits.attempts:
                break
            await asyncio.sleep(wait)
        self.failed[call.key] = reason
        self.availability.note_given_up(reason)
        return "stop"

    async def _send(self, call: Call) -> Reply:
        try:
            reply = await self.server.ask(call)
        except asyncio.CancelledError:
            lost = Attempt("unknown", "interrupted in flight", charged=True, cost=call.worst)
            with contextlib.suppress(Exception):  # a full disk: the claim stays, and is charged by whoever comes next
                self.client.ledger.finish(call.key, lost)
            raise
        self.client.ledger.finish(call.key, reply.attempt)
        return reply
