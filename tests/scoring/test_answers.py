"""The store: nothing asked twice, whatever is killed, damaged, full or run at the same time."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.config import canonical_json, fingerprint
from muse_eval.errors import UserError
from muse_eval.metrics import privleak, verbmem
from muse_eval.results import runs
from muse_eval.scoring.answers import Answers, EngineAnswers, Store, request_key
from muse_eval.scoring.cache import cache_clear, cache_info
from muse_eval.types import (
    Answer,
    Context,
    Generate,
    Generation,
    Logprobs,
    Reference,
    Request,
    Result,
    TokenLogprobs,
    Truncate,
)
from tests.support.forked import forked
from tests.support.scripted import CrashError, ScriptedEngine, rate, write

ASKS: list[Request] = [
    *(Generate(f"who wrote letter {i}", 40) for i in range(5)),
    *(Truncate(f"one two three {i}", 3) for i in range(3)),
    *(Logprobs(f"the harbour answered {i}", moments=i % 2 == 0) for i in range(5)),
]


OLD_KEYS = (
    "ce0cb5e2b85bd8becd85340e0f16903cbbc6cae6d4e5fc8971dc3f3d5266042f",
    "549a02926ca93c1ee4d0635e4cb803264acdfddf76711387e649fc61fe6d6940",
)


def same(one: Sequence[Answer], other: Sequence[Answer]) -> bool:
    def plain(answer: Answer) -> Any:
        if isinstance(answer, TokenLogprobs):
            arrays = (answer.logprobs, answer.mean, answer.std, answer.ranks)
            return [None if a is None else (a.dtype.str, a.tobytes()) for a in arrays] + [answer.truncated]
        return answer

    return [plain(answer) for answer in one] == [plain(answer) for answer in other]


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Store:
    return Store(tmp_path / "cache", warnings.append)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*/*.jsonl"))


# ── what is asked ────────────────────────────────────────────────────────────────────────────────
def test_answers_come_in_the_order_of_the_requests(store: Store) -> None:
    engine = ScriptedEngine()
    answers = store.ask(engine, ASKS)
    assert [type(a) for a in answers.values] == [Generation] * 5 + [str] * 3 + [TokenLogprobs] * 5
    assert answers.values[1] == Generation("1 letter wrote who")
    assert answers.values[6] == "one two"
    assert answers.asked == len(ASKS) == len(engine.asked)
    assert answers.seconds > 0


def test_nothing_is_asked_twice(store: Store, tmp_path: Path, warnings: list[str]) -> None:
    first = store.ask(ScriptedEngine(), ASKS)
    for again in (store, Store(tmp_path / "cache", warnings.append)):
        engine = ScriptedEngine()
        second = again.ask(engine, list(reversed(ASKS)))
        assert engine.asked == []
        assert second.asked == 0
        assert same(second.values, list(reversed(first.values)))
        # The time is that of the answers, whoever asked for them.
        assert second.seconds == pytest.approx(first.seconds)
        assert again.ask(engine, ASKS).seconds == first.seconds
    assert warnings == []


def test_equal_requests_are_asked_once(store: Store) -> None:
    engine = ScriptedEngine()
    asks = [
        Generate("who", 4, name="a"),
        Generate("what", 4),
        Generate("who", 4, name="b"),
        Generate("who", 4),
    ]
    answers = store.ask(engine, asks)
    assert len(engine.asked) == answers.asked == 2
    assert [a.text for a in answers.values if isinstance(a, Generation)] == ["who", "what", "who", "who"]


def test_only_what_is_missing_is_asked(store: Store) -> None:
    store.ask(ScriptedEngine(), ASKS[:7])
    engine = ScriptedEngine()
    assert store.ask(engine, ASKS).asked == len(ASKS) - 7
    assert sorted(map(request_key, engine.asked)) == sorted(map(request_key, ASKS[7:]))


def test_nothing_to_ask(store: Store, tmp_path: Path) -> None:
    assert store.ask(ScriptedEngine(), []) == Answers([], 0, 0)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Generate("a", 4), Generate("b", 4)),
        (Generate("a", 4), Generate("a", 5)),
        (Generate("a", 4), Generate("a", 4, stop=("x",))),
        (Generate("a", 4, stop=("x", "y")), Generate("a", 4, stop=("xy",))),
        (Generate("a", 4), Generate("a", 4, truncate=True)),
        (Logprobs("a"), Logprobs("a", moments=True)),
        (Logprobs("a"), Logprobs("a", truncate=True)),
        (Logprobs("a"), Logprobs("a", ranks=True)),
        (Logprobs("a", moments=True), Logprobs("a", ranks=True)),
        (Generate("a", 4), Generate("a", 4, temperature=1.0)),
        (Generate("a", 4, temperature=0.5), Generate("a", 4, temperature=1.0)),
        (Generate("a", 4, temperature=1.0), Generate("a", 4, temperature=1.0, top_p=0.9)),
        (Generate("a", 4, temperature=1.0), Generate("a", 4, temperature=1.0, seed=1)),
        (Generate("a", 4, temperature=1.0, seed=1), Generate("a", 4, temperature=1.0, sample=1)),
        (Logprobs("a"), Logprobs("a ")),
        (Truncate("a", 4), Truncate("a", 5)),
        (Truncate("a", 4), Generate("a", 4)),
    ],
)
def test_another_question_has_another_key(one: Request, other: Request) -> None:
    assert request_key(one) != request_key(other)


def test_the_name_of_an_example_is_no_part_of_the_question() -> None:
    assert request_key(Generate("a", 4, name="x")) == request_key(Generate("a", 4, name="y"))


def test_requests_without_draws_and_ranks_have_the_keys_of_version_0_1() -> None:
    """Written down from a cache of then: what lies on disk under them is found."""
    assert request_key(Generate("a", 4, ("x",), temperature=0.0, top_p=1.0)) == OLD_KEYS[0]
    assert request_key(Logprobs("a", moments=True, ranks=False)) == OLD_KEYS[1]


def test_another_engine_is_asked_for_itself(store: Store) -> None:
    store.ask(ScriptedEngine("one"), ASKS)
    engine = ScriptedEngine("two")
    assert store.ask(engine, ASKS).asked == len(ASKS)
    assert len(engine.asked) == len(ASKS)


def test_progress_counts_every_batch_and_what_was_there(store: Store) -> None:
    store.ask(ScriptedEngine(), ASKS[:2])
    seen: list[tuple[int, int]] = []
    store.ask(ScriptedEngine(batch=2), ASKS, lambda done, total: seen.append((done, total)))
    # 2 of 13 were there; then 3 cuts at once, 3 prompts and 5 texts in twos.
    assert seen == [(2, 13), (5, 13), (7, 13), (8, 13), (10, 13), (12, 13), (13, 13)]
    # Nothing is asked, so there is nothing to wait for.
    store.ask(ScriptedEngine(), ASKS, lambda done, total: seen.append((done, total)))
    assert len(seen) == 7


def test_what_would_be_asked_is_counted_without_asking(store: Store) -> None:
    engine = ScriptedEngine()
    groups = {"some": [*ASKS[:5], *ASKS[:5]], "rest": ASKS[5:]}
    assert store.missing(engine, groups) == {"some": (5, 5), "rest": (len(ASKS) - 5, len(ASKS) - 5)}
    store.ask(ScriptedEngine(), ASKS[:2])
    assert store.missing(engine, groups) == {"some": (3, 5), "rest": (len(ASKS) - 5, len(ASKS) - 5)}
    assert engine.asked == []


def test_without_a_cache_nothing_is_kept(tmp_path: Path, warnings: list[str]) -> None:
    store = Store(None, warnings.append)
    expected = Store(tmp_path / "cache", warnings.append).ask(ScriptedEngine(), ASKS)
    before = files(tmp_path)
    for _ in range(2):
        engine = ScriptedEngine()
        assert same(store.ask(engine, ASKS).values, expected.values)
        assert len(engine.asked) == len(ASKS)
    assert files(tmp_path) == before


arrays = st.lists(st.floats(-100, 0, width=32) | st.just(float("-inf")) | st.just(float("nan")), max_size=6)


@given(st.text(st.characters(exclude_categories=["Cs"])), arrays, st.booleans(), st.integers(0, 2**31 - 1))
def test_every_answer_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, text: str, values: list[float], truncated: bool, rank: int
) -> None:
    root = tmp_path_factory.mktemp("roundtrip")
    array = np.array(values, np.float32)
    whole = TokenLogprobs(array, array, array, truncated, np.full(len(values), rank, np.int32))
    given_answers: list[Answer] = [Generation(text, truncated), whole, replace(whole, mean=None, std=None)]
    engine = ScriptedEngine(
        write=lambda _: Generation(text, truncated),
        rate=lambda ask: whole if ask.moments else replace(whole, mean=None, std=None),
    )
    asks: list[Request] = [
        Generate(text, 3),
        Logprobs(text, moments=True, ranks=True),
        Logprobs(text, ranks=True),
    ]
    assert same(Store(root, print).ask(engine, asks).values, given_answers)
    again = Store(root, print).ask(ScriptedEngine(crash_after=0), asks)
    assert again.asked == 0
    assert same(again.values, given_answers)


# ── breaking off ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("batches", range(6))
def test_a_crash_keeps_every_finished_batch(store: Store, batches: int) -> None:
    expected = Store(None, print).ask(ScriptedEngine(), ASKS)
    broken = ScriptedEngine(crash_after=batches)
    with pytest.raises(CrashError):
        store.ask(broken, ASKS)
    # The 3 cuts, then 5 prompts and 5 texts, each in batches of 2, 2 and 1.
    finished = 3 + [0, 2, 4, 5, 7, 9][batches]
    assert len(broken.asked) == finished
    engine = ScriptedEngine()
    answers = store.ask(engine, ASKS)
    assert answers.asked == len(engine.asked) == len(ASKS) - finished
    assert same(answers.values, expected.values)


def slowly(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Work worth some milliseconds, as an engine's is, so that kills find it between and within batches."""

    def work(ask: Any) -> Any:
        hashlib.pbkdf2_hmac("sha256", b"work", b"", 4_000)
        return answer(ask)

    return work


