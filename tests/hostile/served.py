"""A server that says what it is told to, and, one after another, all that a server should never say."""

from __future__ import annotations

import gzip
import json
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self

# The client tells each server which processor this is, and asks a process for it once.
platform.processor()

Reply = bytes | Callable[[BaseHTTPRequestHandler, Event], None]
"""All that goes over the wire, or what sends it."""
Path = tuple[str | int, ...]
"""Where in an answer something stands."""

CONTEXT, NEW, SCORE = 1_024, [40, 41], -1.5
MODELS, COMPLETIONS, TOKENIZE = "/v1/models", "/v1/completions", "/tokenize"
HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.example\x07 \x9b2J \u202etxt.exe\u202c \u2066\u200b\r\n"
    "muse-eval: all is well\x00\b\b\b " + "long " * 20_000
)


# ── a server ─────────────────────────────────────────────────────────────────────────────────────
class Handler(BaseHTTPRequestHandler):
    """Answers soundly, until the server has another reply in store for the path."""

    protocol_version = "HTTP/1.0"
    timeout = 10
    told: ToldServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.told.asked.append(f"{self.command} {self.path}")
        replies = self.told.replies.get(self.path, [])
        reply = replies.pop(0) if replies else whole(self.told.answer(self.path, json.loads(body or b"{}")))
        if callable(reply):
            reply(self, self.told.closing)
        else:
            self.wfile.write(reply)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Keep pytest's output clean."""


