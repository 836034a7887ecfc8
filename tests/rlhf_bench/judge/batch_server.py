"""OpenAI's Batch API as a server in a thread of the test: files, batches, and rows that go wrong.

A batch ends at its second look, or never while `hold` is set. What comes of a row follows from the model's name:

    batch-1    an answer "A"
    mixed      in turn of the rows: an answer, an error row (HTTP 500), no row at all, a filtered question
    expires    as mixed, and the batch expires
    schema     a row with a JSON schema is refused, any other answered
    invalid    the batch fails as a whole
    refused    the batch is refused with HTTP 400
    none       the server offers no batches
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from .server import Server, completion


class State:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.hold = False
        self.lose_batches = False  # the answer to the creation of a batch is lost, and the batch with it
        self.downloads = 0

    @property
    def sent(self) -> list[dict[str, Any]]:
        """Every row that was uploaded."""
        return [
            json.loads(line) for name in self.files if name.startswith("in") for line in self.files[name].splitlines()
        ]

    def end(self, batch: dict[str, Any]) -> None:
        rows = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        model = rows[0]["body"]["model"]
        if model == "invalid":
            batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": "x", "message": "too long"}]}}
            return
        good, wrong = [], []
        for n, row in enumerate(rows):
            kind = n % 4 if model in ("mixed", "expires") else 0
            head = {"id": f"r{n}", "custom_id": row["custom_id"], "error": None}
            if model == "schema" and "response_format" in row["body"]:
                body = {"error": {"message": "no such parameter", "param": "response_format", "code": None}}
                wrong.append(head | {"response": {"status_code": 400, "request_id": "x", "body": body}})
            elif kind == 0:
                good.append(head | {"response": {"status_code": 200, "request_id": "x", "body": completion("A")}})
            elif kind == 1:
                body = {"error": {"message": "oops", "code": "server_error"}}
                wrong.append(head | {"response": {"status_code": 500, "request_id": "x", "body": body}})
            elif kind == 3:
                body = {"error": {"message": "filtered", "code": "content_filter"}}
                wrong.append(head | {"response": {"status_code": 400, "request_id": "x", "body": body}})
        for key, found in (("output_file_id", good), ("error_file_id", wrong)):
            if found:
                batch[key] = f"out-{key}-{batch['id']}"
                self.files[batch[key]] = "\n".join(map(json.dumps, found)).encode()
        batch["status"] = "expired" if model == "expires" else "completed"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state = self.state
        if self.path == "/v1/files":
            match = re.search(rb"filename=\"[^\"]+\"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--", body, re.DOTALL)
            assert match is not None
            name = f"in-{len(state.files)}"
            state.files[name] = match[1]
            kind = {"object": "file", "purpose": "batch", "status": "processed", "filename": "x"}
            self.reply(200, {"id": name, "bytes": 1, "created_at": 0, **kind})
            return
        sent = json.loads(body)
        model = json.loads(state.files[sent["input_file_id"]].splitlines()[0])["body"]["model"]
        if model == "none":
            self.reply(404, {"error": {"message": "no such path", "code": "x"}})
        elif model == "refused":
            self.reply(400, {"error": {"message": "the model has no batches", "code": "x"}})
        elif state.lose_batches:
            self.reply(500, {"error": {"message": "oops", "code": "x"}})
        else:
            name = f"batch_{len(state.batches)}"
            state.batches[name] = {"id": name, "object": "batch", "created_at": 0, "status": "validating", **sent}
            self.reply(200, state.batches[name])

    def do_GET(self) -> None:
        state = self.state
        if self.path.startswith("/v1/files/"):
            state.downloads += 1
            self.reply(200, state.files[self.path.split("/")[3]])
            return
        for name, batch in state.batches.items():
            state.looks[name] = state.looks.get(name, 0) + 1
            if not state.hold and state.looks[name] == 2:
                state.end(batch)
        rows = list(state.batches.values())[::-1]
        self.reply(200, {"object": "list", "data": rows, "has_more": False})

    def reply(self, status: int, body: object) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_batches() -> Iterator[tuple[str, State]]:
    """(base URL, what the server knows)."""
    state = State()
    handler = type("Bound", (Handler,), {"state": state})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1", state
        finally:
            server.shutdown()
            thread.join()