def score(root: Path) -> None:
    """Score two columns with a scripted engine, and tell how far it is."""
    store = Store(root / "cache", lambda line: print("warning:", line, flush=True))
    words = ["the", "keeper", "of", "the", "lighthouse", "wrote", "a", "letter", "every", "evening"]
    texts = [" ".join(words[i % 7 :] + words[: i % 5] + [str(i)]) for i in range(24)]
    splits = {
        "forget": [{"text": t, "prompt": t, "gt": t[::-1]} for t in texts[:12]],
        "holdout": [{"text": t} for t in texts[12:]],
    }
    columns, seconds = {}, 0.0
    for name, module in (("verbmem_f", verbmem), ("privleak", privleak)):
        metric, params = module.METRIC, module.Params()
        engine = ScriptedEngine(write=slowly(write), rate=slowly(rate))

        def tick(done: int, total: int, name: str = name) -> None:
            print(f"{name} {done}/{total}", flush=True)

        answers = store.ask(engine, metric.requests(splits, params), tick)
        seconds += answers.seconds
        reference = Reference("published", "paper", {"Min-40%": 0.4})
        columns[name] = metric.score(splits, answers.values, params, Context(0, 200, reference))
    model = {"id": "scripted", "revision": None, "digest": ""}
    runs.save(Result("t", "scripted", model, columns, {}, {}, {}, seconds), root / "runs/t/scripted")
    print("saved", flush=True)


