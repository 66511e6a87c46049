"""Any text is read as Python and the YAML library read it, or refused in one line."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from muse_eval.reading import Unreadable, parse_json, parse_jsonl, parse_yaml
from tests.hostile.reading import or_one_line

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(1 - 10**99, 10**99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
few = settings(max_examples=50, deadline=None, suppress_health_check=[*HealthCheck])
many = settings(few, max_examples=200)


@few
@given(PLAIN, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_holds_is_read_back(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse_json(text, "it") == value
    assert parse_json(text.encode(), "it") == value


@few
@given(st.lists(PLAIN, max_size=5))
def test_lines_are_read_back(values: list[Any]) -> None:
    text = "".join(json.dumps(value) + "\n\n" for value in values)
    assert list(parse_jsonl(text, "it")) == [(2 * n + 1, value) for n, value in enumerate(values)]


@few
@given(PLAIN)
def test_what_yaml_holds_is_read_back(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text, "it") == yaml.safe_load(text)


MARKS = """{ } [ ] , : " "a" a 1 - ? &a *a << ' | > # % 1e9 NaN .nan true null ~ @ é = 0x1 1:30 2024-13-45
!! !!int !!float !!bool !!null !!set !!omap --- ...""".split()  # noqa: SIM905 - as a list it is a page long
SPACES = ["\n", " ", "  ", ": ", "\t", "\\", "\\u0061"]
PIECES = st.lists(st.sampled_from([*MARKS, *SPACES]), max_size=30).map("".join)


@many
@given(PIECES | st.text(max_size=40) | st.binary(max_size=40))
def test_any_text_is_json_as_python_reads_it_or_one_line(text: str | bytes) -> None:
    found = or_one_line(parse_json, text)
    assert isinstance(found, Unreadable) or found == json.loads(text)


@many
@given(PIECES | st.text(max_size=40))
@example("!!int\n-")
@example("? !!seq ~")
def test_any_text_is_yaml_as_the_library_reads_it_or_one_line(text: str) -> None:
    found = or_one_line(parse_yaml, text)
    # Dates stay text here, and so does an equals sign.
    if not isinstance(found, Unreadable) and "2024" not in text and "=" not in text:
        assert found == yaml.safe_load(text)


@few
@given(st.dictionaries(st.text(max_size=8), PLAIN, min_size=1), st.data(), st.integers(0, 5))
def test_a_repeated_key_is_named_with_its_line(value: dict[str, Any], data: Any, within: int) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    inner = json.dumps(value, indent=1)[:-2] + f",\n{json.dumps(key)}: 0}}"
    text = '[{"x": ' * within + inner + "}]" * within
    line = inner.count("\n") + 1
    with pytest.raises(Unreadable, match=f"^it:{line}: not valid JSON: the key .* is given twice$"):
        parse_json(text, "it")


def test_aliases_within_bounds_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]"
    assert parse_yaml(text, "it") == yaml.safe_load(text)