class ToldServer:
    """Serves no model: greedy text is always the same, and every token has the same log-probability.

    Args:
        ids: the token ids of a text, with or without special tokens.
        text: of a token.
        vllm: whether it is vLLM's server or one with OpenAI's ``echo``.
    """

    def __init__(self, ids: Callable[[str, bool], list[int]], text: str, *, vllm: bool) -> None:
        self.ids, self.text, self.vllm = ids, text, vllm
        self.asked: list[str] = []
        self.replies: dict[str, list[Reply]] = {}
        self.closing = Event()
        handler = type("Bound", (Handler,), {"told": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = False
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return a sound answer."""
        if path == MODELS:
            card = {"id": "tiny", "object": "model", "owned_by": "vllm", "max_model_len": CONTEXT}
            return {"object": "list", "data": [card if self.vllm else {"id": "tiny"}]}
        if path == TOKENIZE:
            return {"tokens": self.ids(body["prompt"], body["add_special_tokens"])} if self.vllm else {}
        return self.completion(body) if "prompt" in body else {}

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a sound answer to a prompt, with all that vLLM's server sends."""
        prompt = body["prompt"]
        ids = self.ids(prompt, True) if isinstance(prompt, str) else prompt
        choice: dict[str, Any] = {"index": 0, "text": self.text, "finish_reason": "length", "logprobs": None}
        new = NEW[: body["max_tokens"]]
        if self.vllm:
            scored = [None, *({str(one): {"logprob": SCORE, "rank": 3}} for one in ids[1:])]
            choice |= {"stop_reason": None, "token_ids": new, "prompt_token_ids": ids, "routed_experts": None}
            choice["prompt_logprobs"] = scored if "prompt_logprobs" in body else None
        elif body.get("echo"):
            choice["logprobs"] = {"token_logprobs": [None, *[SCORE] * (len(ids) - 1)], "top_logprobs": None}
        usage = {
            "prompt_tokens": len(ids),
            "total_tokens": len(ids) + len(new),
            "completion_tokens": len(new),
        }
        return {"id": "cmpl-1", "model": "tiny", "choices": [choice], "usage": usage, "service_tier": None}


# ── replies ──────────────────────────────────────────────────────────────────────────────────────
def whole(
    answer: Any, status: int = 200, kind: str = "application/json", more: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole answer as it goes over the wire."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "retry-after-ms": "1", **(more or {})}
    lines = [f"HTTP/1.0 {status} Said", *(f"{name}: {value}" for name, value in headers.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def dripping(answer: bytes) -> Reply:
    """Send a byte, wait, and send the next: no pause is long, and the end never comes."""

    def send(handler: BaseHTTPRequestHandler, closing: Event) -> None:
        for byte in answer:
            if closing.wait(0.02):
                return
            try:
                handler.wfile.write(bytes([byte]))
            except OSError:
                return

    return send


def lost(handler: BaseHTTPRequestHandler, _: Event) -> None:
    """Break the connection off."""
    handler.connection.shutdown(socket.SHUT_RDWR)


# ── what is put in place of a part ───────────────────────────────────────────────────────────────
VALUES: Mapping[str, str | None] = {
    "missing": None,
    "null": "null",
    "true": "true",
    "false": "false",
    "number": "7",
    "negative": "-3",
    "fraction": "0.5",
    "huge": "1e30",
    "beyond": "1e999",
    "digits": "9" * 5_000,
    "nan": "NaN",
    "infinity": "-Infinity",
    "text": '"seven"',
    "digit": '"7"',
    "surrogate": '"\\ud800"',
    "list": '[1, "a"]',
    "empty list": "[]",
    "object": '{"a": 1}',
    "empty object": "{}",
    "deep": "[" * 20_000 + "]" * 20_000,
    "twice": '{"a": 1, "a": 1}',
}
"""JSON, some of it none, by what it is."""
NO_TEXT = {"missing", "null"}
TEXTS = {"text", "digit"}
OBJECTS = {"object", "empty object"}
SOUND: Mapping[str, Mapping[Path, set[str]]] = {
    "models": {
        (): set(),
        ("data",): set(),
        ("data", 0): set(),
        ("data", 0, "id"): set(),
        ("data", 0, "max_model_len"): NO_TEXT,
        ("data", 0, "owned_by"): NO_TEXT | TEXTS | {"surrogate"},
        ("data", 0, "root"): NO_TEXT | TEXTS | {"surrogate"},
        ("data", 0, "parent"): NO_TEXT | TEXTS | {"surrogate"},
    },
    "tokens": {("tokens",): NO_TEXT | {"empty list"}, ("tokens", 0): {"missing"}},
    "text": {
        (): set(),
        ("error",): NO_TEXT,
        ("usage",): NO_TEXT | OBJECTS,
        ("usage", "prompt_tokens"): NO_TEXT | {"number"},
        ("choices",): set(),
        ("choices", 0): set(),
        ("choices", 1): {"missing"},
        ("choices", 0, "error"): NO_TEXT,
        ("choices", 0, "index"): {"missing"},
        ("choices", 0, "text"): TEXTS,
        ("choices", 0, "finish_reason"): NO_TEXT | TEXTS | {"surrogate"},
        ("choices", 0, "logprobs"): NO_TEXT | OBJECTS,
    },
    "ids": {
        ("choices", 0, "text"): TEXTS,
        ("choices", 0, "token_ids"): NO_TEXT | {"empty list"},
        ("choices", 0, "token_ids", 0): {"missing", "number"},
        ("choices", 0, "prompt_token_ids"): NO_TEXT,
        ("choices", 0, "prompt_token_ids", 1): set(),
        ("choices", 0, "prompt_logprobs"): NO_TEXT | {"empty list"},
    },
    "scores": {
        (): set(),
        ("error",): NO_TEXT,
        ("choices",): set(),
        ("choices", 0): set(),
        ("choices", 0, "text"): TEXTS,
        ("choices", 0, "prompt_logprobs"): set(),
        ("choices", 0, "prompt_logprobs", 3): set(),
        ("choices", 0, "prompt_logprobs", 3, "ID"): set(),
        ("choices", 0, "prompt_logprobs", 3, "ID", "logprob"): {"negative"},
        ("choices", 0, "prompt_token_ids", 2): set(),
    },
    "echo": {
        ("choices", 0, "logprobs"): set(),
        ("choices", 0, "logprobs", "token_logprobs"): set(),
        ("choices", 0, "logprobs", "token_logprobs", 3): {"negative"},
    },
}
"""By question the parts of its answer, and what in their place is still an answer (or none that is read)."""


@dataclass(frozen=True)
class Case:
    """A part of an answer, and what stands in its place."""

    question: str
    path: Path
    value: str

    def __str__(self) -> str:
        return f"{self.question} {'.'.join(map(str, self.path)) or 'all'} {self.value}"

    def spoiled(self, answer: Any, token: int) -> bytes:
        """Return a sound answer with the value in its place; ``ID`` in a path stands for the token's."""
        raw, path = VALUES[self.value], tuple(str(token) if part == "ID" else part for part in self.path)
        if not path:
            return (raw or "").encode()
        *above, last = path
        holder = answer
        for part in above:
            holder = holder[part]
        if isinstance(holder, list) and last == len(holder):
            holder.append(None)
        if raw is None:
            del holder[last]
        else:
            holder[last] = "@@"
        return json.dumps(answer).replace('"@@"', raw or "").encode()


def cases(*questions: str) -> list[Case]:
    """Return every part of the answers to some questions with every value that does not belong there."""
    return [
        Case(question, path, value)
        for question in questions
        for path, sound in SOUND[question].items()
        for value in VALUES
        if value not in sound and not (value == "missing" and path in {(), ("error",)})
    ] + [Case(question, (), "missing") for question in questions if () in SOUND[question]]


# ── other answers ────────────────────────────────────────────────────────────────────────────────
def wholes(sound: bytes) -> Iterator[tuple[str, Reply]]:
    """Yield answers that are foreign as a whole, none of which is asked for again."""
    yield "chat", whole({"choices": [{"index": 0, "message": {"role": "assistant", "content": "oh"}}]})
    yield "chat without text", whole({"choices": [{"index": 0, "text": None, "message": {"content": "oh"}}]})
    yield "an error alone", whole({"error": {"message": HOSTILE, "code": 500}})
    yield "an error that is text", whole({"error": HOSTILE})
    for reason in ("abort", "error", "content_filter"):
        yield f"finish {reason}", whole(sound.replace(b'"length"', json.dumps(reason).encode()))
    yield "a key twice", whole(sound.replace(b'"index": 0', b'"index": 0, "index": 0'))
    yield "a text twice", whole(sound.replace(b'"text":', b'"text": "other", "text":'))
    yield "two choices", whole(sound.replace(b'"choices": [', b'"choices": [{"index": 0, "text": "other"}, '))
    yield "the second choice", whole(sound.replace(b'"index": 0', b'"index": 1'))
    yield "a long text", whole(sound.replace(b'"text": "', b'"text": "' + b"a" * 1_000_000))
    yield (
        "a hostile key",
        whole(sound.replace(b'"index": 0', b'"index": 0, "\\u001b[2J": 1, "\\u001b[2J": 2')),
    )
    for kind in ("", "text/html", "text/plain", "application/octet-stream", "\x1b[31m" + "a" * 5_000):
        yield f"content type {kind[:9]!r}", whole(sound, kind=kind)
    for name in ("utf-16", "utf-32", "utf-8-sig"):
        yield name, whole(sound.decode().encode(name))
    yield "latin-1", whole(sound.replace(b'"cmpl-1"', b'"\xe9\xff"'))
    yield "gzip in gzip", whole(gzip.compress(gzip.compress(sound)), more={"Content-Encoding": "gzip, gzip"})
    yield "brotli", whole(sound, more={"Content-Encoding": "br\x1b[0m"})
    yield "cut", whole(sound[:-9])
    yield "two answers", whole(sound + sound)
    yield "empty", whole(b"")
    yield "no content", whole(b"", 204)
    yield "not modified", whole(b"", 304)
    yield "too much", whole(sound + b" " * 600_000)
    yield (
        "too much, packed",
        whole(gzip.compress(sound + b" " * 5_000_000), more={"Content-Encoding": "gzip"}),
    )
    for status in (400, 401, 402, 403, 404, 405, 410, 413, 415, 418, 422, 431, 451):
        yield f"status {status}", whole({"error": {"message": HOSTILE}}, status)
    for body in (
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"error": [[[1]]]}',
        b'{"detail": [{"msg": "\\u001b[1m"}]}',
    ):
        yield f"status 400 with {body[:9]!r}", whole(body, 400)
    yield "status 400 without end", whole(b"<html>" + b" " * 1_000_000, 400, "text/html")


def transients(sound: bytes) -> Iterator[tuple[str, Reply]]:
    """Yield what passes: it is asked for again, and then there."""
    for status in (408, 409, 429, 500, 502, 503, 504, 529):
        yield f"status {status}", whole({"error": {"message": HOSTILE}}, status)
    yield "status 500 without end", whole(b" " * 1_000_000, 500, "text/html")
    yield "lost", lost
    yield "cut off", whole(sound)[:-9]
    yield "no HTTP", b"\x1b[31mwelcome\r\n\r\n"
    yield "an endless header", b"HTTP/1.0 200 OK\r\nX: " + b"a" * 200_000
    yield "a chunk cut off", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{"
    yield "no gzip", whole(sound, more={"Content-Encoding": "gzip"})
    yield "dripping", dripping(whole(sound + b" " * 9_000))
    yield "dripping headers", dripping(b"HTTP/1.0 200 OK\r\nX: " + b"a" * 9_000)


def redirects(port: int, other: int) -> Iterator[tuple[str, Reply]]:
    """Yield redirects to where no prompt may go: ``port`` is the server's own, ``other`` another's."""
    for status in (301, 302, 303, 307, 308):
        yield f"{status} elsewhere", _redirect(status, f"http://127.0.0.1:{other}/v1/completions")
    for status in (301, 302, 303):
        yield f"{status} to the same without the question", _redirect(status, "/v1/elsewhere")
    for place in (
        f"http://localhost:{port}/v1/completions",
        f"https://127.0.0.1:{port}/v1/completions",
        f"//127.0.0.1:{other}/v1/completions",
        f"http://127.0.0.1:{port}@127.0.0.1:{other}/v1/completions",
        "http://127.0.0.1/v1/completions",
        "http://\x1b[31mevil.example/",
        "http://" + "a" * 3_000,
        "http://[::1",
        "http://host:99999/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "javascript:alert(1)",
    ):
        name = place.replace(str(port), "own").replace(str(other), "other")
        yield f"307 {name[:50]!r}", _redirect(307, place)


def _redirect(status: int, place: str) -> Reply:
    return whole(b"moved", status, "text/plain", {"Location": place})


def sound_redirects(port: int) -> Sequence[Reply]:
    """Return redirects within the server, which are followed."""
    return [_redirect(307, COMPLETIONS), _redirect(308, f"http://127.0.0.1:{port}{COMPLETIONS}")]
