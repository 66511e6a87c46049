"""The server engine against a stand-in: every way in which a server can fail, and what tells models apart."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads
from typing import Any

import numpy as np
import pytest
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from muse_eval.engines import ModelSource
from muse_eval.engines.server.answers import Choice
from muse_eval.engines.server.client import api_url
from muse_eval.engines.server.engine import ServerEngine, open_server
from muse_eval.engines.server.threads import in_threads
from muse_eval.engines.server.ways import WAYS
from muse_eval.engines.settings import ServerSettings
from muse_eval.errors import UserError
from muse_eval.types import Generate, Generation, Logprobs, TokenLogprobs, Truncate
from tests.e2e import other_model
from tests.support.server import COMPLETIONS, MODELS, Kind, ModelServer

KEY = "sk-very-secret-0123456789"
TEXT = "The keeper of the lighthouse wrote a letter."
PROMPTS = [f"{n}: the keeper of the lighthouse" for n in range(6)]


def engine_at(url: str, *, asks: Sequence[Any] = (), source: Any = None, **settings: Any) -> ServerEngine:
    given = {"model": "tiny", "base_url": url, **(source or {})}
    return open_server(ModelSource(**given), ServerSettings(**{"retries": 0, **settings}), asks)


def texts_of(engine: ServerEngine, asks: Sequence[Generate]) -> list[Generation]:
    found = dict(pair for batch in engine.generate(asks) for pair in batch)
    return [found[index] for index in range(len(asks))]


def scores_of(engine: ServerEngine, asks: Sequence[Logprobs]) -> list[TokenLogprobs]:
    found = dict(pair for batch in engine.logprobs(asks) for pair in batch)
    return [found[index] for index in range(len(asks))]


def drained(batches: Iterator[Sequence[Any]]) -> tuple[list[Any], Exception | None]:
    """Take what there is, and then the failure."""
    found: list[Any] = []
    try:
        for batch in batches:
            found.extend(batch)
    except (UserError, ValueError) as error:
        return found, error
    return found, None


@pytest.fixture(scope="module")
def vllm(tiny_model: Path) -> Iterator[ModelServer]:
    with ModelServer(tiny_model) as server:
        yield server


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# ── where the server is ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/openai", "https://host/openai/v1"),
        ("https://host/api/v3", "https://host/api/v3"),
    ],
)
def test_an_address_with_or_without_its_version(given: str, url: str) -> None:
    assert api_url(given) == url


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("localhost:8000", "no http"),
        ("", "no http"),
        ("http://", "no http"),
        ("http://host:port", "no http"),
        ("ftp://host", "no http"),
        ("http://ann:secret@host/v1", "--api-key-env"),
        ("ann:secret@host", "--api-key-env"),
        ("http://host/v1?key=secret", r"before any \?"),
        ("[::1", "no http"),
        ("http://[::1", "no http"),
        ("http://host:99999", "no http"),
        ("http://host:80:80", "no http"),
        ("http://a..b", "no http"),
        ("http://" + "a" * 70, "no http"),
        ("http://ho st", "no http"),
        ("http://host/\x1b[31m", "no http"),
        ("http://\u202ehost", "no http"),
        ("http://host/" + "a" * 5000, "no http"),
    ],
)
def test_an_address_that_will_not_do(given: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        engine_at(given)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_server_that_is_down(free_port: int) -> None:
    with pytest.raises(UserError, match=r"cannot reach http://.* refused.*--base-url right"):
        engine_at(f"http://127.0.0.1:{free_port}", retries=5).id  # noqa: B018


def test_another_kind_of_server(tiny_model: Path) -> None:
    with ModelServer(tiny_model, html=True) as server:
        with pytest.raises(UserError, match=r"no OpenAI-compatible server at .*\(404\); check --base-url"):
            engine_at(server.url).id  # noqa: B018
        server.html, server.cards = False, "<html>"  # type: ignore[assignment]
        with pytest.raises(
            UserError, match=r"not as an OpenAI-compatible server does \(.*\); check --base-url"
        ):
            engine_at(server.url).id  # noqa: B018


def test_answers_that_are_none(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer(tiny_model) as server, engine_at(server.url) as engine:
        assert engine.truncate([Truncate(TEXT, 1)]) == [""]
        answers: list[Any] = [{"choices": []}, {}, [1], "words", b"<html>"]
        for answer in answers:
            monkeypatch.setattr(server, "complete", lambda _body, answer=answer: answer)
            with pytest.raises(UserError, match="not as an OpenAI-compatible server does"):
                texts_of(engine, [Generate("The keeper", 4)])


def test_a_server_that_is_gone_before_the_first_question(tiny_model: Path) -> None:
    with ModelServer(tiny_model) as server, engine_at(server.url) as engine:
        assert engine.id
        server.dead.set()
        with pytest.raises(UserError, match="went away"):
            engine.generate([Generate("The keeper", 4)])


@pytest.mark.parametrize("path", [MODELS, COMPLETIONS])
def test_a_server_that_hangs(tiny_model: Path, path: str) -> None:
    with (
        ModelServer(tiny_model, hangs=[path]) as server,
        engine_at(server.url, timeout=0.5) as engine,
        pytest.raises(UserError, match=r"within 0\.5 s|no answer in 0\.5 s.*engine\.timeout"),
    ):
        texts_of(engine, [Generate("The keeper", 4)])


def test_a_model_that_is_not_served(vllm: ModelServer) -> None:
    with pytest.raises(UserError, match=r"127.0.0.1.*no model 'tinny'; did you mean 'tiny'\? models: tiny"):
        engine_at(vllm.url, source={"model": "tinny"}).provenance  # noqa: B018


def test_a_server_on_this_machine_is_asked_without_a_proxy(
    tiny_model: Path, vllm: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(tiny_model) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.root)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with engine_at(vllm.url) as engine:
            assert len(texts_of(engine, [Generate("The keeper", 4)])) == 1
        assert not proxy.requests
        with (
            engine_at("http://a-host.example") as engine,
            pytest.raises(UserError, match="OpenAI-compatible"),
        ):
            engine.id  # noqa: B018
        assert proxy.requests


@pytest.mark.parametrize("proxy", ["nonsense://host:1", "http://[::1", "http://ann:secret@host:port"])
def test_a_proxy_that_will_not_do(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(UserError, match=r"proxy that cannot be used.*NO_PROXY") as caught:
        engine_at("http://a-host.example")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file or directory"), ("no PEM", "no certificate in it")]
)
def test_certificates_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, why: str
) -> None:
    path = tmp_path / "certificates.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(UserError) as caught:
        engine_at("http://a-host.example")
    assert str(caught.value) == (
        f"SSL_CERT_FILE or SSL_CERT_DIR names what cannot be read ({why}); mend or unset it"
    )


# ── the key ──────────────────────────────────────────────────────────────────────────────────────
def test_the_key_comes_from_the_named_variable_alone(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-for-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-for-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    with ModelServer(tiny_model, key=KEY) as server:
        with engine_at(server.url, source={"api_key_env": "MY_KEY"}) as engine:
            assert len(texts_of(engine, [Generate("The keeper", 4)])) == 1
            assert KEY not in json.dumps([engine.id, dict(engine.provenance)])
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        with pytest.raises(UserError, match=r"wants a key \(401.*--api-key-env"):
            engine_at(server.url).id  # noqa: B018
        assert server.headers[-1]["authorization"] == "Bearer none"
        assert "sk-for-openai" not in json.dumps(server.headers)


@pytest.mark.parametrize("value", [None, "", "  ", "two\nlines", "schlüssel"])
def test_a_key_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UserError, match=r"--api-key-env MY_KEY: .*export it") as caught:
        engine_at("http://127.0.0.1:1", source={"api_key_env": "MY_KEY"})
    assert not value or not value.strip() or value not in str(caught.value)


def test_a_wrong_key_is_not_shown_even_where_the_server_does(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with ModelServer(tiny_model, key="another") as server:
        source = {"api_key_env": "MY_KEY"}
        with pytest.raises(
            UserError, match=r"refuses the key in MY_KEY \(401: .*\*\*\*\); check it"
        ) as caught:
            engine_at(server.url, source=source).id  # noqa: B018
        assert KEY.upper() not in str(caught.value).upper()
        server.key = None
        server.failures = {MODELS: [500, 500]}
        with pytest.raises(UserError, match=r"fails \(500: not now, \*\*\*\)"):
            engine_at(server.url, source=source).id  # noqa: B018


# ── log-probabilities ────────────────────────────────────────────────────────────────────────────
KINDS: list[Kind] = ["vllm", "echo", "echo with a token"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_way_of_telling_log_probs_gives_the_same(
    tiny_model: Path, vllm: ModelServer, kind: Kind
) -> None:
    with engine_at(vllm.url) as engine:
        (expected,) = scores_of(engine, [Logprobs(TEXT)])
        written = texts_of(engine, [Generate(p, 12, stop=("e",)) for p in PROMPTS])
    source = {"tokenizer": str(tiny_model)}
    with ModelServer(tiny_model, kind=kind) as server, engine_at(server.url, source=source) as engine:
        (found,) = scores_of(engine, [Logprobs(TEXT)])
        assert texts_of(engine, [Generate(p, 12, stop=("e",)) for p in PROMPTS]) == written
    np.testing.assert_array_equal(found.logprobs, expected.logprobs)
    assert found.logprobs.dtype == np.float32


def test_without_prompt_log_probs_generation_still_goes(tiny_model: Path) -> None:
    source = {"tokenizer": str(tiny_model)}
    complaint = r"returns no prompt log-probs; PrivLeak needs them: .*--metrics without privleak"
    with ModelServer(tiny_model, kind="text") as server:
        with engine_at(server.url, source=source) as engine:
            assert "unpinned" in engine.id
            assert len(texts_of(engine, [Generate("The keeper", 4)])) == 1
            with pytest.raises(UserError, match=complaint):
                engine.logprobs([Logprobs(TEXT)])
        # Where they will be asked it is said before anything is.
        engine = engine_at(server.url, source=source, asks=[Logprobs(TEXT)])
        with engine, pytest.raises(UserError, match=complaint):
            engine.provenance  # noqa: B018


def test_log_probs_of_other_tokens_are_not_taken(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"tokenizer": str(tiny_model)}
    with ModelServer(tiny_model, kind="echo") as server, engine_at(server.url, source=source) as engine:
        right = server.model.logprobs
        # As from a server that puts a BOS of its own in front of ids.
        monkeypatch.setattr(server.model, "logprobs", lambda ids: right([1, *ids]))
        with pytest.raises(UserError, match="no prompt log-probs"):
            engine.logprobs([Logprobs(TEXT)])


@pytest.mark.parametrize(
    "entries",
    [
        [None, {"5": {"logprob": -1.0}}, {"7": {"logprob": -2.0}}],
        [None, {"5": {"logprob": -1.0}}],
        [None, {"5": {"logprob": -1.0}}, None],
        None,
    ],
)
def test_vllm_s_answer_must_be_about_our_ids(entries: Any) -> None:
    right = [None, {"5": {"logprob": -1.0}}, {"6": {"logprob": -2.0, "rank": 1}, "9": {"logprob": 0.0}}]
    for given, values in ((right, [-1.0, -2.0]), (entries, None)):
        choice = Choice.model_validate({"text": "", "prompt_logprobs": given})
        assert WAYS[0].read(choice, [1, 5, 6], 1) == values


@pytest.mark.parametrize(
    ("spoiled", "complaint"),
    [
        (None, "gave no log-probs for its {words} tokens"),
        ("x", r'token_logprobs\[{last}\] is "x", not a number'),
        (float("nan"), "NaN is no number"),
        (0.5, r"token_logprobs\[{last}\] is 0.5, which should be less than"),
    ],
)
def test_an_answer_without_its_log_probs_is_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, spoiled: Any, complaint: str
) -> None:
    source = {"tokenizer": str(tiny_model)}
    with ModelServer(tiny_model, kind="echo") as server, engine_at(server.url, source=source) as engine:
        right = server.model.logprobs
        words = len(right(server.model.tokenizer(TEXT).input_ids))

        def lossy(ids: list[int]) -> list[Any]:
            values = right(ids)
            return [*values[:-1], spoiled] if len(ids) == words else values

        monkeypatch.setattr(server.model, "logprobs", lossy)
        said = complaint.format(words=words, last=words - 1)
        with pytest.raises(UserError, match=rf"forget\[4\]: .*{said}"):
            scores_of(engine, [Logprobs(TEXT, name="forget[4]"), Logprobs("short")])


# ── what does not fit ────────────────────────────────────────────────────────────────────────────
LONG = "The keeper of the lighthouse wrote a letter. " * 200


@pytest.mark.parametrize("ask", [Generate(LONG, 8, name="qa[3]"), Logprobs(LONG, name="qa[3]")])
def test_too_long_for_the_server_is_said_before_anything_is_asked(vllm: ModelServer, ask: Any) -> None:
    with engine_at(vllm.url) as engine:
        question: Callable[[list[Any]], Any] = (
            engine.logprobs if isinstance(ask, Logprobs) else engine.generate
        )
        with pytest.raises(
            UserError, match=r"qa\[3\]: \d+ tokens.* limit of 1024.*--max-model-len.*--truncate"
        ):
            question([type(ask)("short", **({"max_tokens": 8} if isinstance(ask, Generate) else {})), ask])


def test_a_server_that_tells_no_limit_may_still_refuse(tiny_model: Path) -> None:
    source = {"tokenizer": str(tiny_model)}
    with ModelServer(tiny_model, kind="echo") as server, engine_at(server.url, source=source) as engine:
        with pytest.raises(
            UserError, match=r"qa\[3\]: .* refuses its \d+ tokens \(400: .*1024.*larger context"
        ):
            texts_of(engine, [Generate("short", 8), Generate(LONG, 8, name="qa[3]")])
        with pytest.raises(UserError, match=r"forget\[1\]: .* refuses its \d+ tokens \(400"):
            scores_of(engine, [Logprobs(LONG, name="forget[1]")])


def test_an_adapter_has_its_base_model_s_limit(tiny_model: Path) -> None:
    base: dict[str, Any] = {"id": "base", "root": str(tiny_model), "max_model_len": 40, "owned_by": "vllm"}
    cards = [base, {"id": "tiny", "root": "/not/here", "parent": "base", "owned_by": "vllm"}]
    with (
        ModelServer(tiny_model, cards=cards) as server,
        engine_at(server.url) as engine,
        pytest.raises(UserError, match="limit of 40"),
    ):
        engine.generate([Generate(TEXT, 38, name="qa[0]")])


# ── tokenizers ───────────────────────────────────────────────────────────────────────────────────
def variant(folder: Path, out: Path, change: Callable[[Any], object]) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    tokenizer.save_pretrained(out)
    return out


def test_no_tokenizer_at_all(tiny_model: Path) -> None:
    with (
        ModelServer(tiny_model, kind="echo") as server,
        engine_at(server.url) as engine,
        pytest.raises(UserError, match=r"no tokenizer.*give --tokenizer"),
    ):
        engine.id  # noqa: B018


SHOWN: dict[Kind, str] = {"vllm": "where this has", "echo": "it counts"}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_tokenizer_that_differs_from_the_server_s(tiny_model: Path, tmp_path: Path, kind: Kind) -> None:
    other = variant(tiny_model, tmp_path / "other", lambda t: t.add_tokens(["keeper's 7 ships"]))
    with (
        ModelServer(tiny_model, kind=kind) as server,
        engine_at(server.url, source={"tokenizer": str(other)}) as engine,
        pytest.raises(UserError, match=rf"does not agree .*{SHOWN[kind]}.*give the right --tokenizer"),
    ):
        engine.generate([Generate("The keeper", 4)])


def test_a_difference_that_only_the_task_s_own_text_shows(tiny_model: Path, tmp_path: Path) -> None:
    other = variant(tiny_model, tmp_path / "other", lambda t: t.add_tokens(["lighthouse"]))
    with ModelServer(tiny_model, tokenizer=other) as server:
        source = {"tokenizer": str(tiny_model)}
        with engine_at(server.url, source=source) as engine:
            assert engine.id
            with pytest.raises(UserError, match=r"in 'The keeper of the lighthouse"):
                engine.generate([Generate(TEXT, 4)])
            assert server.answered.total() == server.asked("/completions")


@pytest.mark.parametrize("kind", SHOWN)
def test_bos_alone_may_differ(
    tiny_model: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast, kind: Kind
) -> None:
    def no_bos(tokenizer: Any) -> None:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)

    without = variant(tiny_model, tmp_path / "without", no_bos)
    words = len(tiny_tokenizer(TEXT, add_special_tokens=False).input_ids)
    source = {"tokenizer": str(tiny_model)}
    with (
        ModelServer(tiny_model, kind=kind, tokenizer=without) as server,
        engine_at(server.url, source=source) as engine,
    ):
        assert len(scores_of(engine, [Logprobs(TEXT)])[0].logprobs) == words


def test_a_server_that_counts_nothing_is_believed(tiny_model: Path) -> None:
    source = {"tokenizer": str(tiny_model)}
    with (
        ModelServer(tiny_model, kind="echo", usage=False) as server,
        engine_at(server.url, source=source) as engine,
    ):
        assert len(texts_of(engine, [Generate("The keeper", 4)])) == 1


def test_a_probe_that_does_not_fit_compares_nothing(tiny_model: Path, tmp_path: Path) -> None:
    small = shutil.copytree(tiny_model, tmp_path / "small")
    config = small / "config.json"
    config.write_text(config.read_text().replace(": 1024", ": 16"))
    source = {"tokenizer": str(tiny_model)}
    with ModelServer(small, kind="echo") as server, engine_at(server.url, source=source) as engine:
        assert len(texts_of(engine, [Generate("The keeper", 4)])) == 1


def test_an_id_that_the_model_does_not_know(tiny_model: Path, tmp_path: Path) -> None:
    larger = variant(tiny_model, tmp_path / "larger", lambda t: t.add_tokens(["lighthouse"]))
    with (
        ModelServer(tiny_model, tokenizer=larger) as server,
        engine_at(server.url, source={"tokenizer": str(larger)}) as engine,
        pytest.raises(UserError, match=r"qa\[2\]: .*out of vocabulary.*--tokenizer"),
    ):
        texts_of(engine, [Generate(TEXT, 4, name="qa[2]")])


# ── trying again ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("failures", [[429, 429], [500, 503, 502]])
@pytest.mark.parametrize("path", [MODELS, COMPLETIONS])
def test_what_passes_is_tried_again(
    tiny_model: Path, vllm: ModelServer, path: str, failures: list[int]
) -> None:
    asks = [Generate(prompt, 6) for prompt in PROMPTS]
    with engine_at(vllm.url) as engine:
        expected = texts_of(engine, asks)
    with (
        ModelServer(tiny_model, failures={path: failures}) as server,
        engine_at(server.url, retries=3) as engine,
    ):
        assert texts_of(engine, asks) == expected
        assert server.asked("/completions") + server.asked("/models") == len(asks) + 1 + len(failures)


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (429, r"too busy \(429: .*engine\.concurrency"),
        (500, r"fails \(500: .*see its log"),
        (410, "no longer"),
    ],
)
def test_what_does_not_pass_is_one_line(tiny_model: Path, status: int, complaint: str) -> None:
    failures = {COMPLETIONS: [status] * 9}
    with ModelServer(tiny_model, failures=failures) as server, engine_at(server.url, retries=2) as engine:
        with pytest.raises(UserError, match=f"{complaint}.*same command"):
            texts_of(engine, [Generate("The keeper", 4)])
        assert server.asked("/completions") == (1 if status == 410 else 3)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_server_that_dies_leaves_what_it_answered(tiny_model: Path, threads: int) -> None:
    with ModelServer(tiny_model, dies_after=4) as server:
        with engine_at(server.url, concurrency=threads) as engine:
            kept, failure = drained(engine.generate([Generate(prompt, 6) for prompt in PROMPTS]))
        assert len(kept) == server.answered.total() == 4
    assert re.search("went away .*what it answered is kept: start it again", str(failure))


# ── threads ──────────────────────────────────────────────────────────────────────────────────────
def test_threads_begin_in_order_and_nothing_after_a_failure() -> None:
    begun: list[int] = []

    def work(index: int) -> int:
        begun.append(index)
        if index == 7:
            raise ValueError("seven")
        return -index

    found, failure = drained(in_threads(work, [3, 9, 7, 1, 2], 1))
    assert (begun, found, str(failure)) == ([3, 9, 7], [(3, -3), (9, -9)], "seven")
    assert list(in_threads(work, [], 4)) == []


def test_threads_stop_where_nobody_listens() -> None:
    begun: list[int] = []
    go = Event()

    def work(index: int) -> None:
        begun.append(index)
        if index:
            go.wait()

    others = set(enumerate_threads())
    batches = in_threads(work, range(9), 1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    go.set()
    for thread in set(enumerate_threads()) - others:
        thread.join()
    assert begun in ([0], [0, 1])


# ── identity ─────────────────────────────────────────────────────────────────────────────────────
def test_another_model_under_the_same_name_is_another(
    tiny_model: Path, tmp_path: Path, free_port: int
) -> None:
    other = other_model(tiny_model, tmp_path / "other")

    def known(folder: Path, revision: str | None = None, kind: Kind = "vllm") -> tuple[str, Any]:
        source = {"revision": revision, "tokenizer": str(tiny_model)}
        with (
            ModelServer(folder, kind=kind, port=free_port) as server,
            engine_at(server.url, source=source) as engine,
        ):
            return engine.id, engine.provenance

    first, told = known(tiny_model)
    assert known(tiny_model)[0] == first
    assert known(other)[0] != first
    assert known(tiny_model, kind="text")[0] != known(other, kind="text")[0]
    assert told["weights"].startswith(f"unpinned tiny http://127.0.0.1:{free_port}/v1 ")
    assert (told["pinned"], told["revision"]) == (False, None)
    # A pin is a promise: it is taken at its word, wherever the server is.
    assert known(tiny_model, "r1")[0] == known(other, "r1")[0] != known(tiny_model, "r2")[0]


def test_provenance_says_what_was_asked_where(vllm: ModelServer) -> None:
    with engine_at(vllm.root + "/", source={"revision": "r1"}) as engine:
        found = dict(engine.provenance)
    assert len(found.pop("tokenizer")) == 64
    assert found == {
        "engine": "server",
        "model": "tiny",
        "path": None,
        "revision": "r1",
        "weights": "pinned tiny@r1",
        "dtype": "server",
        "device": vllm.url,
        "pinned": True,
    }


def test_a_served_folder_without_a_tokenizer_takes_the_given_one(tiny_model: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(tiny_model, tmp_path / "bare")
    with ModelServer(tiny_model, cards=[{"id": "tiny", "root": str(bare), "owned_by": "vllm"}]) as server:
        with engine_at(server.url) as engine:
            assert engine.id
        for path in bare.glob("tokenizer*"):
            path.unlink()
        with engine_at(server.url) as engine, pytest.raises(UserError, match="--tokenizer"):
            engine.id  # noqa: B018
        with engine_at(server.url, source={"tokenizer": str(tiny_model)}) as engine:
            assert engine.id


def test_a_context_that_may_cut_is_part_of_the_identity(tiny_model: Path) -> None:
    ids: dict[tuple[int, bool], str] = {}
    for limit in (200, 400):
        cards = [{"id": "tiny", "owned_by": "vllm", "max_model_len": limit}]
        source = {"revision": "r1", "tokenizer": str(tiny_model)}
        with ModelServer(tiny_model, cards=cards) as running:
            for truncate in (False, True):
                asks = [Logprobs("the keeper", truncate=truncate)]
                with engine_at(running.url, asks=asks, source=source) as engine:
                    ids[limit, truncate] = engine.id
    assert ids[200, False] == ids[400, False]
    assert len({ids[200, False], ids[200, True], ids[400, True]}) == 3


# ── draws and ranks ──────────────────────────────────────────────────────────────────────────────
def drawn(prompt: str, sample: int = 0, temperature: float = 1.0) -> Generate:
    return Generate(prompt, 6, temperature=temperature, top_p=0.9, seed=5, sample=sample, name="a[0]")


def test_a_draw_is_its_seed_s_whatever_else_is_asked(vllm: ModelServer) -> None:
    asks = [*(drawn(one, sample) for one in PROMPTS[:2] for sample in range(2)), Generate(PROMPTS[0], 6)]
    source = {"revision": "r1"}
    with engine_at(vllm.url, source=source, asks=asks, concurrency=4) as engine:
        together = texts_of(engine, asks)
        assert texts_of(engine, asks[::-1]) == together[::-1]
    with engine_at(vllm.url, source=source) as engine:
        assert [texts_of(engine, [ask])[0] for ask in asks] == together
    assert len({one.text for one in together}) == len(asks)
    sent = [json.loads(body) for body in vllm.answered if '"temperature": 1.0' in body]
    assert {(one["top_p"], one["top_k"], one["min_p"], one["repetition_penalty"]) for one in sent} == {
        (0.9, 0, 0.0, 1.0)
    }


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"seeds": "fixed"}, "draws the same whatever the seed"),
        ({"seeds": "ignored"}, "draws otherwise each time"),
        ({"kind": "echo"}, "is not vLLM"),
    ],
)
def test_a_server_that_heeds_no_seed_is_refused_before_any_answer(
    tiny_model: Path, given: dict[str, Any], complaint: str
) -> None:
    source = {"tokenizer": str(tiny_model)}
    with ModelServer(tiny_model, **given) as server:
        with engine_at(server.url, source=source, asks=[drawn(TEXT)]) as engine:
            with pytest.raises(UserError, match=complaint):
                _ = engine.id
            with pytest.raises(UserError, match=complaint):
                engine.generate([Generate(TEXT, 2), drawn(TEXT)])
            assert len(texts_of(engine, [Generate(TEXT, 2)])) == 1
        assert server.draws in (0, 4)


def test_a_temperature_that_vllm_would_raise_is_refused(vllm: ModelServer) -> None:
    with engine_at(vllm.url) as engine, pytest.raises(UserError, match=r"a\[0\]: temperature is 0\.005"):
        engine.generate([drawn(TEXT, temperature=0.005)])


def test_a_server_without_ranks_is_refused_where_they_are_asked_for(tiny_model: Path) -> None:
    ranked = Logprobs(TEXT, ranks=True)
    with ModelServer(tiny_model, ranks=False) as server, engine_at(server.url, asks=[ranked]) as engine:
        with pytest.raises(UserError, match=r"tells no ranks.*vllm serve"):
            _ = engine.id
        with pytest.raises(UserError, match="tells no ranks"):
            engine.logprobs([Logprobs(TEXT), ranked])
        assert scores_of(engine, [Logprobs(TEXT)])[0].ranks is None


def test_ranks_that_one_answer_lacks_are_named(tiny_model: Path) -> None:
    with ModelServer(tiny_model) as server, engine_at(server.url) as engine:
        batches = engine.logprobs([Logprobs(TEXT, ranks=True, name="b[2]")])
        server.ranks = False
        with pytest.raises(UserError, match=r"b\[2\]: .* gave no ranks"):
            list(batches)
