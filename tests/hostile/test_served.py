"""Whatever a server sends, it ends in one line or in the right answer, never in a number of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from muse_eval.engines import ModelSource
from muse_eval.engines.server import client, connection
from muse_eval.engines.server.engine import ServerEngine, open_server
from muse_eval.engines.settings import ServerSettings
from muse_eval.errors import UserError
from muse_eval.types import Generate, Logprobs
from tests.hostile.served import (
    COMPLETIONS,
    HOSTILE,
    MODELS,
    NEW,
    SCORE,
    TOKENIZE,
    Case,
    Reply,
    ToldServer,
    cases,
    dripping,
    redirects,
    sound_redirects,
    transients,
    whole,
    wholes,
)

KEY = "sk-very-secret-0123456789"
TEXT = "The keeper of the lighthouse"


class World:
    """Servers of both kinds, and an engine for each that asks once more or not at all."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        tokenizer.save_pretrained(folder)
        self.told = {
            vllm: ToldServer(self.ids, str(tokenizer.decode(NEW)), vllm=vllm).__enter__()
            for vllm in (True, False)
        }
        self.engines = {(vllm, tries): self.open(vllm, tries) for vllm in self.told for tries in (0, 1)}

    def close(self) -> None:
        for engine in self.engines.values():
            engine.__exit__(None, None, None)
        for server in self.told.values():
            server.__exit__()

    def ids(self, text: str, special: bool = True) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special).input_ids)

    def open(self, vllm: bool, tries: int = 0, **settings: Any) -> ServerEngine:
        given: dict[str, Any] = {"revision": "r1", "tokenizer": str(self.folder), "api_key_env": "K"}
        source = ModelSource("tiny", base_url=self.told[vllm].url, **given)
        return open_server(
            source, ServerSettings(**{"retries": tries, "timeout": 5, **settings}), [Logprobs(TEXT)]
        )

    def sound(self, vllm: bool, question: str) -> Any:
        """Return the sound answer to a question, as JSON."""
        if question in ("models", "tokens"):
            body = {"prompt": TEXT, "add_special_tokens": True}
            return self.told[vllm].answer({"models": MODELS, "tokens": TOKENIZE}[question], body)
        more: dict[str, dict[str, Any]] = {"echo": {"echo": True}, "scores": {"prompt_logprobs": 0}}
        asked = more.get(question, {})
        return self.told[vllm].completion(
            {"prompt": self.ids(TEXT), "max_tokens": 1 if asked else 4, **asked}
        )

    def ask(self, engine: ServerEngine, question: str) -> Any:
        if question in ("text", "ids"):
            return [
                one.text for batch in engine.generate([Generate(TEXT, 4, name="qa[3]")]) for _, one in batch
            ]
        found = [one for batch in engine.logprobs([Logprobs(TEXT, name="qa[3]")]) for _, one in batch]
        return [one.logprobs.tolist() for one in found]

    def right(self, question: str) -> Any:
        if question in ("text", "ids"):
            return [self.tokenizer.decode(NEW)]
        return [[SCORE] * (len(self.ids(TEXT)) - 1)]

    def refused(self, engine: ServerEngine, question: str) -> str:
        """Return the one line in which a question ends."""
        with pytest.raises(UserError) as caught:
            self.ask(engine, question)
        said = str(caught.value)
        assert said.isprintable()
        assert 20 < len(said) < 1_000
        assert KEY[:12] not in said
        return said


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K", KEY)
        patch.setattr(connection, "MOST_BYTES", 400_000)
        made = World(tmp_path_factory.mktemp("told"), tiny_tokenizer)
        try:
            for (vllm, _), engine in made.engines.items():
                for question in ("text", "scores" if vllm else "echo"):
                    assert made.ask(engine, question) == made.right(question)
            yield made
        finally:
            made.close()


@pytest.fixture(autouse=True)
def forgotten(world: World) -> None:
    for server in world.told.values():
        server.replies.clear()
        server.asked.clear()


VLLM = {"text": False, "ids": True, "scores": True, "echo": False}
"""Which kind of server is asked."""


