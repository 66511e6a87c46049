"""A stand-in of an OpenAI-compatible server on loopback: a real tiny model behind the completions API."""

from __future__ import annotations

import json
import platform
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Literal, Self

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

# The client tells each server which processor this is, and asks a process for it once.
platform.processor()

MODELS, COMPLETIONS = "/v1/models", "/v1/completions"
Kind = Literal["vllm", "echo", "echo with a token", "text"]
"""vLLM; a server with OpenAI's ``echo``; one that always generates; one without log-probs of a prompt."""


class ServerError(Exception):
    """A refusal, with the server's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Model:
    """A checkpoint that answers one request at a time, in float32, and keeps what it said greedily."""

    def __init__(self, folder: Path) -> None:
        network: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        )
        self.network = network.eval()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        self.context: int = self.network.config.max_position_embeddings
        ends = self.network.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.lock = Lock()
        self.said: dict[tuple[int, ...], tuple[list[int], Iterator[int]]] = {}
        self.scores: dict[tuple[int, ...], list[tuple[float, int]]] = {}

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def generate(self, ids: list[int], max_tokens: int, stop: Sequence[str]) -> list[int]:
        """Continue greedily: to EOS, to the token that completes a stop string, or to the limit."""
        with self.lock:
            greedy = self.steps(ids, lambda logits: int(logits.argmax()))
            said, more = self.said.setdefault(tuple(ids), ([], greedy))
            for n in range(1, max_tokens + 1):
                if n > len(said):
                    said.extend(islice(more, 1))
                if any(one in self.decode(said[:n]) for one in stop):
                    return said[:n]
            return said[:max_tokens]

    def draw(self, ids: list[int], max_tokens: int, body: Mapping[str, Any]) -> list[int]:
        """Draw token by token, from the nucleus, by a generator of the request's seed."""
        generator = torch.Generator().manual_seed(body["seed"])

        def drawn(logits: torch.Tensor) -> int:
            shares = (logits.double() / body["temperature"]).softmax(-1)
            likely, order = shares.sort(descending=True)
            likely[likely.cumsum(0) - likely >= body["top_p"]] = 0
            return int(order[likely.multinomial(1, generator=generator)])

        new: list[int] = []
        with self.lock:
            for token in islice(self.steps(ids, drawn), max_tokens):
                new.append(token)
                if any(one in self.decode(new) for one in body.get("stop") or ()):
                    break
        return new

    def steps(self, ids: list[int], choose: Callable[[torch.Tensor], int]) -> Iterator[int]:
        """Yield token after token, to EOS."""
        read, cache, token = ids, None, None
        while token not in self.ends:
            out = self.read(read, cache)
            token = choose(out.logits[0, -1])
            yield token
            read, cache = [token], out.past_key_values

    @torch.inference_mode()
    def read(self, ids: list[int], cache: Any = None) -> Any:
        return self.network(torch.tensor([ids]), past_key_values=cache, use_cache=True)

    def logprobs(self, ids: list[int]) -> list[float | None]:
        return [None, *(logp for logp, _ in self.scored(ids))]

    def scored(self, ids: list[int]) -> list[tuple[float, int]]:
        """Return log-probability and rank of each token but the first."""
        with self.lock:
            if tuple(ids) not in self.scores:
                logs = self.read(ids).logits[0, :-1].log_softmax(-1)
                own = logs.gather(1, torch.tensor(ids[1:])[:, None])
                pairs = zip(own[:, 0].tolist(), (logs >= own).sum(1).tolist(), strict=True)
                self.scores[tuple(ids)] = list(pairs)
            return self.scores[tuple(ids)]


loaded = cache(Model)
"""One for each folder, which may not change: what a model says is no server's own."""


