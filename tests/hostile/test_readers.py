"""Hostile text against every place that reads what others wrote: one line that names it, and no wait."""

import math
import os
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muse_eval import plugins
from muse_eval.config import fingerprint, parse_settings
from muse_eval.data.corpus.files import read_questions, read_texts
from muse_eval.data.sources import LocalFolder
from muse_eval.engines import described
from muse_eval.engines.composition import read_composition
from muse_eval.errors import UserError
from muse_eval.reading import MalformedYaml, Unreadable, parse_yaml
from muse_eval.results import load, load_all, load_published, load_records
from muse_eval.results.gate import load_baseline
from muse_eval.scoring.answers import EngineAnswers
from muse_eval.scoring.cache import cache_info
from muse_eval.scoring.which_task import task_of, unlearning
from muse_eval.sweeps.models import read_models
from muse_eval.tuning.grid import read_axes, require_feasible
from tests.hostile.reading import or_one_line

HANG = 20
"""Seconds after which a test is taken to wait for ever."""
DEEP = "[" * 100_000
LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
MERGED = "a0: &a0 {ha: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)
NOT_TEXT: dict[str, bytes] = {"latin": b"\xff\xfe", "cut character": b'"\xc3'}
BAD_JSON: dict[str, bytes] = {
    **NOT_TEXT,
    "empty": b"",
    "cut": b'{"a": [1, 2',
    "mark of byte order": b"\xef\xbb\xbf{}",
    "twice": b'{"model_type": "llama",\n "model_type": "gpt2"}',
    "twice, escaped": b'{"a": {"b": 1,\n "\\u0062": 2}}',
    "deep lists": DEEP.encode(),
    "deep mappings": b'{"a":' * 100_000,
    "deep and closed": b"[" * 500 + b"]" * 500,
    "digits": b'{"n": ' + b"9" * 5_000 + b"}",
    "digits for Python": b'{"n": ' + b"9" * 4_000 + b"}",
    "zero byte": b'{"a\x00": 1}',
    "a text": b'"text"',
    "a number": b"3",
    "null": b"null",
}
NO_NUMBERS: dict[str, bytes] = {"NaN": b'{"n": NaN}', "no float": b'{"n": 1e999}'}
BAD_YAML: dict[str, bytes] = {
    **NOT_TEXT,
    "empty": b"",
    "cut": b"name: [a",
    "twice": b"name: a\ntitle: b\nname: c",
    "twice, one a number": b"1: a\ntrue: b",
    "deep": DEEP.encode(),
    "deep mappings": b"{a: " * 100_000,
    "deep blocks": b"- " * 100_000,
    "digits": b"name: " + b"9" * 5_000,
    "hexadecimal digits": b"name: 0x" + b"f" * 5_000,
    "laughs": LAUGHS.encode(),
    "merged laughs": MERGED.encode(),
    "itself": b"&a [*a]",
    "infinite": b"name: .inf",
    "code": b"name: !!python/object/apply:os.system [ls]",
    "bytes": b"name: !!binary aGk=",
    "no number": b"name: !!int x",
    "zero byte": b"name: \x00",
    "a date": b"2024-13-45",
    "large": b"#" + b"x" * 2_000_000,
}

Read = Callable[[Path], object]


def task(path: Path) -> object:
    return plugins.task(str(path))


def records(path: Path) -> object:
    return list(load_records(path.parent))


def rows(path: Path) -> object:
    return LocalFolder(path.parents[1]).read("knowmem/forget_qa")


def card(path: Path) -> object:
    return task_of(str(path.parent))


def unlearned(path: Path) -> object:
    return unlearning(str(path.parent))


def composed(path: Path) -> object:
    return read_composition(path.parent, "model")


def generation(path: Path) -> None:
    described.check_generation(path.parent, {})


def tokenizer(path: Path) -> None:
    described.check_tokenizer(path.parent)


def config(path: Path) -> object:
    return described.read_config(path.parent)


def texts(path: Path) -> object:
    return read_texts(path, "--forget")