def finish(root: Path) -> list[str]:
    with forked(score, root) as (process, printed):
        out = printed.read()
    assert process.exitcode == 0
    return out.splitlines()


def outputs(root: Path) -> tuple[bytes, bytes]:
    folder = root / "runs/t/scripted"
    return (folder / runs.RESULT).read_bytes(), (folder / runs.RECORDS).read_bytes()


def without_seconds(result: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result)
    assert found.pop("seconds") > 0
    return found


def killed(root: Path, lines: int) -> list[str]:
    """Start the command and kill it with -9 soon after it has printed some lines."""
    with forked(score, root) as (process, printed):
        seen = [line for line, _ in zip(printed, range(lines), strict=False)]
        process.kill()
        seen += list(printed)
    assert process.exitcode == -signal.SIGKILL
    return seen


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    root = tmp_path_factory.mktemp("uninterrupted")
    # In this process, whose hashes have another seed than those of the others.
    score(root)
    return outputs(root)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_it_finishes_with_the_same_bytes(
    tmp_path: Path, uninterrupted: tuple[bytes, bytes], seed: int
) -> None:
    moments = random.Random(seed)
    # 18 batches in all; three kills, each some batches after the one before, the first maybe before any.
    # A line more than batches: the first says what was there already.
    seen = [killed(tmp_path, moments.randint(0 if first else 2, 5)) for first in (True, False, False)]
    assert not any("saved" in line or "warning" in line for lines in seen for line in lines)
    counts = [
        int(lines[-1].split()[1].split("/")[0]) + 100 * ("privleak" in lines[-1]) for lines in seen if lines
    ]
    assert all(before < after for before, after in pairwise(counts))
    assert not (tmp_path / "runs").exists()
    last = finish(tmp_path)
    assert last[-1] == "saved"
    first = outputs(tmp_path)
    assert finish(tmp_path) == ["saved"]
    assert outputs(tmp_path) == first
    assert first[1] == uninterrupted[1]
    assert without_seconds(first[0]) == without_seconds(uninterrupted[0])


