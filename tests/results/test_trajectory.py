"""The trajectory's CSV, to the letter, and what it says of the selected epoch."""

from collections.abc import Mapping, Sequence

from muse_eval.results.runs import StoredColumn, StoredResult
from muse_eval.results.selection import Selection
from muse_eval.results.trajectory import Trajectory, number, to_csv

TITLES = {
    "verbmem_f": ("VerbMem Df", "lower"),
    "knowmem_f": ("KnowMem Df", "lower"),
    "privleak": ("PrivLeak", "zero"),
    "knowmem_r": ("KnowMem Dr", "higher"),
}


def stored(name: str, values: Mapping[str, float | None], half: float = 1.0) -> StoredResult:
    columns = {
        column: StoredColumn(
            value=value, ci=None if value is None else (value - half, value + half), n=3, flags=()
        )
        for column, value in values.items()
    }
    heads = {name: {"title": title, "goal": goal} for name, (title, goal) in TITLES.items() if name in values}
    return StoredResult(
        schema_version=1,
        task="village",
        name=name,
        model={},
        columns=columns,
        config={"task": {"name": "village", "title": "Village", "columns": heads}},
        seconds=1.0,
    )


def scored(name: str, *values: float | None) -> StoredResult:
    return stored(name, dict(zip(TITLES, values, strict=False)))


def trajectory(
    epochs: Sequence[StoredResult], selection: Selection, start: StoredResult, composite: str = "balance"
) -> Trajectory:
    return Trajectory("npo", "Village", start, epochs, scored("retrain", 1, 2, 0, 50), selection, composite)


def test_csv_to_the_letter() -> None:
    """balance: (100 + (0 + 10 + 0)/3)/2 = 51.6667 at the start; (60 + (90 + 80 + 70)/3)/2 = 70 in epoch 1."""
    went = trajectory(
        [scored("npo-epoch1", 10.0, 20.0, -30.0, 60.0), scored("npo-epoch2", 5.0, 20.0, None, 1 / 3)],
        Selection(1, 2, "best", composite="balance"),
        scored("target", 100.0, 90.0, -100.0, 100.0),
    )
    assert to_csv(went) == (
        "epoch,verbmem_f,verbmem_f_low,verbmem_f_high,knowmem_f,knowmem_f_low,knowmem_f_high,"
        "privleak,privleak_low,privleak_high,knowmem_r,knowmem_r_low,knowmem_r_high,balance,selected\n"
        "0,100.0000,99.0000,101.0000,90.0000,89.0000,91.0000,"
        "-100.0000,-101.0000,-99.0000,100.0000,99.0000,101.0000,51.6667,\n"
        "1,10.0000,9.0000,11.0000,20.0000,19.0000,21.0000,"
        "-30.0000,-31.0000,-29.0000,60.0000,59.0000,61.0000,70.0000,best\n"
        "2,5.0000,4.0000,6.0000,20.0000,19.0000,21.0000,,,,0.3333,-0.6667,1.3333,,\n"
    )


def test_a_rule_that_selected_none_says_so_in_the_last_line() -> None:
    went = trajectory(
        [scored("a", 1, 2, 3, 60.0), scored("b", 1, 2, 3, 60.0)],
        Selection(2, 2, "paper", fired=False),
        scored("target", 1, 2, 3, 60.0),
    )
    assert [line.rpartition(",")[2] for line in to_csv(went).splitlines()] == [
        "selected",
        "",
        "",
        "paper (selected none)",
    ]


def test_without_a_composites_columns_there_is_no_composite() -> None:
    went = trajectory([scored("a", 1.0)], Selection(1, 1, "last"), scored("target", 2.0))
    assert to_csv(went) == (
        "epoch,verbmem_f,verbmem_f_low,verbmem_f_high,selected\n"
        "0,2.0000,1.0000,3.0000,\n"
        "1,1.0000,0.0000,2.0000,last\n"
    )


def test_numbers_have_four_decimals_and_no_negative_zero() -> None:
    assert [number(value) for value in (None, -0.00001, 1.23456)] == ["", "0.0000", "1.2346"]