JSON_FILES: dict[str, Read] = {
    "result.json": load,
    "baseline.json": load_baseline,
    "knowmem/forget_qa.json": rows,
    "config.json": config,
    "generation_config.json": generation,
    "tokenizer_config.json": tokenizer,
    "special_tokens_map.json": tokenizer,
    "model.safetensors.index.json": described.shards,
    "composed.json": composed,
    "unlearn.json": unlearned,
    "finetune.json": card,
    "recipe.json": card,
    "texts.json": texts,
}
MAY_BE_INFINITE = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "unlearn.json",
    "finetune.json",
    "recipe.json",
)
"""Where Python may have written NaN or Infinity, which no number of ours is made of."""
JSON_LINES: dict[str, Read] = {"records.jsonl": records, "texts.jsonl": texts}
YAML_FILES: dict[str, Read] = {"task.yaml": task, "task.yml": task}
TEXT_FILES: dict[str, Read] = {
    "texts.txt": texts,
    "questions.csv": read_questions,
    "published.csv": load_published,
    "models.txt": lambda path: read_models([str(path)]),
}
FILES = {**JSON_FILES, **JSON_LINES, **YAML_FILES, **TEXT_FILES}
"""By the name of a file, relative to a folder, what reads it."""


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    """Turn a wait for ever into a failure."""

    def stop(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def refused(name: str, path: Path) -> str:
    """Read a file that must be refused, and return the one line that says so."""
    with pytest.raises(UserError) as caught:
        FILES[name](path)
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 1_000
    assert Path(name).stem in told
    return told


def put(folder: Path, name: str) -> Path:
    path = folder / "m" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# ── files ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", [*JSON_FILES])
def test_hostile_json_is_one_line(tmp_path: Path, name: str) -> None:
    for kind, content in (BAD_JSON if name in MAY_BE_INFINITE else BAD_JSON | NO_NUMBERS).items():
        path = put(tmp_path / kind, name)
        path.write_bytes(content)
        told = refused(name, path)
        if kind == "twice" and name not in ("baseline.json", "result.json"):  # whose keys are looked at first
            assert f"{path}:2: not valid JSON: the key 'model_type' is given twice" in told


def test_a_configuration_may_say_infinity_but_not_nan(tmp_path: Path) -> None:
    path = put(tmp_path, "config.json")
    path.write_text('{"time_step_limit": [0.0, Infinity]}')
    assert config(path) == {"time_step_limit": [0.0, math.inf]}
    path.write_text('{"a": {"limits": [0.0, NaN]}}')
    assert "a.limits.1 is NaN" in refused("config.json", path)


@pytest.mark.parametrize("name", [*JSON_LINES])
def test_a_hostile_line_is_named(tmp_path: Path, name: str) -> None:
    for kind, content in BAD_JSON.items():
        path = put(tmp_path / kind, name)
        # A text is a sound line, and an empty one none.
        line = b"{" if kind in ("empty", "a text") else content.replace(b"\n", b" ")
        path.write_bytes(b'{"text": "one"}\n' * 4 + line)
        told = refused(name, path)
        assert kind in NOT_TEXT or f"{name}:5" in told or "row 4" in told


@pytest.mark.parametrize("name", [*YAML_FILES])
def test_hostile_yaml_is_one_line(tmp_path: Path, name: str) -> None:
    for kind, content in BAD_YAML.items():
        path = put(tmp_path / kind, name)
        path.write_bytes(content)
        told = refused(name, path)
        if kind == "twice":
            assert told.endswith(f"{name}:3: not valid YAML: the key 'name' is given twice")


@pytest.mark.parametrize("name", [*TEXT_FILES])
def test_what_is_no_text_is_one_line(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name)
    for content in NOT_TEXT.values():
        path.write_bytes(content)
        assert "not UTF-8" in refused(name, path)


@pytest.mark.parametrize("name", [*FILES])
def test_what_is_no_file_is_said_at_once(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / "pipe", name)
    os.mkfifo(path)
    refused(name, path)
    path = put(tmp_path / "device", name)
    path.symlink_to("/dev/zero")
    refused(name, path)
    path = put(tmp_path / "link", name)
    path.symlink_to(path)
    refused(name, path)
    if name == "models.txt":
        return  # a folder is a model
    path = put(tmp_path / "folder", name)
    (path / "no text").mkdir(parents=True)
    refused(name, path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2**33)
    assert "8,589,934,592 bytes" in refused("config.json", path)


def test_a_hostile_result_is_left_out_with_one_line(tmp_path: Path) -> None:
    for kind, content in BAD_JSON.items():
        path = tmp_path / kind / "runs" / "t" / "n" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        told: list[str] = []
        assert load_all(tmp_path / kind, told.append) == []
        assert len(told) == 1
        assert "\n" not in told[0]


def test_a_hostile_cache_is_one_warning(tmp_path: Path) -> None:
    for kind, content in BAD_JSON.items():
        folder = tmp_path / kind / fingerprint("e")[:16]
        folder.mkdir(parents=True)
        (folder / "1.jsonl").write_bytes(content or b"x")
        (folder / "2.jsonl").write_bytes(b"%08x " % zlib.crc32(content) + content)
        told: list[str] = []
        assert EngineAnswers(tmp_path / kind, "e", told.append).answers == {}
        assert len(told) == 2
        assert cache_info(tmp_path / kind, told.append)[0].answers == 0


# ── what is typed ────────────────────────────────────────────────────────────────────────────────
def test_a_hostile_setting_is_its_text_or_one_line() -> None:
    for content in BAD_YAML.values():
        text = content.decode(errors="surrogateescape")
        found = or_one_line(lambda one, name: parse_settings([f"{name}.x={one}"]), text)
        read = or_one_line(parse_yaml, text)
        if isinstance(read, MalformedYaml):
            assert found == {"it.x": text}
        elif isinstance(read, Unreadable):
            assert str(found).startswith("--set it.x")
        else:
            assert found == {"it.x": read}


def test_a_hostile_grid_is_one_line() -> None:
    for content in BAD_YAML.values():
        with pytest.raises(UserError) as caught:
            read_axes([f"beta={content.decode(errors='replace')}"], plugins.task("muse_mini"), "simnpo")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1_000


def test_a_grid_that_nobody_finishes_is_told_before_it_is_made() -> None:
    values = ":".join(str(n / 1000) for n in range(1, 301))
    grid = [f"beta={values},gamma={values},lr={values}"]
    with pytest.raises(UserError, match=r"27,000,000 settings, and each is an unlearning; .* --trials"):
        require_feasible(grid)
    with pytest.raises(UserError, match="beta has 9,000,001 values"):
        read_axes([f"beta=1{':1' * 9_000_000}"], plugins.task("muse_mini"), "simnpo")
