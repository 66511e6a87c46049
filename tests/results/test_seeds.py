"""The table over several seeds: mean ± standard deviation, and what cannot be averaged."""

from muse_eval.results.rows import FLAGS, PlainHeading, headings, rows
from muse_eval.results.runs import StoredColumn, StoredResult
from muse_eval.results.seeds import of_one_seed, over_seeds


def stored(task: str, name: str, value: float | None, *flags: str) -> StoredResult:
    reason = "give --retrain" if value is None else None
    cell = StoredColumn(value=value, ci=None, n=3, flags=flags, reason=reason)
    return StoredResult(
        schema_version=1, task=task, name=name, model={}, columns={"verbmem_f": cell}, seconds=1.0
    )


def test_mean_and_sample_standard_deviation_of_each_run_name() -> None:
    tasks = ("muse_mini", "muse_mini-seed1", "muse_mini-seed2")
    found = rows(
        [
            *(stored(task, "npo", value) for task, value in zip(tasks, (1.0, 2.0, 6.0), strict=True)),
            *(stored(task, "target", 99.0) for task in tasks),
        ]
    )
    laid = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, found)
    # mean of 1, 2, 6 is 3; squared distances 4 + 1 + 9 = 14, over 2 is 7, root 2.65
    assert [[cell.value + cell.spread for cell in line] for line in laid.lines] == [
        ["target", "99.0 ± 0.0"],
        ["npo", "3.0 ± 2.6"],
    ]
    assert laid.header == ["model", "VerbMem Df ↓"]
    assert laid.notes == ["mean ± standard deviation over 3 seeds"]


def test_an_undefined_cell_is_not_averaged_away() -> None:
    found = rows([stored("muse_mini", "npo", 1.0), stored("muse_mini-seed1", "npo", None)])
    laid = over_seeds(headings("muse_mini", found), found)
    assert laid.lines[0][1].value + laid.lines[0][1].spread == "n/a [1]"
    assert laid.notes[1:] == ["[1] give --retrain"]


def test_what_was_asked_in_different_ways_has_no_mean() -> None:
    found = []
    for task, space in (("muse_mini", True), ("muse_mini-seed1", False)):
        spec = {"columns": {"verbmem_f": {"metric": "knowmem"}}}
        config = {"task": spec, "columns": {"verbmem_f": {"answer_space": space}}}
        found.append(stored(task, "npo", 2.0).model_copy(update={"config": config}))
    laid = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, rows(found))
    assert laid.lines[0][1].value + laid.lines[0][1].spread == "n/a [1]"
    assert laid.notes[1:] == ["[1] asked in different ways"]
    same = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, rows([found[1], found[1]]))
    assert same.lines[0][1].value == "2.0"


def test_the_flags_of_every_world_are_numbered_notes() -> None:
    found = rows(
        [
            stored("muse_mini", "ga", 1.0, "collapsed", "odd"),
            stored("muse_mini-seed1", "ga", 3.0, "saturated", "collapsed"),
            stored("muse_mini", "npo", 2.0),
            stored("muse_mini-seed1", "npo", 2.0, "saturated"),
        ]
    )
    laid = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, found)
    assert [[cell.value + cell.spread for cell in line] for line in laid.lines] == [
        ["ga", "2.0 ± 1.4 [1, 2, 3]"],
        ["npo", "2.0 ± 0.0 [3]"],
    ]
    assert laid.notes == [
        "mean ± standard deviation over 2 seeds",
        f"[1] collapsed: {FLAGS['collapsed']}",
        "[2] odd",
        f"[3] saturated: {FLAGS['saturated']}",
    ]


def test_what_a_worlds_row_is_to_be_read_with_is_a_note_of_the_name() -> None:
    note = {"extras": {"notes": {"selection": "epoch 2 of 4"}}}
    found = rows(
        [
            stored("muse_mini", "npo", 2.0),
            stored("muse_mini-seed1", "npo", 2.0).model_copy(update=note),
            stored("muse_mini", "ga", 2.0),
        ]
    )
    laid = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, found)
    assert [line[0].value + line[0].spread for line in laid.lines] == ["ga", "npo [2]"]
    assert laid.notes[1:] == ["[1] in 1 of 2 seeds", "[2] epoch 2 of 4"]


def test_a_run_that_is_not_in_all_worlds_says_so() -> None:
    """ga over two worlds of three: mean of 1 and 3 is 2, deviation √(1 + 1) = 1.4."""
    tasks = ("muse_mini", "muse_mini-seed1", "muse_mini-seed2")
    found = rows(
        [
            *(stored(task, "npo", 2.0) for task in tasks),
            stored(tasks[0], "ga", 1.0),
            stored(tasks[2], "ga", 3.0),
        ]
    )
    laid = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, found)
    assert [[cell.value + cell.spread for cell in line] for line in laid.lines] == [
        ["ga", "2.0 ± 1.4 [1]"],
        ["npo", "2.0 ± 0.0"],
    ]
    assert laid.notes == ["mean ± standard deviation over 3 seeds", "[1] in 2 of 3 seeds"]


def test_training_seeds_share_what_they_start_from() -> None:
    """npo of 1 and 3: mean 2, deviation √(1 + 1) = 1.4; the target was scored once, and has none."""
    found = rows([stored("own", name, value) for name, value in (("npo", 1.0), ("npo-seed5", 3.0))])
    target = rows([stored("own", name, 9.0) for name in ("target", "retrain")])
    several = [
        *of_one_seed([*target, *found], 0, {"npo": "npo"}),
        *of_one_seed([*target, *found], 5, {"npo-seed5": "npo"}),
    ]
    laid = over_seeds({"verbmem_f": PlainHeading("VerbMem Df", "lower")}, several, target)
    assert [[cell.value + cell.spread for cell in line] for line in laid.lines] == [
        ["target", "9.0"],
        ["retrain", "9.0"],
        ["npo", "2.0 ± 1.4"],
    ]
    assert laid.notes == ["mean ± standard deviation over 2 seeds; target and retrain are the same for all"]
