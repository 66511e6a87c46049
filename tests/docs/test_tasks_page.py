"""docs/tasks.md lists every key that a task's YAML has, and no other, with its type and default."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from muse_eval import plugins
from muse_eval.config.keys import typed
from muse_eval.config.task import (
    ColumnSpec,
    DataSpec,
    FinetuneSpec,
    ForgetSetsSpec,
    HubRef,
    MethodSpec,
    SplitFingerprint,
    TaskSpec,
    UnlearnSpec,
    parse_task,
)

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SECTIONS: dict[str, type[BaseModel]] = {
    "The task": TaskSpec,
    "`data`": DataSpec,
    "`columns.NAME`": ColumnSpec,
    "`models.target`, `models.retrain`, and each of `tokenizers`": HubRef,
    "`unlearn`": UnlearnSpec,
    "`unlearn.methods.NAME`": MethodSpec,
    "`finetune`": FinetuneSpec,
    "`folds`": ForgetSetsSpec,
    "`fingerprints.SPLIT`": SplitFingerprint,
}
"""Heading on the page to the model of the section."""
Described = dict[str, tuple[str, str]]
"""Key to type and default, as the page has them."""


def described(heading: str) -> Described:
    (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return {
        key: (kind, default)
        for key, kind, default in re.findall(r"^\| `(\S+)` \| (.+?) \| (.+?) \|", text, re.M)
    }


def nested(annotation: Any) -> set[type[BaseModel]]:
    """Return the models that a field holds, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        below = (nested(field.annotation) for field in annotation.model_fields.values())
        return {annotation}.union(*below)
    return set().union(*map(nested, get_args(annotation)))


def names(annotation: Any, several: bool = False) -> str:
    """Return what the page calls a type: ``text``, ``list of sections``, ``mapping of numbers``."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    origin = get_origin(annotation)
    if origin is Literal:
        *head, last = (f"`{value}`" for value in kinds)
        return f"{', '.join(head)} or {last}"
    if origin is dict:
        many = "mappings" if several else "mapping"
        return many if kinds[-1] is Any else f"{many} of {names(kinds[-1], True)}"
    if origin is list:
        return f"list of {names(kinds[0], True)}"
    if annotation not in (str, int, float, Path) and not isinstance(annotation, type):
        return names(kinds[0], several)
    plain = {str: "text", int: "whole number", float: "number", Path: "path"}.get(annotation, "section")
    return f"{plain}s" if several else plain


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    return "none" if value is None else f"`{value!r}`".replace("'", '"')


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_on_the_page_and_every_key_on_the_page_is_one(heading: str) -> None:
    known = typed(SECTIONS[heading].model_fields)
    page = described(heading)
    assert list(page) == list(known)
    for key, field in known.items():
        assert page[key][0] == names(field.annotation), key
        wanted, said = default(field), page[key][1]
        if wanted.startswith("`"):
            assert yaml.safe_load(said.strip("`")) == field.get_default(call_default_factory=True), key
        else:
            assert said == wanted, key


@pytest.mark.parametrize("name", ["verbmem", "knowmem", "privleak"])
def test_every_parameter_of_a_metric_is_on_the_page(name: str) -> None:
    said = re.findall(rf"^\| `(\w+)` \| `{name}` \| `(\S+)` \|", PAGE, re.MULTILINE)
    assert {key: yaml.safe_load(value) for key, value in said} == asdict(plugins.metric(name).params())


def test_every_section_is_on_the_page() -> None:
    assert nested(TaskSpec) == set(SECTIONS.values())
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE)[1:] == list(SECTIONS)


def test_the_examples_are_tasks() -> None:
    small, full = (parse_task(text, "the page") for text in EXAMPLES)
    assert (small.unlearn, small.finetune) == (UnlearnSpec(), FinetuneSpec())
    # But for its base, the fuller one says all that can be said at the top.
    assert TaskSpec.model_fields.keys() - full.model_fields_set == {"base"}
    for task in (small, full):
        for name, spec in task.columns.items():
            plugins.column(name, spec, spec.params)
        for method, params in task.unlearn.methods.items():
            known = {field.name for field in fields(plugins.method(method)[1].params)}
            assert params.params.keys() <= known
