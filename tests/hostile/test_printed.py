"""Foreign text on its way out: nothing of it commands a terminal, a spreadsheet or a Markdown page."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muse_eval.errors import UserError
from muse_eval.printable import Stream, console, guarded, harmless_json
from muse_eval.progress import Bars, Lines
from muse_eval.results import draw, load_published, write_files
from muse_eval.results.cells import csv_cell, csv_text, markdown_text, read_cell
from muse_eval.results.grid import Cell, Grid
from muse_eval.results.rows import rows
from muse_eval.results.runs import load_all, save
from muse_eval.results.tables import to_csv, to_markdown
from muse_eval.types import Record, Result, Score
from tests.e2e import COLUMNS, write_data, write_task
from tests.hostile.terminal import OBEYED, obeyed, typed

BAD = f"a{OBEYED}z"
ALL = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A)]))
RUN = f"run{BAD.replace('/', '')}"


def _edited(path: Path, **changes: Any) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**stored, **changes}), encoding="utf-8")


def _publish(path: Path, method: str) -> Path:
    header = "task,method,base_model,verbmem_f,knowmem_f,privleak,knowmem_r,source,locator,note"
    text = io.StringIO()
    csv.writer(text).writerow(["muse_news", method, method, "1", "-3.5", "", "2", method, method, method])
    path.write_text(f"{header}\n{text.getvalue()}", encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which every text that someone else may have written holds what terminals obey."""
    here = tmp_path_factory.mktemp("printed")
    spoiled = {name: {**column, "title": BAD} for name, column in COLUMNS.items()}
    write_task(here / "village.yaml", title=BAD, source=BAD, columns=spoiled)
    write_data(here / "data")
    (here / "data/verbmem/forget.json").write_text(
        json.dumps([{"prompt": BAD, "gt": BAD, "more": BAD}]), encoding="utf-8"
    )
    records = tuple(
        Record("verbmem/forget", at, {"rougeL": 0.5}, {"prompt": BAD, "response": BAD, "gt": BAD})
        for at in range(2)
    )
    score = Score(50.0, (40.0, 60.0), 2, flags=(BAD, "limited"), records=records)
    undefined = Score(None, None, 0, flags=("limited",), reason=BAD)
    model = {"id": BAD, "revision": BAD, "digest": BAD}
    task = {"name": "muse_news", "title": BAD, "columns": {"odd": {"title": BAD, "goal": "lower"}}}
    result = Result(
        task="muse_news",
        name="sound",
        model=model,
        columns={"verbmem_f": score, "odd": undefined},
        extras={"notes": {"asked": BAD}, "reference": {"source": BAD, "attack": BAD}},
        config={"task": task, "metrics": BAD, "engine": BAD, "seed": 0, "limit": 2},
        provenance={"engine": BAD, "versions": {BAD: BAD}},
        seconds=1.0,
    )
    home = here / "results/runs/muse_news"
    save(result, home / "sound")
    save(result, home / RUN)
    _edited(home / RUN / "result.json", name=RUN)
    save(result, home / "elsewhere")
    _edited(home / "elsewhere/result.json", name=BAD)
    save(result, home / "damaged")
    _edited(home / "damaged/result.json", **{f"{BAD}": 1, "seconds": BAD})
    cache = here / "results/cache/0123456789abcdef"
    cache.mkdir(parents=True)
    (cache / f"{RUN}.jsonl").write_text(f"00000000 {BAD}\n{json.dumps({'engine': BAD})}\n", encoding="utf-8")
    _publish(here / "published.csv", BAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield here


LINES: list[list[str]] = [
    ["leaderboard", "--out", "-"],
    ["leaderboard", "--out", "-", "--format", "md", "--published", "published.csv"],
    ["leaderboard", "--out", "/dev/stdout", "--published", "published.csv"],
    ["leaderboard", "--out", f"board{RUN}"],
    ["leaderboard", "--published", f"{BAD}.csv"],
    ["check", "--baseline", "made.json", "--update"],
    ["check", "--baseline", "made.json"],
    ["check", "--baseline", "made.json", "--json"],
    ["check", "--baseline", "made.json", "--only", BAD],
    ["show", "muse_news/sound"],
    ["show", "muse_news/sound", "--json"],
    ["compare", "muse_news/sound", f"muse_news/{RUN}"],
    ["compare", "muse_news/sound", BAD],
    ["show", f"muse_news/{RUN}"],
    ["show", f"results/runs/muse_news/{RUN}", "--column", "verbmem_f"],
    ["show", "muse_news/damaged"],
    ["show", BAD],
    ["report", "--task", "muse_news", "--figures", "paper"],
    ["report", "--task", "muse_news", "--models", BAD],
    ["report", "--task", BAD],
    ["show", "muse_news/sound", "--column", BAD],
    ["list", BAD],
    ["list", "tasks", BAD],
    ["list", "methods", "--json"],
    ["data", "show", "--task", "village.yaml", "--data-dir", "data"],
    ["data", "show", "--task", "village.yaml", "--data-dir", "data", "--split", "verbmem/forget"],
    ["data", "show", "--task", "village.yaml", "--data-dir", "data", "--split", BAD],
    ["data", "show", "--task", BAD],
    ["data", "verify", "--task", "village.yaml", "--data-dir", "data"],
    ["data", "verify", "--task", "village.yaml", "--data-dir", "data", "--json"],
    ["data", "export", "--task", "village.yaml", "--data-dir", "data", "--out", RUN],
    ["cache", "info"],
    ["run", "--model", f"./{RUN}", "--task", "village.yaml", "--data-dir", "data"],
    ["run", "--model", f"{BAD}", "--task", "village.yaml", "--data-dir", "data"],
    [BAD],
    ["run", f"--{BAD}"],
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{LINES.index(line)}-{line[0][:5].strip(BAD)}")
@pytest.mark.usefixtures("world")
def test_no_text_of_someone_elses_commands_the_terminal(line: list[str]) -> None:
    done = typed(*line)

    assert done.code in (0, 1, 2), done.err
    assert done.out + done.err
    assert not obeyed(done.out + done.err)
    if "--json" in line and done.code < 2:
        json.loads(done.out)


# ── a terminal that draws ────────────────────────────────────────────────────────────────────────
class Terminal(io.StringIO):
    """Standard output or error that says it is a terminal, so that Rich colours and moves on it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


_OWN = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
FOREIGN = "\x1b[35;7m\x1b]0;title\x07\x9b5n\u202e[link=file:///etc]x[/link]"


def _drawn(terminal: Terminal) -> str:
    """Return what was drawn without Rich's own escapes, none of which is the foreign text's."""
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert "\x1b[35;7m" not in text
    return _OWN.sub("", text)


def test_bars_and_tables_colour_but_take_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    with guarded():
        console().print(draw(Grid([FOREIGN, "x"], [[Cell(FOREIGN, best=True), Cell(FOREIGN)]], [FOREIGN])))
        with Bars(console(stderr=True)) as bars:
            bars.stage(FOREIGN)
            bars(FOREIGN, 1, 2)
            bars.tell(FOREIGN)
            print(FOREIGN)
    for terminal in (out, err):
        drawn = _drawn(terminal)
        assert not obeyed(drawn)
        assert "[link=" in drawn or "link" not in drawn


def test_lines_of_progress_stay_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded():
        lines = Lines()
        lines.stage(f"one\ntwo {FOREIGN}")
        lines.tell(f"three\r\nfour {FOREIGN}")
        lines.finish()
        lines.say()
    told = capsys.readouterr().err
    assert not obeyed(told)
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize("width", [1, 20, 40])
@pytest.mark.usefixtures("world")
def test_a_narrow_terminal_gets_what_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for line in (["show", "muse_news/sound"], ["leaderboard", "--out", "-"], ["list", "tasks"], ["--help"]):
        assert typed(*line).code == 0


# ── poor and broken streams ──────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_an_encoding_that_lacks_signs_spells_them_out(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    monkeypatch.setattr("sys.stdout", stream)
    with guarded():
        print("± λ → ☃ \udcff")
        console(width=60).print(draw(Grid(["model ↓"], [[Cell("1.00", " ± 0.1")]], ["λ"])))
    stream.flush()
    assert stream.errors == "strict"
    text = raw.getvalue().decode(encoding)
    assert "\\u2603" in text
    assert "\\udcff" in text
    assert ("+/-" in text) == (encoding == "ascii")


class Full(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error if text else AssertionError


def test_a_stream_that_takes_no_more_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    out: Any = Stream(Full(OSError(28, "No space left on device")), "standard output")
    with pytest.raises(UserError, match="cannot write to standard output: No space left on device"):
        out.write("x")
    closed: Any = Stream(Full(BrokenPipeError(32, "Broken pipe")), "standard output")
    with pytest.raises(SystemExit) as left:
        closed.write("x")
    assert left.value.code == 141
    # Nobody who reads the errors is no reason to stop.
    errors: Any = Stream(Full(BrokenPipeError(32, "Broken pipe")), "standard error")
    assert errors.write("x") == 1
    monkeypatch.setattr("sys.stdout", None)
    with guarded():
        console().print("nobody is there")
        print("nobody is there")


# ── files ────────────────────────────────────────────────────────────────────────────────────────
FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "＝1+1",
    "-x",
    "=\x1b[31m",
]
NUMBERS = ["-3.5", "+3", "-1e-5", "-57.26", "3", "", "-", "-100%", "1.5;-2"]


@pytest.mark.parametrize("text", [*FORMULAS, "=\x1b[31m"])
def test_a_spreadsheet_runs_no_cell(text: str) -> None:
    cell = csv_cell(text)
    assert cell[0] == "'"
    assert not obeyed(cell)
    if not obeyed(text) and text[0] not in "\t\r":
        assert read_cell(cell) == text
    line = next(csv.reader(io.StringIO(csv_text([[text, "x"]]))))
    assert line == [cell, "x"]


@pytest.mark.parametrize("text", [*NUMBERS, "simnpo_gdr", "'quoted'", "it's", "npo (β = 0.1)"])
def test_numbers_and_plain_names_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == read_cell(text) == text


def test_a_published_row_goes_through_files_and_back(tmp_path: Path) -> None:
    path = _publish(tmp_path / "published.csv", "=HYPERLINK(A1)")
    published = load_published(path)
    found = rows(load_all(_one_run(tmp_path), print))
    table = list(csv.DictReader(io.StringIO(to_csv(found, published))))
    assert [line["name"] for line in table] == ["'@one", "'=HYPERLINK(A1)"]
    assert table[1]["knowmem_f"] == "-3.5"
    _publish(tmp_path / "again.csv", table[1]["name"])
    assert load_published(tmp_path / "again.csv") == published


def _one_run(results: Path) -> Path:
    _without_records(results / "runs/muse_news/@one")
    return results


def _without_records(folder: Path) -> None:
    """Store a run as versions that kept no records did."""
    save(
        Result("muse_news", folder.name, {"id": "x"}, {"verbmem_f": Score(1.0, None, 3)}, {}, {}, {}, 1.0),
        folder,
    )
    (folder / "records.jsonl").unlink()
    _edited(folder / "result.json", records_sha256=None)


def test_markdown_takes_foreign_text_as_text(tmp_path: Path) -> None:
    foreign = "![x](http://h/p.png) [a](b) <img src=x> `c` | &#x202e; **d**\n# e"
    published = load_published(_publish(tmp_path / "published.csv", foreign))
    table = to_markdown(rows(load_all(_one_run(tmp_path), print)), published)
    line = next(line for line in table.splitlines() if "img" in line)
    bare = re.sub(r"\\.", "", line)
    assert not re.search(r"[\[\]<`&!]|\*\*", bare)
    assert bare.count("|") == 7
    assert markdown_text("a|b") == r"a\|b"


def test_a_rerun_tells_no_neutralised_name_as_gone(tmp_path: Path) -> None:
    for form in ("csv", "md"):
        line = ["leaderboard", "--results", _one_run(tmp_path), "--format", form]
        assert typed(*line).code == 0
        _without_records(tmp_path / "runs/muse_news/two")
        told = typed(*line)
        assert "gone" not in told.out
        (tmp_path / "runs/muse_news/two/result.json").unlink()


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "file.csv", tmp_path / "link.csv"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to(real)
    write_files(tmp_path, {"link.csv": "new"})
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.csv", "link.csv", "real"]
    turned = tmp_path / "turned"
    turned.symlink_to(turned)
    with pytest.raises(UserError, match="cannot write to"):
        write_files(tmp_path, {"turned": "new"})
    assert turned.is_symlink()


def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    write_files(tmp_path, {"null": "text"})
    assert null.is_symlink()
    assert Path("/dev/null").is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


def test_a_pipe_gets_the_text_and_is_left() -> None:
    reader, writer = os.pipe()
    write_files(Path("/dev/fd"), {str(writer): "text"})
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"text"


@pytest.mark.parametrize("text", [ALL, BAD, "a\u200db é ☃ \U000e0041"])
def test_json_says_the_same_without_a_sign_that_is_obeyed(text: str) -> None:
    shown = harmless_json(json.dumps({text: [text]}, ensure_ascii=False, indent=1))
    assert json.loads(shown) == {text: [text]}
    assert not obeyed(shown)


def test_a_result_that_is_not_ours_is_told_of_in_one_line(world: Path) -> None:
    told: list[str] = []
    load_all(world / "results", told.append)
    assert told
    done = typed("leaderboard", "--out", "-")
    assert len(done.err.splitlines()) == len(told)
    assert not obeyed(done.err)
