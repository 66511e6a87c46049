"""Strict specs, loose values and settings checked in one line, and the one JSON text of a value."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from muse_eval.config.run import RunConfig
from muse_eval.config.settings import parse_settings
from muse_eval.config.spec import build, canonical_json, fingerprint, parse_params
from muse_eval.config.task import HubRef, TaskSpec, parse_task
from muse_eval.errors import UserError
from muse_eval.reading import read_text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
TASK = """
name: village
title: Village
source: made up
data: {source: hub, repo: nobody/village, revision: abc}
columns:
  verbmem_f: {title: VerbMem Df, metric: verbmem, goal: lower, splits: {forget: verbmem/forget}}
models:
  target: {repo: nobody/target}
retrain_auc: {Min-40%: 0.5}
unlearn: {lambda: 0.5, methods: {simnpo: {beta: 0.7}}}
fingerprints:
  verbmem/forget: {rows: 3}
"""


@dataclass(frozen=True)
class Params:
    k: Annotated[float, Field(gt=0, le=1)] = 0.4
    shots: Annotated[int, Field(ge=0)] = 10
    lower: bool = False
    names: tuple[str, ...] = field(default=())


# ── canonical JSON ───────────────────────────────────────────────────────────────────────────────
@given(PLAIN)
def test_canonical_json_reads_back_equal(value: Any) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@pytest.mark.slow
@given(st.dictionaries(st.text(), PLAIN))
def test_the_order_of_keys_changes_nothing(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)
    assert fingerprint(turned) == fingerprint(value)


def test_canonical_json_is_short_sorted_and_utf8() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "Gräfin"}) == '{"a":"Gräfin","b":[1,2.5,null]}'
    assert fingerprint({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_what_json_does_not_know_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


# ── parameters ───────────────────────────────────────────────────────────────────────────────────
def test_parameters_keep_their_defaults_and_take_values() -> None:
    assert parse_params(Params, {}, "here") == Params()
    assert parse_params(Params, {"k": 1, "lower": True, "names": ["a"]}, "here") == Params(
        k=1.0, lower=True, names=("a",)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shot": 1}, "here: no parameter 'shot'; did you mean 'shots'? parameters: k, lower, names, shots"),
        ({"k": 0}, "here: k: input should be greater than 0 (got 0)"),
        ({"k": 1.5}, "here: k: input should be less than or equal to 1 (got 1.5)"),
        ({"shots": -1}, "here: shots: input should be greater than or equal to 0 (got -1)"),
        ({"k": "half"}, "here: k: input should be a valid number"),
        ({"shots": 1.5}, "here: shots: input should be a valid integer"),
        ({"k": None}, "here: k: input should be a valid number"),
        ({"names": ["a", 1]}, "here: names.1: input should be a valid string (got 1)"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_params(Params, values, "here")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# ── settings ─────────────────────────────────────────────────────────────────────────────────────
def test_settings_are_read_as_yaml() -> None:
    pairs = ["privleak.k=0.2", "engine.device=cuda:1", "a.b=true", "a.c=[1, 2]", "a.d=", "a.e=x=y", "a.f={"]
    assert parse_settings(pairs) == {
        "privleak.k": 0.2,
        "engine.device": "cuda:1",
        "a.b": True,
        "a.c": [1, 2],
        "a.d": None,
        "a.e": "x=y",
        "a.f": "{",
    }
    assert parse_settings([]) == {}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["privleak.k"], "--set privleak.k: write it as"),
        (["k=1"], "--set k=1: write it as"),
        (["=1"], "--set =1: write it as"),
        ([""], "--set : write it as"),
        (["a.b=1", "a.b=2"], "--set a.b is given twice"),
    ],
)
def test_a_wrong_setting_is_named(pairs: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_settings(pairs)
    assert str(caught.value).startswith(message)


def test_the_hint_names_the_settings_that_there_are() -> None:
    with pytest.raises(
        UserError, match=r"write it as engine\.NAME=VALUE, COLUMN\.PARAMETER=VALUE or METRIC\."
    ):
        parse_settings(["seed=3"])


@given(st.integers() | st.booleans() | st.from_regex(r"[a-z]{5,9}", fullmatch=True))
def test_a_setting_s_value_comes_back(value: object) -> None:
    assert parse_settings([f"a.b={json.dumps(value)}"]) == {"a.b": value}


# ── specs ────────────────────────────────────────────────────────────────────────────────────────
def test_a_task_is_parsed_and_dumped_and_parsed_again() -> None:
    task = parse_task(TASK, "village.yaml")
    assert task.models["target"] == HubRef(repo="nobody/target")
    assert task.unlearn.lambda_ == 0.5
    assert task.fingerprints["verbmem/forget"].num_bytes is None
    assert TaskSpec.model_validate(task.model_dump(mode="json", by_alias=True)) == task


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Village", "titel: Village", "t.yaml: no key 'titel'; did you mean 'title'?"),
        ("title: Village", "", "t.yaml: title: field required"),
        ("source: made up", "source: made up\nsauce: x", "t.yaml: no key 'sauce'; did you mean 'source'?"),
        ("goal: lower", "gaol: lower", "t.yaml: columns.verbmem_f: no key 'gaol'; did you mean 'goal'?"),
        ("goal: lower, ", "", "t.yaml: columns.verbmem_f.goal: field required"),
        ("repo: nobody/village", "rep: x", "t.yaml: data: no key 'rep'; did you mean 'repo'?"),
        (
            "repo: nobody/target",
            "revison: x",
            "t.yaml: models.target: no key 'revison'; did you mean 'revision'?",
        ),
        ("lambda: 0.5", "lamda: 0.5", "t.yaml: unlearn: no key 'lamda'; did you mean 'lambda'?"),
        ("rows: 3", "row: 3", "t.yaml: fingerprints.verbmem/forget: no key 'row'; did you mean 'rows'?"),
        (
            "retrain_auc:",
            "finetune: {epoch: 3}\nretrain_auc:",
            "t.yaml: finetune: no key 'epoch'; did you mean 'epochs'?",
        ),
        (
            "retrain_auc:",
            "folds: {mod: nested}\nretrain_auc:",
            "t.yaml: folds: no key 'mod'; did you mean 'mode'?",
        ),
        (
            "retrain_auc:",
            "tokenizers: [{repo: a/b}, {repo: a/c, revison: d}]\nretrain_auc:",
            "t.yaml: tokenizers.1: no key 'revison'; did you mean 'revision'?",
        ),
        ("repo: nobody/target", "repo: [1]", "t.yaml: models.target.repo: input should be a valid string"),
        ("target:", "teacher:", "t.yaml: models.teacher"),
        ("lambda: 0.5", "lambda: -1", "t.yaml: unlearn.lambda: input should be greater than or equal to 0"),
        ("rows: 3", "rows: 0", "t.yaml: fingerprints.verbmem/forget.rows: input should be greater than 0"),
        ("name: village", "name: [village", "t.yaml:3: not valid YAML"),
    ],
)
def test_a_wrong_task_is_one_line(old: str, new: str, message: str) -> None:
    assert TASK.count(old) == 1
    with pytest.raises(UserError) as caught:
        parse_task(TASK.replace(old, new), "t.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "just words"])
def test_a_task_must_be_a_mapping(text: str) -> None:
    with pytest.raises(UserError, match=r"^t\.yaml: a task must be a mapping"):
        parse_task(text, "t.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modell": "m"}, "run: no key 'modell'; did you mean 'model'?"),
        ({}, "run: model: field required"),
        ({"model": "m", "metric": ()}, "run: no key 'metric'; did you mean 'metrics'?"),
        ({"model": "m", "limit": 0}, "run: limit: input should be greater than 0 (got 0)"),
        ({"model": "m", "seed": -1}, "run: seed: input should be greater than or equal to 0 (got -1)"),
        ({"model": "m", "seed": 2**32}, "run: seed: input should be less than 4294967296"),
        ({"model": "m", "dtype": "float8"}, "run: dtype: input should be 'auto', 'float32'"),
        ({"model": "m", "name": ""}, "run: name: string should have at least 1 character"),
    ],
)
def test_a_wrong_option_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(RunConfig, "run", **values)
    assert str(caught.value).startswith(message)


@given(
    st.builds(
        RunConfig,
        model=st.text(min_size=1),
        metrics=st.lists(st.text()).map(tuple),
        limit=st.none() | st.integers(1, 10**9),
        seed=st.integers(0, 2**32 - 1),
        dtype=st.sampled_from(["auto", "float32", "bfloat16", "float16"]),
        settings=st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()),
    )
)
def test_a_config_reads_back_equal_and_is_frozen(config: RunConfig) -> None:
    assert RunConfig.model_validate(json.loads(canonical_json(config.model_dump(mode="json")))) == config
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1


# ── files ────────────────────────────────────────────────────────────────────────────────────────
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("Gräfin", encoding="utf-8")
    (tmp_path / "latin").write_bytes("Gräfin".encode("latin-1"))
    assert read_text(tmp_path / "good", "file") == "Gräfin"
    for name, message in (("none", "does not exist"), ("latin", "cannot be read"), (".", "cannot be read")):
        with pytest.raises(UserError, match=message) as caught:
            read_text(tmp_path / name, "task file")
        assert str(caught.value).startswith(f"task file {tmp_path / name}")
