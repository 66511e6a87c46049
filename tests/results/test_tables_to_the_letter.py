"""Every sign of the tables: published lines, footnotes, bold, alignment, and the best of what is printed."""

from pathlib import Path

import pytest
from rich.text import Text

from muse_eval.errors import UserError
from muse_eval.results.comparable import is_best, misfits
from muse_eval.results.forms import FORMS, writer
from muse_eval.results.grid import Cell, Grid, grid, remarks
from muse_eval.results.rows import all_rows, headings, rows, title
from muse_eval.results.tables import draw, grid_markdown, to_csv, to_markdown
from tests.results.test_tables import CARD, column, stored, with_cell

PUBLISHED = {
    "task": "muse_books",
    "method": "NPO",
    "base_model": "ICLM-7B",
    "verbmem_f": "1.5",
    "knowmem_r": "23.7",
    "source": "a paper",
    "locator": "Table 3",
}


def test_a_published_line_fills_no_cell_that_it_does_not_have() -> None:
    last = to_csv(CARD_ROWS, [PUBLISHED]).splitlines()[-1]
    assert last == ('muse_books,NPO,ICLM-7B,,,1.5,,,,,,,,,,,,,,,23.7,,,,,,,,,"a paper, Table 3",,,')
    assert "| NPO | 1.5 |  |  | 23.7 | a paper, Table 3 |\n" in to_markdown(CARD_ROWS, [PUBLISHED])


def test_notes_are_joined_by_semicolons() -> None:
    made = stored("npo", 1.0, extras={"notes": {"a": "one thing", "b": "another"}})
    assert to_csv(rows([made])).splitlines()[1].split(",")[-5] == "one thing; another"


CARD_ROWS = rows(CARD)
LAID = Grid(
    ["model", "A ↓"],
    [[Cell("x"), Cell("1.00", " ± 0.50", best=True)], [Cell("y"), Cell("2.00", " ± 0.25")]],
    ["[1] a note", "[2] another"],
)


def test_a_grid_in_markdown_may_have_more_columns() -> None:
    assert grid_markdown(LAID) == (
        "| model | A ↓ |\n| --- | ---: |\n| x | **1.00** ± 0.50 |\n| y | 2.00 ± 0.25 |\n\n"
        "- [1] a note\n- [2] another\n"
    )
    more = grid_markdown(LAID, {"B": {"y": "7"}})
    assert "| model | A ↓ | B |\n" in more
    assert "| x | **1.00** ± 0.50 |  |\n" in more
    assert "| y | 2.00 ± 0.25 | 7 |\n" in more


def test_the_terminal_s_table_is_aligned_bold_and_captioned() -> None:
    drawn = draw(LAID)
    assert [one.justify for one in drawn.columns] == ["left", "right"]
    assert drawn.caption_justify == "left"
    assert isinstance(drawn.caption, Text)
    assert drawn.caption.plain == "[1] a note\n[2] another"
    cells = [cell for cell in drawn.columns[1].cells if isinstance(cell, Text)]
    assert [[str(span.style) for span in cell.spans if span.style] for cell in cells] == [["bold"], []]
    assert draw(Grid(["model"], [[Cell("x")]], [])).caption is None


def test_the_best_is_the_best_of_what_is_printed_to_two_places() -> None:
    near = rows([stored("a", 1.004), stored("b", 1.0), stored("c", 1.4), stored("d", 1.01)])
    best = [row["name"] for row in near if is_best(row, "verbmem_f", "lower", near)]
    assert best == ["a", "b"]


def test_an_undefined_cell_without_a_reason_says_so() -> None:
    assert remarks(stored("npo", None).columns["verbmem_f"]) == ["undefined"]
    told = with_cell(stored("npo", None), "verbmem_f", column(None, reason="too short"))
    assert remarks(told.columns["verbmem_f"]) == ["too short"]


def test_an_interval_without_width_is_a_note_and_no_plus_minus_nothing() -> None:
    flat = with_cell(stored("npo", 0.0, 2.0), "verbmem_f", column(0.0, half=0.0))
    found = rows([flat])
    laid = grid(headings("muse_books", found), found)
    cell = laid.lines[0][1]
    assert (cell.value, cell.spread) == ("0.00", " [1]")
    assert laid.notes[0].startswith("[1] n = 100, all equal however drawn again: ")
    assert laid.lines[0][2].spread == " ± 1.00"
    bound = with_cell(stored("npo", 0.0, 2.0, -100.0), "privleak", column(-100.0, "saturated", half=0.0))
    found = rows([bound])
    laid = grid(headings("muse_books", found), found)
    assert laid.notes == ["[1] saturated: PrivLeak is at its bound, the leak may be larger than it can show"]


def test_a_row_takes_what_a_result_says_and_nothing_of_another_kind() -> None:
    said = {
        "seed": 7,
        "task": {"title": "Village", "columns": {"a": {"title": "A", "goal": "zero"}, "b": {}}},
        "made": {"fold": {"split": "scal/forget_2"}},
    }
    (row,) = rows([stored("npo", 1.0, task="village", config=said)])
    assert (row["title"], row["forgot"], row["seed"], row["auc"]) == ("Village", "scal/forget_2", 7, 0.53934)
    assert (row["model"], row["revision"]) == ("org/npo", "c0ffee")
    assert [(one.title, one.goal) for one in row["headings"].values()] == [("A", "zero"), ("b", None)]
    assert title("village", [row]) == "Village"
    odd = stored("x", 1.0, config={"seed": "7"}, extras={"auc": {"forget_holdout_Min-40%": "0.5"}})
    (row,) = rows([odd])
    assert (row["title"], row["forgot"], row["seed"], row["auc"]) == ("", "", None, None)
    assert title("nowhere", [row]) == "nowhere"


def test_every_flag_of_a_reference_that_misleads_is_told() -> None:
    both = column(0.0, "unanswered", "answer-space")
    found = rows([with_cell(stored("target", 99.0, 1.0), "knowmem_f", both), stored("npo", 1.0, 2.0)])
    assert misfits(found[1], "knowmem_f", found) == [
        "target is flagged answer-space, unanswered: this column shows no forgetting"
    ]


def test_all_rows_are_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "runs/t/broken").mkdir(parents=True)
    (tmp_path / "runs/t/broken/result.json").write_text("{")
    (tmp_path / "runs/t/a").mkdir()
    (tmp_path / "runs/t/a/result.json").write_text(stored("a", 1.0, task="t").model_dump_json())
    told: list[str] = []
    assert [row["name"] for row in all_rows(tmp_path, told.append)] == ["a"]
    assert len(told) >= 1


def test_forms_are_named_and_an_empty_folder_is_told(tmp_path: Path) -> None:
    assert writer("csv") is to_csv
    assert writer("md") is to_markdown
    assert list(FORMS) == ["csv", "md", "latex", "json", "html"]
    with pytest.raises(UserError, match=r"no format 'cvs'; did you mean 'csv'\?"):
        writer("cvs")
    with pytest.raises(UserError) as caught:
        all_rows(tmp_path / "none", lambda _: None)
    assert str(caught.value) == (
        f"{tmp_path / 'none'} holds no run; score a model first: muse-eval run --model …"
    )