# ── parts of an answer ───────────────────────────────────────────────────────────────────────────
@pytest.mark.campaign
@pytest.mark.parametrize("case", cases(*VLLM), ids=str)
def test_an_answer_with_a_part_that_does_not_belong_there(world: World, case: Case) -> None:
    vllm, token = VLLM[case.question], world.ids(TEXT)[3]
    spoiled = case.spoiled(world.sound(vllm, case.question), token)
    world.told[vllm].replies[COMPLETIONS] = [whole(spoiled)]
    said = world.refused(world.engines[vllm, 1], case.question)
    assert said.startswith("qa[3]: ")
    # It would be no other the next time.
    assert len(world.told[vllm].asked) == 1


@pytest.mark.campaign
@pytest.mark.parametrize("case", cases("models", "tokens"), ids=str)
def test_a_server_that_tells_of_itself_what_cannot_be(world: World, case: Case) -> None:
    answer = case.spoiled(world.sound(True, case.question), 0)
    path = {"models": MODELS, "tokens": TOKENIZE}[case.question]
    world.told[True].replies[path] = [whole(answer)] * 2
    with world.open(True) as engine:
        world.refused(engine, "text")
    assert f"POST {COMPLETIONS}" not in world.told[True].asked


# ── answers as a whole ───────────────────────────────────────────────────────────────────────────
WHOLES = [name for name, _ in wholes(b"")]
TRANSIENTS = [name for name, _ in transients(b"")]
REDIRECTS = [name for name, _ in redirects(12_345, 54_321)]


@pytest.mark.campaign
@pytest.mark.parametrize("name", WHOLES)
@pytest.mark.parametrize("question", ["text", "scores"])
def test_an_answer_that_is_none(world: World, question: str, name: str) -> None:
    vllm = VLLM[question]
    sound = json.dumps(world.sound(vllm, question)).encode()
    world.told[vllm].replies[COMPLETIONS] = [dict(wholes(sound))[name]]
    world.refused(world.engines[vllm, 1], question)
    assert len(world.told[vllm].asked) == 1


# What is wrong with these is no part of such a list.
OF_CHOICES = {"a text twice", "two choices", "the second choice", "a long text", "latin-1"}
OF_LISTS = [name for name in WHOLES if name not in OF_CHOICES and not name.startswith("finish")]


@pytest.mark.campaign
@pytest.mark.parametrize("name", OF_LISTS)
def test_a_list_of_models_that_is_none(world: World, name: str) -> None:
    listed = b'{"data": [{"id": "tiny", "index": 0}]}'
    world.told[True].replies[MODELS] = [dict(wholes(listed))[name]]
    with world.open(True) as engine:
        world.refused(engine, "text")


