"""Calls through OpenAI's Batch API: sent as one file, answered within a day at a lower price.

Everything that a later process has to know is in the ledger and at the server. The calls of a batch are claimed for the
owner `batch:<id>:<process>` before anything is sent, each at its worst case, and the batch carries the id in its
metadata. A later process requests the batches with these ids from the server:

    still running           it waits, or leaves the claims as they are
    ended                   each row becomes an attempt, once, in one transaction; a row without a result has failed
    not there               its process is gone, so it was never made: the claims are given back, nothing is charged
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from openai import APIConnectionError, APIError, APIStatusError, InternalServerError, OpenAI

from rlhf_bench.errors import Interrupted, JudgeError
from rlhf_bench.judge.client import JudgeClient, look_up, with_failures
from rlhf_bench.judge.client.endpoint import KEY_VARIABLE, OptionalPart, arguments, refused_part
from rlhf_bench.judge.client.http import clean_line, error_text, filtered, received, timeout
from rlhf_bench.judge.ledger.file import Attempt, Call
from rlhf_bench.judge.questions import Outcome, QuestionId
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.owner import is_dead, this_process

OWNER = "batch:"
MOST_CALLS = 50_000  # a batch, by OpenAI's rules; other servers allow as many
MOST_BYTES = 100_000_000
HELD_SECONDS = 2 * 24 * 3600.0  # a batch ends within a day; after two its calls count as lost, at their worst case
_ENDED = ("completed", "expired", "cancelled", "failed")
_MARK = "rlhf_bench"


def in_flight(client: JudgeClient) -> int:
    """Calls of this result and judge that are in a batch."""
    return sum(len(keys) for keys in client.ledger.held(client.scope, OWNER).values())


def ask_in_batches(
    client: JudgeClient,
    items: Sequence[QuestionId],
    key: Callable[[], str],
    *,
    wait: bool,
    poll: float,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[QuestionId, Outcome]:
    """Collect the answers of earlier batches, send what is still open within the cap, and wait for it if `wait`.

    What is in a batch still is "missing". Raises JudgeError where the server offers no batches or refuses one,
    Interrupted after Ctrl-C; a batch that was sent goes on at the server in each case. Where the server refused the
    JSON schema in a batch's calls, they are sent again without it.
    """
    client.ledger.settle(client.scope)
    found = look_up(client, items)
    open_items = {o.key: item for item, o in found.items() if o.reading.status == "missing"}
    if not open_items and not in_flight(client):
        return found
    batches = _Batches(client, key())
    try:
        before = batches.collect()
        stays = 0 in client.cap or batches.refusal() is not None
        sent = batches.send([] if stays else [client.endpoint.call(client.question(i)) for i in open_items.values()])
        with progress.task(f"a batch at {client.endpoint.model}", total=before + sent) as task:
            while wait and in_flight(client):
                done = batches.collect()
                task.advance(done)
                if not done:
                    sleep(poll)
    except KeyboardInterrupt:
        raise Interrupted(
            f"{in_flight(client)} calls are in a batch, which goes on at the server; the same command collects it"
        ) from None
    finally:
        batches.close()
    if batches.refused:
        raise JudgeError(batches.refused)
    if refusal := batches.refusal():
        part, reason = refusal
        progress.log(client.refusal_line(part, reason))
        return ask_in_batches(client.without(part), items, key, wait=wait, poll=poll, progress=progress, sleep=sleep)
    return with_failures(client, items, batches.failed)


class _Batches:
    """The batches of one result and judge, as the ledger and the server know them."""

    def __init__(self, client: JudgeClient, key: str) -> None:
        self._client = client
        self._key = key
        endpoint = client.endpoint
        self._openai = OpenAI(api_key=key, base_url=endpoint.base_url, max_retries=2, timeout=timeout(endpoint))
        self.failed: dict[str, str] = {}  # key -> reason
        self.refused: str | None = None  # why a batch as a whole failed

    def close(self) -> None:
        self._openai.close()

    def refusal(self) -> tuple[OptionalPart, str] | None:
        """The part for which the server refused a call, and the server's message."""
        for failure in self._client.ledger.failures(self.failed):
            if part := refused_part(failure):
                return part, failure.reason
        return None

    def send(self, calls: Sequence[Call]) -> int:
        """Claim and send what fits under the cap; returns how many calls."""
        total = 0
        for part in _parts(calls):
            name = uuid.uuid4().hex
            owner = f"{OWNER}{name}:{this_process().replace(':', '/')}"
            ledger, client = self._client.ledger, self._client
            claimed = ledger.claim_for(owner, part, client.scope, client.cap, seconds=HELD_SECONDS)
            if not claimed:
                break
            lines = "".join(_line(call) for call in claimed).encode("utf-8")
            try:
                file = self._openai.files.create(file=(f"{name}.jsonl", lines), purpose="batch")
                self._openai.batches.create(
                    input_file_id=file.id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={_MARK: name},
                )
            except (APIConnectionError, InternalServerError) as error:  # it may have been made all the same
                raise JudgeError(
                    f"no answer from {client.endpoint.base_url} while {len(claimed)} calls were sent as a batch "
                    f"({clean_line(str(error), self._key)}); the same command finds out what became of it"
                ) from None
            except APIError as error:
                ledger.finish_held(owner, {call.key: Attempt("failed", "the batch was refused") for call in claimed})
                raise JudgeError(self._explained(error)) from None
            total += len(claimed)
        return total

    def collect(self) -> int:
        """Record what ended; returns how many calls that were."""
        held = self._client.ledger.held(self._client.scope, OWNER)
        if not held:
            return 0
        known = self._known({owner.split(":")[1] for owner in held})
        done = 0
        for owner, reserved in held.items():
            _, name, process = owner.split(":")
            batch = known.get(name)
            if batch is None:
                if is_dead(process.replace("/", ":")):
                    done += self._finish(owner, dict.fromkeys(reserved, Attempt("failed", "the batch was never made")))
            elif batch.status in _ENDED:
                done += self._finish(owner, self._attempts(batch, reserved))
        return done

    def _known(self, names: set[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        try:
            for batch in self._openai.batches.list(limit=100):
                name = (batch.metadata or {}).get(_MARK)
                if name in names:
                    found[str(name)] = batch
                if len(found) == len(names):
                    break
        except APIError as error:
            raise JudgeError(self._explained(error)) from None
        return found

    def _attempts(self, batch: Any, reserved: Mapping[str, int]) -> dict[str, Attempt]:
        """Each call's row of the output, else of the errors; a call without one has failed, and was not charged."""
        why = f"the batch {batch.status} without a result"
        if batch.status == "failed":
            errors = getattr(batch.errors, "data", None) or []
            message = clean_line("; ".join(str(error.message) for error in errors) or "no reason given", self._key)
            self.refused = f"{self._client.endpoint.base_url} refused the batch: {message}; nothing was charged"
            why = "the batch was refused"
        attempts = dict.fromkeys(reserved, Attempt("failed", why))
        for file_id in (batch.error_file_id, batch.output_file_id):
            for row in self._rows(file_id):
                name = str(row.get("custom_id"))
                if name in reserved:
                    attempts[name] = self._attempt(row, name, reserved[name])
        return attempts

    def _rows(self, file_id: str | None) -> Iterator[dict[str, Any]]:
        if not file_id:
            return
        try:
            content = self._openai.files.content(file_id).content
        except APIError as error:
            raise JudgeError(self._explained(error)) from None
        for line in content.split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a row that cannot be read is a call without a result
            if isinstance(row, dict):
                yield row

    def _attempt(self, row: Mapping[str, Any], name: str, worst: int) -> Attempt:
        response = row.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        endpoint = self._client.endpoint
        if status == 200:
            call = Call(name, endpoint.model, endpoint.base_url, "", "", "", worst, endpoint.seconds)
            return received(json.dumps(body, ensure_ascii=False), 200, call, price=endpoint.price, key=self._key)
        error = row.get("error") or body.get("error") or body
        message = clean_line(error_text(error), self._key)
        if error.get("code") == "content_filter":
            return filtered(int(status or 400), message)
        head = f"HTTP {status} " if status else ""
        return Attempt("failed", f"{head}{message}".strip(), http_status=status)

    def _finish(self, owner: str, attempts: Mapping[str, Attempt]) -> int:
        self.failed |= {key: attempt.reason for key, attempt in attempts.items() if attempt.outcome == "failed"}
        return self._client.ledger.finish_held(owner, attempts)

    def _explained(self, error: APIError) -> str:
        url = self._client.endpoint.base_url
        if not isinstance(error, APIStatusError):
            return f"{url}: {clean_line(str(error), self._key)}; the same command goes on"
        if error.status_code == 401:
            return f"{url} does not accept the key in {KEY_VARIABLE} (HTTP 401); set the right one"
        if error.status_code in (404, 405, 501):
            return f"{url} offers no batches (HTTP {error.status_code}); leave out --batch"
        details = error.body if isinstance(error.body, Mapping) else {}
        message = clean_line(error_text(details), self._key)
        return f"{url} refused the batch: HTTP {error.status_code} {message}"


def _line(call: Call) -> str:
    body = dict(arguments(call.request))
    return json.dumps({"custom_id": call.key, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def _parts(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Pieces that a server takes as one batch."""
    part: list[Call] = []
    size = 0
    for call in calls:
        length = len(_line(call))  # ASCII: characters are bytes
        if part and (len(part) == MOST_CALLS or size + length > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(call)
        size += length
    if part:
        yield part
