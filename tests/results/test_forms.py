"""The leaderboard's other forms: LaTeX, JSON and HTML, foreign text harmless in each."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from muse_eval.results.forms import FORMS, ending, writer
from muse_eval.results.latex import latex_text, to_latex
from muse_eval.results.published import load_published
from muse_eval.results.replaced import replaced
from muse_eval.results.rows import all_rows, rows
from tests.e2e import muse
from tests.results.test_tables import CARD, PUBLISHED, column, stored, with_cell

HOSTILE = "<script>&\"'x\\end{document} %$#_^~{}\n```|[1](x) −—é中\x1b[31m"
RUNS = rows(
    [
        *(
            one.model_copy(update={"config": {"seed": 0, "model": {"engine": "hf", "dtype": "float32"}}})
            for one in CARD
        ),
        with_cell(stored(HOSTILE, 1.0), "privleak", column(None, "no-reference", reason=HOSTILE)),
        with_cell(stored("ga", 12.5), "privleak", column(-100.0, "saturated", "collapsed")),
    ]
)


# ── LaTeX ────────────────────────────────────────────────────────────────────────────────────────
def test_latex_has_its_structure() -> None:
    whole = to_latex(RUNS, load_published(PUBLISHED))
    # What is a comment, TeX does not read.
    text = re.sub(r" % run: .*", "", whole)
    assert text.isascii()
    assert text.count(r"\begin{document}") == text.count(r"\end{document}") == 1
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 2, 2]
    assert r"\usepackage{booktabs,siunitx}" in text
    assert (
        r"\begin{tabular}{lS[table-format=2.2]@{\,}lS[table-format=2.2]@{\,}lS[table-format=-3.2]@{\,}l"
        in text
    )
    body = re.findall(r"\\midrule\n(.*?)\n\\bottomrule", text, re.S)[0].splitlines()
    assert len(body) == len(RUNS) == whole.count(" % run: ")
    for line in body:
        # A name, then a value and its interval for each of four columns.
        assert len(re.findall(r"(?<!\\)&", line)) == 8
        assert line.endswith(r"\\")
    assert any(line.startswith(r"npo & \bfseries 0.00 & $\pm$\,1.00") for line in body)
    assert any(r"-100.00 & $\pm$\,1.00\textsuperscript{" in line for line in body)
    caption = re.findall(r"\\caption\{(.*)\}", text)[0]
    assert caption.startswith("MUSE-Books: scores in percent")
    assert "n: 100" in caption
    assert "engine: hf float32" in caption
    assert r"\par \textsuperscript{1}\," in text


def test_latex_text_is_text() -> None:
    assert latex_text("a_b & 5 % of $x^2$ {y} \\z ~#") == (
        r"a\_b \& 5 \% of \$x\textasciicircum{}2\$ \{y\} \textbackslash{}z \textasciitilde{}\#"
    )
    assert (
        latex_text("é Š ç ß λ →") == r"\'{e} \v{S} \c{c} \ss{} \ensuremath{\lambda} \ensuremath{\rightarrow}"
    )
    assert latex_text("中\x1b") == r"\texttt{U+4E2D}\textbackslash{}x1b"
    assert latex_text("a--b ''c``") == "a-{}-b '{}'c`{}`"
    assert latex_text("[1] *\nx") == "{[}1{]} {*} x"


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────
def test_json_has_every_row_unrounded() -> None:
    (task,) = json.loads(writer("json")(RUNS, load_published(PUBLISHED)))["tasks"]
    assert (task["task"], task["title"]) == ("muse_books", "MUSE-Books")
    assert task["columns"]["privleak"] == {"title": "PrivLeak", "goal": "zero"}
    by_name = {row["name"]: row for row in task["rows"]}
    assert list(by_name)[:2] == ["target", "retrain"]
    assert by_name["ga"]["columns"]["privleak"] == {
        "value": -100.0,
        "low": -101.0,
        "high": -99.0,
        "n": 100,
        "flags": ["saturated", "collapsed"],
        "best": False,
    }
    assert by_name[HOSTILE]["columns"]["privleak"]["reason"] == HOSTILE
    assert (by_name["npo"]["engine"], by_name["npo"]["dtype"], by_name["npo"]["limit"]) == (
        "hf",
        "float32",
        None,
    )
    assert task["published"]
    assert task["notes"]


def test_json_keeps_every_digit() -> None:
    (task,) = json.loads(writer("json")(rows([stored("npo", 1 / 3)]), []))["tasks"]
    assert task["rows"][0]["columns"]["verbmem_f"]["value"] == 1 / 3


# ── HTML ─────────────────────────────────────────────────────────────────────────────────────────
class Page(HTMLParser):
    """Collects a page's elements and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def test_html_is_a_table_and_foreign_text_is_text() -> None:
    page = Page()
    page.feed(writer("html")(RUNS, load_published(PUBLISHED)))
    assert set(page.tags) <= set(
        re.findall(r"\w+", "html head meta title style body div table caption thead tbody tr th td b ul li")
    )
    assert page.tags.count("table") == 2
    assert page.tags.count("b") > 0
    assert any(cell.startswith("<script>&\"'x\\end{document}") for cell in page.cells)
    assert "-100.00 ± 1.00" in " ".join(page.cells)


# ── all ──────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_written_and_what_it_replaces_is_told(form: str, tmp_path: Path) -> None:
    for one in CARD:
        folder = tmp_path / "runs" / one.task / one.name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(one.model_dump_json(), encoding="utf-8")
    done = muse("leaderboard", "--results", tmp_path, "--format", form)
    assert done.exit_code == 0, done.output
    written = tmp_path / f"leaderboard.{'tex' if form == 'latex' else form}"
    assert written.name.endswith(ending(form))
    before = written.read_text(encoding="utf-8")
    assert before == writer(form)(all_rows(tmp_path, pytest.fail), [])
    after = writer(form)(rows(CARD[:3]), [])
    heading = "MUSE-Books" if form == "md" else "muse_books"
    assert replaced(before, after) == f"replaced: 4 runs before, 3 now; gone: run {heading}/simnpo"
    assert replaced(before, before) == ""


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_runs_does_not_matter(form: str) -> None:
    assert writer(form)(rows(CARD), []) == writer(form)(rows(CARD[::-1]), [])