@pytest.mark.slow
def test_two_processes_at_once_do_not_harm_each_other(
    tmp_path: Path, uninterrupted: tuple[bytes, bytes]
) -> None:
    with forked(score, tmp_path) as (one, first), forked(score, tmp_path) as (other, second):
        printed = [told.read().splitlines() for told in (first, second)]
    assert [process.exitcode for process in (one, other)] == [0, 0]
    assert all(lines[-1] == "saved" for lines in printed)
    assert not any("warning" in line for lines in printed for line in lines)
    found = outputs(tmp_path)
    assert found[1] == uninterrupted[1]
    assert without_seconds(found[0]) == without_seconds(uninterrupted[0])
    assert finish(tmp_path) == ["saved"]


# ── damage ───────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Path:
    """One cache file of seven lines: the cuts, three batches of prompts, three of texts."""
    store.ask(ScriptedEngine(), ASKS)
    (path,) = files(tmp_path)
    assert len(path.read_bytes().splitlines()) == 7
    return path


def asked_again(tmp_path: Path, warnings: list[str]) -> int:
    engine = ScriptedEngine()
    answers = Store(tmp_path / "cache", warnings.append).ask(engine, ASKS)
    assert same(answers.values, Store(None, print).ask(ScriptedEngine(), ASKS).values)
    assert answers.asked == len(engine.asked)
    return answers.asked


def damaged(path: Path, line: int) -> str:
    cure = f"to be rid of it: sed -i '{line}d' {path}"
    return f"cache file {path}, line {line}, is damaged; its answers are asked again; {cure}"


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_costs_one_line(filled: Path, tmp_path: Path, warnings: list[str], seed: int) -> None:
    data = bytearray(filled.read_bytes())
    at = random.Random(seed).choice([i for i, byte in enumerate(data) if byte != 0x0A])
    line = data[:at].count(b"\n") + 1
    data[at] ^= 0x40 if data[at] ^ 0x40 != 0x0A else 0x20
    filled.write_bytes(data)
    assert asked_again(tmp_path, warnings) == [3, 2, 2, 1, 2, 2, 1][line - 1]
    assert warnings == [damaged(filled, line)]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_a_torn_tail_costs_one_line(filled: Path, tmp_path: Path, warnings: list[str], keep: float) -> None:
    lines = filled.read_bytes().splitlines(keepends=True)
    filled.write_bytes(b"".join(lines[:4]) + lines[4][: int(keep * len(lines[4]))])
    assert asked_again(tmp_path, warnings) == 5
    assert warnings == [damaged(filled, 5)]
    # What was asked again is in a file of its own; the torn one is left, and told of, as it is.
    warnings.clear()
    assert asked_again(tmp_path, warnings) == 0
    assert len(warnings) == 1