class Handler(BaseHTTPRequestHandler):
    """Answers the routes that vLLM's server has, or some of them."""

    # HTTP/1.0 closes each connection, so that no thread outlives its answer.
    protocol_version = "HTTP/1.0"
    timeout = 10
    server_: ModelServer

    def do_GET(self) -> None:
        """Answer one request, of any method."""
        server = self.server_
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.requests.append(f"{self.command} {self.path}")
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.path in server.hangs:
            server.closing.wait()
        if server.dead.is_set() or server.closing.is_set():
            return self.drop()
        if server.html:
            return self.send(404, b"<html><body>Not Found</body></html>", "text/html")
        try:
            answer = self.answer(json.loads(body) if body else {})
        except ServerError as refusal:
            error = {"message": str(refusal), "type": "error", "code": refusal.status}
            return self.send(refusal.status, json.dumps({"error": error}).encode())
        if answer is None:
            return None
        return self.send(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815

    def answer(self, body: Mapping[str, Any]) -> Any:
        server = self.server_
        given = self.headers.get("Authorization", "")
        if server.key is not None and given != f"Bearer {server.key}":
            raise ServerError(401, f"Incorrect API key provided: {given.removeprefix('Bearer ').upper()}")
        if server.failures.get(self.path):
            raise ServerError(server.failures[self.path].pop(0), f"not now, {given.removeprefix('Bearer ')}")
        if self.path == "/health":
            return {}
        if self.path == MODELS:
            return {"object": "list", "data": server.cards}
        if self.path == "/tokenize" and server.tokenizer is not None:
            special = body.get("add_special_tokens", True)
            return {"tokens": server.tokenizer(body["prompt"], add_special_tokens=special).input_ids}
        if self.path != COMPLETIONS:
            raise ServerError(404, "Not Found")
        answer = server.complete(body)
        if not server.may_answer():
            return self.drop()
        server.answered[json.dumps(body, sort_keys=True)] += 1
        return answer

    def drop(self) -> None:
        """Break the connection off, as a killed process does."""
        self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # So that trying again does not keep the tests waiting.
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep pytest's output clean."""


class ModelServer:
    """Serves a checkpoint's folder while the context is open, and counts what it is asked.

    Args:
        folder: the checkpoint.
        name: what the model is called here.
        kind: what the server gives.
        key: what it asks for.
        failures: HTTP statuses that it answers first, by path.
        hangs: paths that it never answers.
        dies_after: answers after which it is gone.
        html: whether it is another kind of server.
        tokenizer: where it has its tokenizer from, if not the folder.
        cards: what it tells of models, if not the usual.
        usage: whether it counts tokens.
        seeds: whether a seed decides what is drawn, or nothing does, or the time.
        ranks: whether it tells them beside vLLM's log-probs.
        port: where it listens; 0: anywhere.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "tiny",
        *,
        kind: Kind = "vllm",
        key: str | None = None,
        failures: Mapping[str, Sequence[int]] | None = None,
        hangs: Sequence[str] = (),
        dies_after: int | None = None,
        html: bool = False,
        tokenizer: Path | None = None,
        cards: Sequence[Mapping[str, Any]] | None = None,
        usage: bool = True,
        seeds: Literal["heeded", "fixed", "ignored"] = "heeded",
        ranks: bool = True,
        port: int = 0,
    ) -> None:
        self.seeds, self.ranks, self.draws = seeds, ranks, 0
        self.model = loaded(folder)
        self.kind, self.key, self.hangs = kind, key, hangs
        self.failures = {path: list(statuses) for path, statuses in (failures or {}).items()}
        self.html, self.usage, self._left = html, usage, dies_after
        self.own = AutoTokenizer.from_pretrained(tokenizer) if tokenizer else self.model.tokenizer
        self.tokenizer = self.own if kind == "vllm" else None
        card: dict[str, Any] = {"id": name, "object": "model", "owned_by": "someone"}
        if kind == "vllm":
            card |= {"owned_by": "vllm", "root": str(folder), "max_model_len": self.model.context}
        self.cards = [card] if cards is None else cards
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answered: Counter[str] = Counter()
        self.dead, self.closing, self._lock = Event(), Event(), Lock()
        handler = type("Bound", (Handler,), {"server_": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        # Threads that are no daemons are waited for by server_close.
        self.server.daemon_threads = False
        self.port = self.server.server_address[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def may_answer(self) -> bool:
        """Count down to the server's death."""
        with self._lock:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    self.dead.set()
            return not self.dead.is_set()

    def asked(self, path: str) -> int:
        """Count the requests to a path."""
        return sum(request.endswith(path) for request in self.requests)

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a completions request as the kind of server does."""
        model, prompt = self.model, body["prompt"]
        ids: list[int] = self.own(prompt).input_ids if isinstance(prompt, str) else prompt
        wanted, echo = int(body["max_tokens"]), bool(body.get("echo"))
        scored = "prompt_logprobs" in body and self.kind == "vllm"
        self.check(ids, wanted, body)
        if body.get("temperature"):
            new = model.draw(ids, wanted, {**body, "seed": self.seed(body)})
        else:
            new = model.generate(ids, max(wanted, 1), body.get("stop") or ())[:wanted]
        choice: dict[str, Any] = {"index": 0, "text": model.decode(new), "logprobs": None}
        for stop in body.get("stop") or ():
            choice["text"] = choice["text"].split(stop)[0]
        if body.get("return_token_ids") and self.kind == "vllm":
            choice |= {"token_ids": new, "prompt_token_ids": ids}
        if scored:
            told = ({"logprob": logp, **self.rank(rank)} for logp, rank in model.scored(ids))
            choice["prompt_logprobs"] = [None, *({str(i): o} for i, o in zip(ids[1:], told, strict=True))]
        if echo and self.kind != "text":
            choice["text"] = model.decode([*ids, *new])
            choice["logprobs"] = {"token_logprobs": [*model.logprobs(ids), *[-1.0] * len(new)]}
        usage = {"usage": {"prompt_tokens": len(ids), "completion_tokens": len(new)}} if self.usage else {}
        return {"object": "text_completion", "choices": [choice], **usage}

    def seed(self, body: Mapping[str, Any]) -> int:
        """Return what decides the draws: the request's seed, one for all, or the time."""
        self.draws += 1
        return {"heeded": int(body["seed"]), "fixed": 0}.get(self.seeds, self.draws)

    def rank(self, rank: int) -> dict[str, int]:
        """Return what is told of a rank."""
        return {"rank": rank} if self.ranks else {}

    def check(self, ids: list[int], wanted: int, body: Mapping[str, Any]) -> None:
        """Refuse what a server refuses."""
        context, size = self.model.context, self.model.network.config.vocab_size
        if body["model"] not in [card["id"] for card in self.cards]:
            raise ServerError(404, f"The model `{body['model']}` does not exist.")
        if max(ids) >= size:
            raise ServerError(400, f"Token id {max(ids)} is out of vocabulary")
        if len(ids) + max(wanted, 1) > context:
            raise ServerError(400, f"This model's maximum context length is {context} tokens.")
        if wanted < 1 and (self.kind == "echo with a token" or "prompt_logprobs" in body):
            raise ServerError(400, "max_tokens must be at least 1")
        if body.get("echo") and self.kind == "text":
            raise ServerError(400, "echo is not supported")