@pytest.mark.campaign
@pytest.mark.parametrize("name", TRANSIENTS)
def test_what_passes_is_asked_again_and_what_stays_is_one_line(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pauses between tries double from here.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    reply = dict(transients(json.dumps(world.sound(False, "text")).encode()))[name]
    told = world.told[False]
    with world.open(False, 1, timeout=0.4) as engine:
        assert world.ask(engine, "text") == world.right("text")
        told.asked.clear()
        told.replies[COMPLETIONS] = [reply]
        assert world.ask(engine, "text") == world.right("text")
        told.replies[COMPLETIONS] = [reply] * 2
        world.refused(engine, "text")
    assert told.asked == [f"POST {COMPLETIONS}"] * 4


# ── elsewhere ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.campaign
@pytest.mark.parametrize(
    ("name", "path"),
    # A list of models is asked for without a question that could be lost.
    [
        (name, path)
        for name in REDIRECTS
        for path in (COMPLETIONS, TOKENIZE, MODELS)
        if path != MODELS or "without the question" not in name
    ],
)
def test_no_prompt_goes_to_another_server(world: World, name: str, path: str) -> None:
    told, other = world.told[True], world.told[False]
    reply: Reply = dict(redirects(told.port, other.port))[name]
    engine = world.engines[True, 1] if path == COMPLETIONS else world.open(True, 1)
    told.replies[path] = [reply]
    try:
        world.refused(engine, "scores")
    finally:
        if path != COMPLETIONS:
            engine.__exit__(None, None, None)
    assert not other.asked
    assert told.asked[-1].endswith(path)


def test_within_a_server_a_redirect_is_followed(world: World) -> None:
    told = world.told[True]
    for reply in sound_redirects(told.port):
        told.replies[COMPLETIONS] = [reply]
        assert world.ask(world.engines[True, 0], "scores") == world.right("scores")
    told.replies[COMPLETIONS] = [sound_redirects(told.port)[0]] * 9
    assert "without end" in world.refused(world.engines[True, 0], "scores")


# ── foreign words ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
@pytest.mark.parametrize("path", [MODELS, COMPLETIONS])
def test_a_server_s_words_are_shown_short_and_without_the_key(world: World, path: str, status: int) -> None:
    words = f"key {KEY} is \x1b[31m{KEY}\x9b {HOSTILE}"
    for body in ({"error": {"message": words}}, {"message": words}, {"detail": [words]}, {"error": words}):
        world.told[True].replies[path] = [whole(body, status)] * 2
        with world.open(True) as engine:
            world.refused(engine, "scores")


@pytest.mark.campaign
@pytest.mark.parametrize("before", range(0, 1_010, 29))
def test_the_key_is_not_shown_in_part(world: World, before: int) -> None:
    words = "a" * before + KEY + "'" * 1_000
    replies = [
        whole({"error": words}),
        whole({"error": {"message": words}}, 400),
        whole({"choices": [{"text": "", "index": words}]}),
        whole({"choices": [{"text": "", "logprobs": {"token_logprobs": [words]}}]}),
        whole(f'{{"{words}": 1, "{words}": 2}}'.encode()),
        whole(b"{}", kind=words),
        whole(b"", 307, more={"Location": f"http://127.0.0.1/{words}"}),
        whole(b"", 307, more={"Location": f"http://{'a' * (before % 30)}{KEY}.example/"}),
        f"HTTP/1.0 2{words}\r\n\r\n".encode(),
    ]
    for reply in replies:
        world.told[True].replies[COMPLETIONS] = [reply]
        world.refused(world.engines[True, 0], "text")


def test_names_of_models_are_shown_short(world: World) -> None:
    cards = [{"id": f"{KEY} {HOSTILE} {n}"} for n in range(3)]
    world.told[True].replies[MODELS] = [whole({"data": cards})]
    with world.open(True) as engine:
        assert "no model 'tiny'" in world.refused(engine, "text")
    same = [{"id": "tiny", "max_model_len": 9}, {"id": "tiny", "max_model_len": 99}]
    world.told[True].replies[MODELS] = [whole({"data": same})]
    with world.open(True) as engine:
        assert "twice" in world.refused(engine, "text")


@pytest.mark.parametrize(
    "root", [HOSTILE, "a\0b", "/" + "a" * 5_000, "/dev/null", "~nobody-here", "/proc/self/mem"]
)
def test_where_a_server_says_its_files_lie(world: World, root: str) -> None:
    card = {"id": "tiny", "owned_by": "vllm", "root": root, "max_model_len": 1_024}
    world.told[True].replies[MODELS] = [whole({"data": [card]})]
    with world.open(True) as engine:
        assert world.ask(engine, "text") == world.right("text")


@pytest.mark.parametrize("path", [MODELS, TOKENIZE, COMPLETIONS])
def test_a_server_that_drips_is_left(world: World, path: str) -> None:
    with world.open(True, timeout=0.3) as engine:
        world.told[True].replies[path] = [dripping(whole(b" " * 9_000))]
        assert "0.3 s" in world.refused(engine, "scores")


def test_no_prompt_probabilities_says_why(world: World) -> None:
    answer = world.sound(True, "scores")
    answer["choices"][0]["prompt_logprobs"][2] = {"5": {"logprob": 0.5}}
    with world.open(True) as engine:
        world.told[True].replies[COMPLETIONS] = [whole(answer)] * 3
        said = world.refused(engine, "scores")
    assert "returns no prompt log-probs" in said
    assert client.KEPT not in said


def test_sound_answers_with_more_in_them_are_taken(world: World) -> None:
    answer = world.sound(True, "ids")
    answer["choices"][0] |= {"unknown": [1], "stop_reason": 2, "seed": None}
    answer |= {"kv_transfer_params": None, "metrics": {}, "error": None}
    world.told[True].replies[COMPLETIONS] = [whole(answer, kind="application/json; charset=utf-8")]
    assert world.ask(world.engines[True, 0], "ids") == world.right("ids")
    scored = world.sound(True, "scores")
    token = str(world.ids(TEXT)[1])
    scored["choices"][0]["prompt_logprobs"][1] = {token: {"logprob": 5e-5}, "7": {"logprob": -0.1}}
    world.told[True].replies[COMPLETIONS] = [whole(scored)]
    assert world.ask(world.engines[True, 0], "scores")[0][0] == pytest.approx(5e-5)