@pytest.mark.parametrize("garbage", [b"\x00\xff\xfe not a cache\n\x80\x81\n", b"[1, 2]\n", b"deadbeef {}\n"])
def test_a_garbage_file_costs_nothing(
    filled: Path, tmp_path: Path, warnings: list[str], garbage: bytes
) -> None:
    other = filled.with_name("0.jsonl")
    other.write_bytes(garbage)
    assert asked_again(tmp_path, warnings) == 0
    assert len(warnings) == 1
    assert warnings[0].startswith(f"cache file {other}, line")
    assert "damaged" in warnings[0]


@pytest.mark.slow
def test_the_command_that_is_named_is_the_cure(filled: Path, tmp_path: Path, warnings: list[str]) -> None:
    lines = filled.read_bytes().splitlines(keepends=True)
    filled.write_bytes(b"".join([b"x", *lines[:2], b"y", *lines[2:]]))
    asked_again(tmp_path, warnings)
    assert len(warnings) == 1
    assert "lines 1 and 3, are damaged; their answers" in warnings[0]
    subprocess.run(shlex.split(warnings[0].rpartition(": ")[2]), check=True)
    assert filled.read_bytes() == b"".join([lines[1], *lines[3:]])
    warnings.clear()
    assert asked_again(tmp_path, warnings) == 0
    assert warnings == []
    filled.write_bytes(b"garbage\n" * 1000)
    asked_again(tmp_path, warnings)
    assert "lines 1, 2, 3, 4, 5 and 995 more, are damaged" in warnings[-1]
    assert warnings[-1].endswith(f"to be rid of them: rm {filled}")


def signed(value: Any) -> bytes:
    body = json.dumps(value).encode()
    return f"{zlib.crc32(body):08x} ".encode() + body + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        signed({"engine": "another engine", "seconds": 1.0, "answers": {"k": {"cut": "x"}}}),
        signed({"engine": "scripted 1", "seconds": 1.0}),
        signed({"engine": "scripted 1", "seconds": 1.0, "answers": {"k": {"logprobs": "no base64"}}}),
        signed({"engine": "scripted 1", "seconds": 1.0, "answers": {"k": 3}}),
        signed(["a", "list"]),
    ],
)
def test_a_sound_line_with_wrong_content_is_damage_too(
    filled: Path, tmp_path: Path, warnings: list[str], line: bytes
) -> None:
    filled.with_name("0.jsonl").write_bytes(line)
    assert asked_again(tmp_path, warnings) == 0
    assert len(warnings) == 1
    assert "line 1, is damaged" in warnings[0]


def test_a_file_that_cannot_be_read_is_named(filled: Path, tmp_path: Path, warnings: list[str]) -> None:
    filled.with_name("0.jsonl").mkdir()
    assert asked_again(tmp_path, warnings) == 0
    assert "0.jsonl cannot be read" in warnings[0]


def test_damage_in_one_engine_s_folder_is_no_other_s(filled: Path, store: Store, warnings: list[str]) -> None:
    filled.write_bytes(b"garbage\n")
    assert store.ask(ScriptedEngine("two"), ASKS).asked == len(ASKS)
    assert warnings == []


# ── no room ──────────────────────────────────────────────────────────────────────────────────────
FULL = """
import resource, sys
from pathlib import Path
from muse_eval.errors import UserError
from muse_eval.scoring.answers import Store
from muse_eval.types import Logprobs
from tests.support.scripted import ScriptedEngine
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
asks = [Logprobs(f"{i} " * 40) for i in range(12)]
try:
    Store(Path(sys.argv[1]), print).ask(ScriptedEngine(), asks)
except UserError as error:
    sys.exit(f"UserError: {error}")
"""


