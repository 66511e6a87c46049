"""Runs of several forget sets: sorted, laid out, as CSV."""

from dataclasses import asdict

import pytest

from muse_eval import plugins
from muse_eval.results.forget_sets import ForgetSetRuns, caption, collect, table, to_csv
from muse_eval.results.lineage import ForgetSet, Lineage
from muse_eval.results.rows import rows
from muse_eval.results.runs import StoredResult
from muse_eval.results.selection import Selection
from muse_eval.results.tables import to_markdown
from tests.results.test_trajectory import scored

TASK = plugins.task("muse_mini_scal")
HEADER = "method,fold,split,texts,tokens,verbmem_f,verbmem_f_low,verbmem_f_high,knowmem_f"


def run(method: str, number: int, value: float, selection: Selection | None = None) -> StoredResult:
    tokens = None if method == "ga" else 100 * number
    forget_set = ForgetSet(method, f"scal/forget_{number}", number, 2, "nested", 10 * number, tokens)
    lineage = Lineage("r", forget_set, selection=selection)
    plain = scored(f"{method}-{number}", value, value, -value, value)
    return plain.model_copy(
        update={
            "task": TASK.name,
            "config": {**plain.config, "made": {"fold": asdict(forget_set)}},
            "extras": {"notes": lineage.notes()},
        }
    )


REFERENCES = [
    scored("retrain", 20.0, 30.0, 0.0, 90.0).model_copy(update={"task": TASK.name}),
    scored("target", 99.0, 98.0, -100.0, 95.0).model_copy(update={"task": TASK.name}),
]


@pytest.fixture
def runs() -> ForgetSetRuns:
    chosen = Selection(2, 3, "paper")
    return collect(TASK, [*REFERENCES, run("npo", 2, 4.0), run("npo", 1, 5.0), run("ga", 1, 6.0, chosen)])


def test_runs_are_sorted_by_method_and_fold(runs: ForgetSetRuns) -> None:
    assert {name: [one.forget_set.number for one in found] for name, found in runs.methods.items()} == {
        "npo": [1, 2],
        "ga": [1],
    }
    assert sorted(runs.references) == ["retrain", "target"]


def test_the_table_says_what_each_line_forgot(runs: ForgetSetRuns) -> None:
    laid = table(runs)
    assert laid.header[:5] == ["model", "forgotten", "texts", "tokens", "VerbMem Df ↓"]
    assert [[cell.value + cell.spread for cell in line[:5]] for line in laid.lines] == [
        ["target", "", "", "", "99.00 ± 1.00"],
        ["retrain", "", "", "", "20.00 ± 1.00"],
        ["npo", "scal/forget_1", "10", "100", "5.00 ± 1.00"],
        ["npo", "scal/forget_2", "20", "200", "4.00 ± 1.00"],
        ["ga [1]", "scal/forget_1", "10", "", "6.00 ± 1.00"],
    ]
    assert laid.notes[0] == caption(runs)
    assert laid.notes[1].startswith("[1] epoch 2 of 3, selected by the rule 'paper'")


def test_only_runs_that_forgot_the_same_compete(runs: ForgetSetRuns) -> None:
    """VerbMem: npo's 5 beats ga's 6 on the first set; 4 is alone on the second."""
    assert [line[4].best for line in table(runs).lines] == [False, False, True, True, False]


def test_the_caption_says_what_is_measured(runs: ForgetSetRuns) -> None:
    assert caption(runs) == (
        "Each line forgets its set from the target; all are scored on the same splits, muse_mini's, PrivLeak "
        "against its retrain model. The scored forget splits are of all four folds together (raw/forget): "
        "only fold 4 forgets all of them."
    )
    later = ForgetSetRuns(plugins.task("muse_mini_sust-seed1"), runs.references, runs.methods)
    assert caption(later).startswith(
        "Each line forgets its set from the model of the line before; all are scored on the same splits, "
        "muse_mini-seed1's, "
    )
    assert (runs.file, later.file) == ("scalability", "sustainability")


def test_csv_has_a_line_a_method_and_fold(runs: ForgetSetRuns) -> None:
    lines = to_csv(runs).splitlines()
    assert lines[0].startswith(HEADER)
    assert [line.split(",")[:7] for line in lines[1:]] == [
        ["target", "", "", "", "", "99.0000", "98.0000"],
        ["retrain", "", "", "", "", "20.0000", "19.0000"],
        ["npo", "1", "scal/forget_1", "10", "100", "5.0000", "4.0000"],
        ["npo", "2", "scal/forget_2", "20", "200", "4.0000", "3.0000"],
        ["ga", "1", "scal/forget_1", "10", "", "6.0000", "5.0000"],
    ]


def test_the_leaderboard_says_what_each_run_forgot() -> None:
    text = to_markdown(rows([run("npo", 1, 5.0), run("npo", 2, 4.0), *REFERENCES]))
    assert "## MUSE-Mini, scalability" in text
    assert "| npo-1 [1] |" in text
    assert "| npo-2 [2] |" in text
    assert "- [2] forgets scal/forget_2, fold 2 of 2, from the target\n" in text
