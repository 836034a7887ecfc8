"""A server of the OpenAI API that misbehaves, as a program of its own: server.py LOG SHARE SLOW.

It answers POST /v1/chat/completions and /v1/completions. Which calls go wrong, and how, follows from the hash of the
question alone, so that a run with kills meets the same faults as one without: SHARE of them, all kinds in turn of the
hash. A fault of the server is over at the second request of a question by the same key; a refusal or a filter stays.
What is sent is written to LOG, a JSON line a request, before it is answered: {"client", "question", "fault", "n",
"sent"}; "client" is a hash of the key. SLOW is for how many seconds a time-out is silent.
"""

from __future__ import annotations

import hashlib
import json
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# Over at the second request, or for good.
PASSING = ["429 with", "429 without", "500", "502", "time-out", "dropped", "truncated", "wrong JSON", "empty choice"]
LASTING = ["refusal", "filter", "filter 400", "other model", "unreadable"]

# What servers say that take no JSON schema, by the model's name: OpenAI's form, its form where only the parameter
# tells, FastAPI's, and a fault of a server that should have refused.
SCHEMA_REFUSALS: dict[str, tuple[int, Any]] = {
    "refuses": (400, {"error": {"message": "response_format is not supported", "code": "unsupported"}}),
    "refuses-param": (400, {"error": {"message": "Unknown", "param": "response_format", "code": None}}),
    "refuses-detail": (
        422,
        {"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]},
    ),
    "refuses-500": (500, {"error": {"message": "Unexpected tag 'json_schema'", "code": "server_error"}}),
}


def number(question: str) -> int:
    return int(hashlib.sha256(question.encode()).hexdigest()[:8], 16)


def client(key: str) -> str:
    """What LOG calls the clients that have `key`."""
    return hashlib.sha256(f"Bearer {key}".encode()).hexdigest()[:8]


def fault(question: str, share: float) -> str | None:
    value = number(question)
    if value % 1000 >= share * 1000:
        return None
    kinds = [*PASSING, *LASTING]
    return kinds[value // 1000 % len(kinds)]


def verdict(question: str) -> str:
    """What the judge truly thinks."""
    return "ABC"[number("verdict " + question) % 3]


def expected(question: str, share: float) -> tuple[str, str | None]:
    """(status, winner) that a right client ends with."""
    kind = fault(question, share)
    if kind in ("refusal", "filter", "filter 400"):
        return "refused", None
    if kind == "unreadable":
        return "unreadable", None
    return "read", {"A": "first", "B": "second", "C": "tie"}[verdict(question)]


def structured(sent: dict[str, Any], question: str) -> str | None:
    """An answer that keeps to the schema that was sent, of each enum one by the question's hash; None without one."""
    schema = sent.get("response_format", {}).get("json_schema", {}).get("schema", {})
    fields = schema.get("properties")
    if not fields:
        return None
    values: dict[str, Any] = {}
    for name, kind in fields.items():
        if kind["type"] == "array":  # each item once
            values[name] = sorted(kind["items"]["enum"], key=lambda item: number(f"{item} {question}"))
        else:
            enum = kind.get("enum", ["because"])
            values[name] = enum[number(f"{name} {question}") % len(enum)]
    return json.dumps(values)


def completion(content: str | None, **changed: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, "refusal": changed.pop("refusal", None)},
        "finish_reason": changed.pop("finish", "stop"),
    }
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    head = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge-1", "system_fingerprint": "fp"}
    return head | {"choices": [choice], "usage": usage} | changed


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    share = 0.0
    slow = 0.0
    log: Any = None
    lock = threading.Lock()
    seen: dict[tuple[str, str], int] = {}  # noqa: RUF012 - of the process

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["prompt"] if self.path.endswith("/v1/completions") else body["messages"][-1]["content"]
        asker = client(str(self.headers["Authorization"]).removeprefix("Bearer "))
        with self.lock:
            n = self.seen[asker, question] = self.seen.get((asker, question), 0) + 1
            kind = fault(question, self.share)
            if kind in PASSING and n > 1:
                kind = None
            row = {"client": asker, "question": question, "fault": kind, "n": n, "sent": body}
            self.log.write(json.dumps(row) + "\n")
            self.log.flush()
        if self.headers.get("Authorization") == "Bearer wrong":
            self.error(401, "Incorrect API key provided: wrong.", "invalid_api_key")
        elif body["model"] == "no-such-model":
            self.error(404, "The model `no-such-model` does not exist", "model_not_found")
        elif body["model"] == "no-credit":
            self.error(429, "You exceeded your current quota", "insufficient_quota")
        elif body["model"] == "echo":
            self.error(500, "your headers were " + str(self.headers["Authorization"]), "echo")
        elif body["model"] == "rejects":
            self.error(400, "the request is too long", "too_long")
        elif body["model"] in SCHEMA_REFUSALS and "response_format" in body:
            status, error = SCHEMA_REFUSALS[body["model"]]
            self.send(status, json.dumps(error).encode())
        elif body["model"] in ("new-limit", "old-server") and "max_tokens" in body:
            error = "Unsupported parameter: 'max_tokens' is not supported with this model."
            self.error(400, error + " Use 'max_completion_tokens' instead.", "unsupported_parameter")
        elif body["model"] == "reasons" and "temperature" in body:
            error = "Unsupported value: 'temperature' does not support 0 with this model, only the default (1)."
            self.error(400, error, "unsupported_value")
        elif body["model"] == "reasons" and "logprobs" in body:
            self.error(403, "You are not allowed to request logprobs from this model.", "invalid_request_error")
        elif body["model"] == "no-seed" and "seed" in body:
            self.error(400, "Unrecognized request argument supplied: seed", "invalid_request_error")
        elif body["model"] in ("no-system", "old-server") and body["messages"][0]["role"] == "system":
            self.error(400, "System role not supported", "bad_request")
        elif body["model"] == "pauses" and self.count() > 3:
            self.error(429, "slow down", "rate_limit_exceeded", {"Retry-After": "3600"})
        elif body["model"] == "choice-error" and n == 1:
            choice = {"index": 0, "message": {"content": ""}, "error": {"code": 502, "message": "upstream died"}}
            self.send(200, json.dumps(completion("") | {"choices": [choice]}).encode())
        elif body["model"] == "parts":
            right = completion(None)
            text = [{"type": "thinking", "thinking": "B"}, {"type": "text", "text": verdict(question)}]
            right["choices"][0]["message"]["content"] = text
            self.send(200, json.dumps(right).encode())
        elif body["model"] == "unhurried":
            time.sleep(0.15)
            self.answer(kind, completion(verdict(question)))
        elif body.get("echo"):
            self.echo(kind, body)
        elif "prompt" in body:
            text = {"index": 0, "text": f" {verdict(question)}.\n\nHuman: no", "finish_reason": "stop"}
            self.answer(kind, completion(None) | {"object": "text_completion", "choices": [text]})
        else:
            self.answer(kind, completion(structured(body, question) or verdict(question)))

    def echo(self, kind: str | None, body: dict[str, Any]) -> None:
        """The prompt's tokens, a character each as in the tests' tokenizers, and one that is drawn. The log-probability
        of a token is -(its code % 7) / 4, under the model `other` twice that. The model `silent` gives none."""
        tokens = [*body["prompt"], "."]
        times = 2 if body["model"] == "other" else 1
        logps = [None, *(-times * (ord(token) % 7) / 4 for token in tokens[1:])]
        text = {"index": 0, "text": "".join(tokens), "finish_reason": "length"}
        if body["model"] != "silent":
            text["logprobs"] = {"tokens": tokens, "token_logprobs": logps, "text_offset": list(range(len(tokens)))}
        self.answer(kind, completion(None) | {"object": "text_completion", "choices": [text]})

    def count(self) -> int:
        with self.lock:
            return sum(self.seen.values())

    def answer(self, kind: str | None, right: dict[str, Any]) -> None:
        if kind == "429 with":
            self.error(429, "slow down", "rate_limit_exceeded", {"Retry-After": "0.02"})
        elif kind == "429 without":
            self.error(429, "slow down", "rate_limit_exceeded")
        elif kind in ("500", "502"):
            self.error(int(kind), "oops", "server_error")
        elif kind == "time-out":
            time.sleep(self.slow)
            self.close()
        elif kind == "dropped":
            self.close()
        elif kind == "truncated":
            text = json.dumps(right).encode()
            self.send(200, text[: len(text) // 2], length=len(text))
            self.close()
        elif kind == "wrong JSON":
            self.send(200, b'{"choices": [{"message": ')
        elif kind == "empty choice":
            self.send(200, json.dumps(right | {"choices": []}).encode())
        elif kind == "refusal":
            self.send(200, json.dumps(completion(None, refusal="I will not say A")).encode())
        elif kind == "filter":
            self.send(200, json.dumps(completion("A", finish="content_filter")).encode())
        elif kind == "filter 400":
            self.error(400, "the prompt was filtered", "content_filter")
        elif kind == "other model":
            self.send(200, json.dumps(right | {"model": "judge-2"}).encode())
        elif kind == "unreadable":
            self.send(200, json.dumps(completion("I like both of them")).encode())
        else:
            self.send(200, json.dumps(right).encode())

    def error(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps({"error": {"message": message, "code": code}}).encode(), headers=headers)

    def send(
        self, status: int, body: bytes, *, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def close(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # http.server's also looks up the host's name, which may take long
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, *_: object) -> None:
        pass  # clients that were killed


def main(log: str, share: str, slow: str) -> None:
    Handler.share, Handler.slow = float(share), float(slow)
    with open(log, "a", encoding="utf-8") as file, Server(("127.0.0.1", 0), Handler) as server:
        Handler.log = file
        Path(f"{log}.port").write_text(str(server.server_address[1]))
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