@pytest.mark.slow
def test_a_full_disk_is_a_user_error_and_can_be_resumed(tmp_path: Path, warnings: list[str]) -> None:
    home = Path(__file__).parents[2]
    command = [sys.executable, "-c", FULL, str(tmp_path / "cache"), "1500"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"UserError: cannot write to the cache {tmp_path}")
    assert "free some space" in done.stderr
    assert done.stderr.count("\n") == 1
    engine = ScriptedEngine()
    asks = [Logprobs(f"{i} " * 40) for i in range(12)]
    asked = Store(tmp_path / "cache", warnings.append).ask(engine, asks).asked
    # Some lines were whole; the one that did not fit is torn, and told of.
    assert 0 < asked < 12
    assert len(warnings) == 1
    assert "is damaged" in warnings[0]


def test_a_cache_that_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to the cache .* give another --results"):
        Store(tmp_path / "file" / "cache", print).ask(ScriptedEngine(), ASKS)


# ── looking and clearing ─────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("texts", "asked"), [(("", "!!!!"), 2), (("", "!!!!", "a word"), 0)])
def test_answers_of_nan_logits_are_asked_again(
    texts: Sequence[str], asked: int, tmp_path: Path, warnings: list[str]
) -> None:
    """Version 0.1 stored them like any other: the first token for ever, or nothing."""
    asks = {text: Generate(f"prompt of {text!r}", 3) for text in texts}
    engine = ScriptedEngine(write=lambda ask: Generation(next(t for t, one in asks.items() if one == ask)))
    store = Store(tmp_path / "cache", warnings.append)
    folder = tmp_path / "cache" / fingerprint(engine.id)[:16]
    folder.mkdir(parents=True)
    answers = {request_key(ask): {"text": text, "truncated": False} for text, ask in asks.items()}
    body = canonical_json({"engine": engine.id, "seconds": 1.0, "answers": answers})
    (folder / "old.jsonl").write_text(f"{zlib.crc32(body.encode()):08x} {body}\n")
    assert store.ask(engine, list(asks.values())).asked == asked
    assert store.ask(engine, list(asks.values())).asked == 0
    assert warnings == []


def test_cache_info_lists_each_engine(store: Store, tmp_path: Path, warnings: list[str]) -> None:
    store.ask(ScriptedEngine("one"), ASKS)
    store.ask(ScriptedEngine("two"), ASKS[:4])
    entries = cache_info(tmp_path / "cache", warnings.append)
    assert {entry.engine: entry.answers for entry in entries} == {"one": len(ASKS), "two": 4}
    assert sum(entry.num_bytes for entry in entries) == sum(path.stat().st_size for path in files(tmp_path))
    assert all(entry.folder.is_dir() for entry in entries)
    assert warnings == []


def test_cache_info_names_a_folder_without_a_sound_line(filled: Path, warnings: list[str]) -> None:
    filled.write_bytes(b"garbage\n\n[1]\n")
    (entry,) = cache_info(filled.parents[1], warnings.append)
    assert (entry.engine, entry.answers) == ("unknown", 0)
    assert cache_info(filled.parents[1] / "nowhere", warnings.append) == []


def test_cache_clear_frees_what_it_says(filled: Path) -> None:
    root, size = filled.parents[1], filled.stat().st_size
    assert cache_clear(root) == size
    assert not root.exists()
    assert cache_clear(root) == 0


def test_a_cache_that_is_a_link_is_cleared_where_it_lies(filled: Path, tmp_path: Path) -> None:
    root, link = filled.parents[1], tmp_path / "link"
    link.symlink_to(root)
    assert cache_clear(link) > 0
    assert link.is_symlink()
    assert list(root.iterdir()) == []


@pytest.fixture
def locked(filled: Path) -> Iterator[Path]:
    filled.parent.chmod(0o500)
    yield filled
    filled.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete anything")
def test_a_cache_that_cannot_be_deleted_is_a_user_error(locked: Path) -> None:
    with pytest.raises(UserError, match="cannot delete"):
        cache_clear(locked.parents[1])


def test_an_empty_shelf_has_no_folder(tmp_path: Path) -> None:
    with EngineAnswers(tmp_path / "cache", "one", print) as kept:
        assert kept.answers == {}
    assert not (tmp_path / "cache").exists()
