"""Which tests are slow and in what order tests run; and what tells that a test started a process."""

import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest

SLOW_ROOMS = ("tests/e2e/", "tests/hostile/", "tests/vllm/")
SLOW_FIXTURES = {"tests/unlearning/": "target", "tests/mini/": "made"}
"""In which room the use of which fixture means that a test trains."""
SLOW_MARKS = ("mini", "launch", "vllm", "ray", "gpu", "browser")
MARKED_IN = {
    "ray": ("tests/e2e/test_sweep.py",),
    "shared": ("tests/benchmarks/", "tests/e2e/", "tests/vllm/"),
    "vllm": ("tests/contract/", "tests/vllm/"),
}
"""Where alone tests have which mark: a run of these tests imports nothing else."""
ASKED_FOR = {"vllm or ray": ("vllm", "ray"), "shared and not vllm": ("shared",)}
"""By selection (``-m``), one of which marks a test needs to be in it."""
LONG_MARKS = ("mini", "shared", "launch")
LONG_FILES = (
    "tests/vllm/test_bad_input.py",
    "tests/vllm/test_served.py",
    "tests/vllm/test_parity.py",
    "tests/e2e/test_sweep.py",
)
"""Of the tests of vLLM and Ray, of which one process takes all of a file, the longest first."""
STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec")

_started: list[str] = []


def mark_slow(items: Sequence[pytest.Item]) -> None:
    """Mark whole runs, what trains, what has a slow marker, and of cases alike (``few``) all but so many.

    Other tests say ``slow`` themselves.
    """
    cases = Counter(map(_test, items))
    earlier = Counter[str]()
    for item in items:
        whole_run = item.nodeid.startswith(SLOW_ROOMS)
        trains = any(
            item.nodeid.startswith(room) and name in getattr(item, "fixturenames", ())
            for room, name in SLOW_FIXTURES.items()
        )
        if whole_run or trains or _has(item, SLOW_MARKS) or not _is_of_few(item, earlier, cases):
            item.add_marker(pytest.mark.slow)
        earlier[_test(item)] += 1


def is_left_out(path: str, selection: str) -> bool:
    """Tell whether no test under a path within the project can be among those that ``-m`` selects."""
    if selection == "not slow":
        return f"{path}/".startswith(SLOW_ROOMS)
    places = [place for mark in ASKED_FOR.get(selection, ()) for place in MARKED_IN[mark]]
    return bool(places) and not any(
        f"{path}/".startswith(place) or place.startswith(path) for place in places
    )


def is_elsewhere(item: pytest.Item) -> bool:
    """Tell whether a test has a mark that ``MARKED_IN`` does not expect where it is."""
    return any(
        item.get_closest_marker(mark) and not item.nodeid.startswith(places)
        for mark, places in MARKED_IN.items()
    )


def longest_first(items: list[pytest.Item]) -> None:
    """Put the minute-long tests and files first, so that no process begins one when the others are done."""
    items.sort(key=lambda item: (_file_rank(item), not _has(item, LONG_MARKS)))


def _test(item: pytest.Item) -> str:
    """Return the name of a test, which all of its cases have."""
    return item.nodeid.partition("[")[0]


def _is_of_few(item: pytest.Item, earlier: Counter[str], cases: Counter[str]) -> bool:
    """Tell whether a case is the first of one of as many equal parts as ``few`` asks for, if it does."""
    few = item.get_closest_marker("few")
    if few is None:
        return True
    at, many, parts = earlier[_test(item)], cases[_test(item)], few.args[0]
    return bool(at * parts % many < parts)


def _file_rank(item: pytest.Item) -> int:
    file = item.nodeid.partition("::")[0]
    # By room: a mark that the room's own conftest.py sets comes later.
    served = file.startswith("tests/vllm/") or item.get_closest_marker("ray")
    return LONG_FILES.index(file) if served and file in LONG_FILES else len(LONG_FILES)


def _has(item: pytest.Item, marks: Sequence[str]) -> bool:
    return any(item.get_closest_marker(mark) for mark in marks)


@cache
def watch_processes() -> None:
    """Begin to note every process that this one starts, once: an audit hook stays until the end."""
    sys.addaudithook(lambda event, _: _started.append(event) if event in STARTS else None)


def started_processes() -> list[str]:
    """Return by which calls processes were started since the last question."""
    found = _started.copy()
    _started.clear()
    return found
