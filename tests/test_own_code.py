"""The digest of own code: blind to where it stands and how it is told, not to what it computes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import same_code
from muse_eval import own_code
from muse_eval.own_code import CODE, code_digest, code_files, definitions

PACKAGE = Path(own_code.__file__).parent
ONE = '''"""A module."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from muse_eval.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LIMIT", "area"]
LIMIT: int = 3
"""How many."""


class Shape:
    """A shape."""

    radius: float = 1.0


def area(shape: Shape, scale: float = 2.0, notes: "Mapping[str, Path] | None" = None) -> float:
    """Return its area."""
    if shape.radius > LIMIT:
        raise UserError(f"{shape.radius:.1f} is more than {LIMIT}")
    return math.pi * shape.radius**2 * scale  # scaled
'''
TWO = "from muse_eval.one import area\n\n\ndef twice(shape):\n    return 2 * area(shape)\n"


def lines(folder: Path, **modules: str) -> list[str]:
    """Write modules, alone, into a folder and return their definitions."""
    for path in folder.glob("*.py"):
        path.unlink()
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return definitions(folder, "*.py")


@pytest.fixture
def before(tmp_path: Path) -> list[str]:
    return lines(tmp_path, one=ONE, two=TWO)


def test_what_is_there_is_read(before: list[str]) -> None:
    assert len(before) == 4
    assert any("name='twice'" in line for line in before)


def test_a_definition_may_move_to_another_file(tmp_path: Path, before: list[str]) -> None:
    start = ONE.index("def area")
    moved = f"import math\n{TWO}\n\n{ONE[start:]}"
    assert lines(tmp_path, one=ONE[:start].replace("import math\n", ""), two=moved) == before


def test_a_module_may_get_another_name(tmp_path: Path, before: list[str]) -> None:
    assert lines(tmp_path, first=ONE, two=TWO.replace("muse_eval.one", "muse_eval.first")) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # scaled", ""),
        ('    """Return its area."""\n', ""),
        ('"""How many."""\n', ""),
        ('"""A module."""\n', '"""Another."""\n'),
        ("from muse_eval.errors import UserError", "from muse_eval.faults import UserError"),
        ('"LIMIT", "area"', '"area"'),
        ("LIMIT: int", "LIMIT"),
        (" -> float", ""),
        ("scale: float", "scale: int"),
        ("    from pathlib import Path\n", "    from os import PathLike as Path\n"),
        ("import math\n", "import math as m\n"),
        ("def area(", "def area(\n    "),
    ],
)
def test_what_changes_no_number_changes_no_digest(
    old: str, new: str, tmp_path: Path, before: list[str]
) -> None:
    assert old in ONE
    changed = ONE.replace(old, new)
    if "as m" in new:
        changed = changed.replace("math.pi", "m.pi")
    assert lines(tmp_path, one=changed, two=TWO) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT: int = 3", "LIMIT: int = 4"),
        ("scale: float = 2.0", "scale: float = 2.5"),
        ("radius: float = 1.0", "radius: float = 1.5"),
        ("radius: float", "radius: int"),
        ("    radius: float = 1.0\n", "    radius = 1.0\n"),
        (":.1f}", ":.2f}"),
        ("is more than", "is above"),
        ("import math\n", "import cmath as math\n"),
        ("radius**2", "radius*2"),
        ("if shape.radius > LIMIT", "while shape.radius > LIMIT"),
    ],
)
def test_what_can_change_a_number_changes_the_digest(
    old: str, new: str, tmp_path: Path, before: list[str]
) -> None:
    assert old in ONE
    assert lines(tmp_path, one=ONE.replace(old, new), two=TWO) != before


def test_a_definition_that_comes_or_goes_changes_the_digest(tmp_path: Path, before: list[str]) -> None:
    assert lines(tmp_path, one=ONE) != before
    assert lines(tmp_path, one=ONE, two=TWO, three="LIMIT = 3\n") != before


def test_an_f_string_is_told_by_what_it_joins(tmp_path: Path) -> None:
    whole = lines(tmp_path, one="a = f'x{b}yz{c!r:>{d}}'\n")
    assert lines(tmp_path, one="a = f'x{b}' 'y' f'z{c!r:>{d}}'\n") == whole
    assert lines(tmp_path, one="a = f'x{b}yz{c:>{d}}'\n") != whole


def test_a_definition_reads_the_same_under_every_python(tmp_path: Path) -> None:
    """What ``ast.dump`` writes depends on the version, and machines of several share a cache."""
    text = "import numpy as np\n\n\ndef f(a, *, b=-1.5):\n    return [np.exp(a), f'{{é}}{a:{b}}', None]\n"
    assert lines(tmp_path, one=text) == [
        "FunctionDef(name='f', args=arguments(args=[arg(arg='a')], kwonlyargs=[arg(arg='b')], "
        "kw_defaults=[UnaryOp(op=USub(), operand=Constant(value=1.5))]), body=[Return(value=List(elts=["
        "Call(func=Attribute(value=numpy, attr='exp'), args=[a]), "
        "f('{\\xe9}', FormattedValue(value=a, conversion=-1, format_spec=f(FormattedValue(value=b, "
        "conversion=-1)))), Constant()]))])"
    ]


def test_files_are_taken_away_by_a_mark(tmp_path: Path) -> None:
    lines(tmp_path, one=ONE, two=TWO)
    assert code_files(tmp_path, "*.py", "!two.py") == {tmp_path / "one.py"}


# ── what is stored ───────────────────────────────────────────────────────────────────────────────
def test_every_pattern_finds_a_file() -> None:
    for patterns in CODE.values():
        for pattern in patterns:
            assert list(PACKAGE.glob(pattern.removeprefix("!"))), pattern


def test_every_entry_holds() -> None:
    table = own_code.same_code()
    assert not same_code.void(table), same_code.__doc__
    for name, entry in table.items():
        assert entry["files"] == own_code.bytes_digest(name), "run python -m benchmarks.same_code"


def test_bytes_that_are_known_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parsed(what: str) -> str:
        raise AssertionError(what)

    monkeypatch.setattr(own_code, "definitions_digest", parsed)
    fresh = code_digest.__wrapped__
    assert fresh("engines") == own_code.same_code()["engines"]["stored"]
    with pytest.raises(AssertionError, match="utility"):
        fresh("utility")


@pytest.mark.few(2)
@pytest.mark.parametrize("what", own_code.same_code())
def test_the_same_computation_keeps_its_digest_and_another_does_not(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = own_code.same_code()[what]
    assert code_digest(what) == entry["stored"]
    copy = tmp_path / "muse_eval"
    for path in (*code_files(PACKAGE, *CODE.get(what, (what,))), PACKAGE / own_code.SAME):
        target = copy / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    monkeypatch.setattr(own_code, "__file__", str(copy / "own_code.py"))
    fresh = code_digest.__wrapped__
    assert fresh(what) == entry["stored"]
    changed = next(path for path in sorted(copy.rglob("*.py")) if "def " in path.read_text())
    text = changed.read_text(encoding="utf-8")
    changed.write_text(f"{text}# a comment\n", encoding="utf-8")
    assert fresh(what) == entry["stored"]
    changed.write_text(f"{text}\nMORE = 1\n", encoding="utf-8")
    assert fresh(what) not in (entry["stored"], entry["now"])


def test_what_no_entry_names_has_its_own_digest() -> None:
    assert code_digest("unlearning/methods/ga.py") == own_code.definitions_digest("unlearning/methods/ga.py")


@pytest.mark.slow
def test_entries_are_renewed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    void = {"engines": {"now": "0", "stored": "1"}, "scoring": {"now": "0", "stored": "2"}}
    path = tmp_path / own_code.SAME
    monkeypatch.setattr(same_code, "PATH", path)
    monkeypatch.setattr(own_code, "same_code", lambda: void)
    assert same_code.main(["engine"]) == 2
    assert same_code.main([]) == 1
    assert '"files"' not in path.read_text()
    assert same_code.main(["engines"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("scoring: ")
    assert same_code.main(["scoring"]) == 0
    assert own_code.definitions_digest("engines") in path.read_text()
    assert '"stored": "2"' in path.read_text()
    assert own_code.bytes_digest("scoring") in path.read_text()


# ── what a score depends on ──────────────────────────────────────────────────────────────────────
ELSEWHERE = {
    "config": "what was asked stands in a run's settings",
    "data": "the data's digests stand in a run's settings",
    "errors.py": "words alone",
    "folders": "what is written, and how",
    "mini": "a source of data",
    "own_code.py": "this digest",
    "plugins.py": "finds by name what is in a run's settings",
    "printable.py": "words alone",
    "provenance.py": "digests that stand in a run's settings",
    "reading": "what is sound is read as it stands, all else refused",
    "results": "what is read and written",
    "scoring/cache.py": "lists and clears what is stored",
    "scoring/identity.py": "compares settings",
    "scoring/kept.py": "what is kept of what was computed",
    "scoring/lm_model.py": "asks lm-eval, whose version stands in a run's settings",
    "scoring/lm_tasks.py": "digests of what lm-eval asks stand in a run's settings",
    "scoring/retrain.py": "the retrain model's digests stand in a run's settings",
    "scoring/utility.py": "lm-eval scores; what is asked of it stands in a run's settings",
    "scoring/writable.py": "refuses folders",
    "scoring/which_task.py": "the task stands in a run's settings",
    "statistics/__init__.py": "a sentence",
    "statistics/maxima.py": "a probe's, whose code is part of its runs' recipe",
    "statistics/attacks.py": "compares stored runs; no score is made of it",
    "statistics/paired.py": "compares stored runs; no score is made of it",
    "types": "re-exports, listeners and results; the nouns of methods are of unlearning",
    "unlearning": "read for how a model was made; the model's digests stand in a run's settings",
    "scoring/__init__.py": "a sentence",
    "scoring/model_free.py": "tells texts apart without a model, beside the scores; none is made of it",
}
"""What scoring imports and a run's digest leaves out, with the reason."""


def imported(path: Path) -> Iterator[Path]:
    """Yield the package's files that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        for name in names:
            head, *rest = name.split(".")
            place = PACKAGE.joinpath(*rest)
            if head == "muse_eval" and rest:
                yield from (one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file())


def test_whatever_scoring_imports_counts_or_is_left_out_for_a_reason() -> None:
    counted = code_files(PACKAGE, *CODE["scoring"])
    reached, left = set(), [PACKAGE / "scoring" / "run.py", *(PACKAGE / "metrics").glob("*.py")]
    while left:
        path = left.pop()
        if path not in reached:
            reached.add(path)
            left += imported(path)
    for path in reached - counted:
        name = path.relative_to(PACKAGE).as_posix()
        assert any(name == one or name.startswith(f"{one}/") for one in ELSEWHERE), name
