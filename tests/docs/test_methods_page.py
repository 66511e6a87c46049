"""docs/methods.md says what the method files say."""

from pathlib import Path

import pytest

from benchmarks import methods_page
from muse_eval import plugins
from muse_eval.results.grid import Cell, Grid
from muse_eval.results.tables import grid_markdown


def test_the_page_describes_every_method_as_its_file_does() -> None:
    page = methods_page.PAGE.read_text(encoding="utf-8")
    assert methods_page.replace(page, "described", methods_page.described()) == page, "run: make docs"
    for name in plugins.method_names():
        assert f"`{name}`" in page


def test_a_part_is_replaced_and_nothing_else() -> None:
    page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    assert methods_page.replace(page, "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"
    with pytest.raises(AssertionError, match="has no part y"):
        methods_page.replace(page, "y", "new")


def test_seconds_are_the_mean_over_worlds(tmp_path: Path) -> None:
    for world, seconds in (("muse_mini", 10), ("muse_mini-seed1", 20)):
        folder = tmp_path / world / "ga"
        folder.mkdir(parents=True)
        (folder / "unlearn.json").write_text(f'{{"seconds": {seconds}}}')
    assert methods_page.unlearning_seconds(sorted(tmp_path.glob("*"))) == {"ga": 15}


def test_a_table_takes_more_columns() -> None:
    laid = Grid(
        ["model", "VerbMem"], [[Cell("ga"), Cell("1.0", " ± 0.1")], [Cell("target"), Cell("9.0")]], ["[1] x"]
    )
    table = grid_markdown(laid, extra={"s": {"ga": "15"}})
    assert table.splitlines()[2:] == ["| ga | 1.0 ± 0.1 | 15 |", "| target | 9.0 |  |", "", "- [1] x"]
