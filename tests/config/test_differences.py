import pytest

from muse_eval.config.differences import MOST, WIDTH, differences, joined
from muse_eval.printable import one_line, printable


def test_each_value_that_differs_is_named_by_its_path_with_both_values() -> None:
    then = {"seed": 0, "columns": {"privleak": {"k": 0.4, "retain": False}}, "lr": 1e-5, "same": [1, 2]}
    now = {"seed": 1, "columns": {"privleak": {"k": 0.2, "retain": True}}, "lr": 2e-5, "same": (1, 2)}
    assert differences(then, now) == [
        "seed 0, now 1",
        "columns.privleak.k 0.4, now 0.2",
        "columns.privleak.retain false, now true",
        "lr 1e-5, now 2e-5",
    ]
    assert differences(then, then) == []


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        ({"a": 1}, {}, "a 1, now absent"),
        ({}, {"a": None}, "a absent, now none"),
        ({"a": 1}, {"a": True}, "a 1, now true"),
        ({"a": 0}, {"a": False}, "a 0, now false"),
        ({"a": None}, {"a": {"r": 16, "to": ["q", "v"]}}, "a none, now {r 16, to [q, v]}"),
        ({"a": "ab" * 32}, {"a": "sha256:" + "0f" * 32}, "a abababab, now 0f0f0f0f"),
        ({"a": ""}, {"a": 1e-12}, "a '', now 1e-12"),
        ({"a": 1e20}, {"a": 0.5}, "a 1e+20, now 0.5"),
    ],
)
def test_values_are_short_and_never_taken_for_one_another(then: dict, now: dict, told: str) -> None:  # type: ignore[type-arg]
    assert differences(then, now) == [told]


def test_a_long_value_is_cut_and_many_differences_are_counted() -> None:
    (told,) = differences({"a": "x" * 500}, {"a": "y"})
    assert told == "a " + "x" * (WIDTH - 1) + "…, now y"
    many = differences({}, {str(number): number for number in range(MOST + 3)})
    assert joined(many).endswith("; and 3 more")
    assert joined(many[:MOST]) == "; ".join(many[:MOST])


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable("a\x1b[2Jb\x9b\r\nc\td\u00a0e\u202ef\ud800") == ("a\\x1b[2Jb\\x9b\nc d e\\u202ef\\ud800")
    # Joined emoji and Persian keep what joins them.
    assert printable("👩\u200d🚀 می\u200cخواهم") == "👩\u200d🚀 می\u200cخواهم"
    assert one_line(" a\n\x07 b ") == "a \\x07 b"
    (told,) = differences({"a\x1b": "x\x1by"}, {"a\x1b": "z"})
    assert "\x1b" not in told
