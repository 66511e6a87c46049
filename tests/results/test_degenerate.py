"""The flag ``degenerate``: variety by hand, the rule, and what of it reaches rows of new and old results."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.results import StoredResult, load
from muse_eval.results.degenerate import ALONE, FLAG, broken, judged, limit, mean_variety, measured, variety
from muse_eval.results.grid import remarks
from muse_eval.results.rows import FLAGS, meaning, rows
from muse_eval.results.runs import save
from muse_eval.types import Record, Result, Score

LOOP = "the guild of " * 30
PROSE = "Harvest came early, and nobody in the valley knew why the bells had fallen silent before noon."


# ── variety ──────────────────────────────────────────────────────────────────────────────────────
def test_variety_by_hand() -> None:
    """Six letters have two 5-grams, each once: 1. Seven equal ones have three, all the same: exp(0)/3.

    "abcabcabc" has five: abcab, bcabc, cabca, abcab, bcabc: H = 2·0.4·ln 2.5 + 0.2·ln 5.
    """
    assert variety("abcdef") == pytest.approx(1)
    assert variety("aaaaaaa") == pytest.approx(1 / 3)
    entropy = 0.8 * math.log(2.5) + 0.2 * math.log(5)
    assert variety("abcabcabc") == pytest.approx(math.exp(entropy) / 5)


def test_what_is_empty_says_nothing_and_a_short_answer_all_that_it_can() -> None:
    assert variety("") == variety(" \n\t") == 0
    assert variety("no") == variety("1985") == 1
    assert variety("a  b\n\nc d") == variety("a b c d")


def test_loops_and_prose_lie_far_apart_in_any_script() -> None:
    assert variety(LOOP) < 0.05
    assert variety(PROSE) > 0.95
    assert variety("東京は日本の首都で、人口が最も多い都市である。") == pytest.approx(1)
    assert variety("東京東京東京東京東京東京東京東京") < 0.3


@given(st.text())
def test_variety_is_a_share(text: str) -> None:
    assert 0 <= variety(text) <= 1


# ── the rule ─────────────────────────────────────────────────────────────────────────────────────
def test_the_limit_is_half_of_the_less_varied_reference() -> None:
    assert limit([0.8, 0.62], "verbmem") == pytest.approx(0.31)
    assert limit([0.9], "verbmem") == pytest.approx(0.45)


def test_a_reference_that_says_nothing_itself_sets_no_limit() -> None:
    assert limit([0.8, 0.1], "verbmem") == pytest.approx(0.4)
    assert limit([0.1], "verbmem") == limit([], "verbmem") == ALONE["verbmem"]
    assert limit([None], "other") == min(ALONE.values())


def test_none_of_no_responses() -> None:
    assert mean_variety([]) is None
    assert mean_variety(["", "no"]) == 0.5


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────
def run(name: str, responses: list[str]) -> Result:
    records = tuple(Record("forget", i, {"rougeL": 0.0}, {"response": r}) for i, r in enumerate(responses))
    columns = {
        "verbmem_f": Score(0.0, (0.0, 0.0), len(records), records=records),
        "privleak": Score(0.0, None, 1, ("saturated",), records=(Record("forget", 0, {"PPL": 1.0}),)),
    }
    config = {"task": {"columns": {"verbmem_f": {"metric": "verbmem"}, "privleak": {"metric": "privleak"}}}}
    return Result("t", name, {"id": name}, columns, {}, config, {}, 0.0)


def stored(folder: Path, result: Result) -> StoredResult:
    save(result, folder / result.name)
    found = load(folder / result.name)
    assert found is not None
    return found


METRICS = {"verbmem_f": "verbmem", "privleak": "privleak"}
MIDDLING = [PROSE, PROSE, LOOP, LOOP, LOOP]
"""Its mean variety, 0.42, is over what holds alone and under half of prose's."""


def test_a_run_is_flagged_by_its_own_responses() -> None:
    looping, plain = measured(run("npo", [LOOP] * 3), METRICS), measured(run("npo", [PROSE] * 3), METRICS)
    assert looping.columns["verbmem_f"].flags == (FLAG,)
    assert looping.columns["privleak"].flags == ("saturated",)
    assert looping.extras["verbmem_f"]["variety"] == pytest.approx(variety(LOOP))
    assert plain.columns["verbmem_f"].flags == ()
    assert measured(run("npo", [""] * 3), METRICS).columns["verbmem_f"].flags == (FLAG,)


@pytest.mark.parametrize("old", [False, True])
def test_target_and_retrain_set_the_limit_for_results_new_and_old(tmp_path: Path, old: bool) -> None:
    made = {"target": [PROSE], "retrain": [PROSE], "npo": MIDDLING, "plain": [PROSE]}
    results = [run(name, responses) for name, responses in made.items()]
    kept = [stored(tmp_path, one if old else measured(one, METRICS)) for one in results]
    assert [one.columns["verbmem_f"].flags for one in kept] == [(), (), (), ()]
    flags = {one["name"]: one["columns"]["verbmem_f"].flags for one in rows(kept)}
    assert flags == {"target": (), "retrain": (), "npo": (FLAG,), "plain": ()}
    # Alone it is not.
    assert rows(kept[2:])[0]["columns"]["verbmem_f"].flags == ()


def test_a_looping_retrain_model_makes_no_loop_of_its_own_kind_a_flag(tmp_path: Path) -> None:
    """Where retrain is at 0.42 itself, another at 0.42 is as it should be; and the file stays as it is."""
    kept = [stored(tmp_path, measured(run(name, MIDDLING), METRICS)) for name in ("retrain", "npo")]
    before = (tmp_path / "npo" / "result.json").read_bytes()
    assert [one.columns["verbmem_f"].flags for one in judged(kept)] == [(), ()]
    assert (tmp_path / "npo" / "result.json").read_bytes() == before


def test_an_old_result_without_its_records_keeps_its_flags(tmp_path: Path) -> None:
    one = stored(tmp_path, run("npo", [LOOP]))
    assert judged([one])[0].columns["verbmem_f"].flags == (FLAG,)
    (tmp_path / "npo" / "records.jsonl").unlink()
    assert judged([one])[0].columns["verbmem_f"].flags == ()


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (["target", "retrain"], "less than half as varied as target's and retrain's"),
        (["retrain"], "less than half as varied as retrain's"),
        ([], "under 0.3, the bound where no sound target or retrain model is at hand"),
    ],
)
def test_a_cell_says_by_which_bound_it_is_flagged(tmp_path: Path, beside: list[str], said: str) -> None:
    found = [stored(tmp_path / name, run(name, [PROSE])) for name in beside]
    (row,) = (
        one for one in rows([*found, stored(tmp_path / "npo", run("npo", [LOOP]))]) if one["name"] == "npo"
    )
    cell = row["columns"]["verbmem_f"]
    assert meaning(cell, FLAG).endswith(said)
    assert remarks(cell)[0] == f"{FLAG}: {meaning(cell, FLAG)}"


def test_broken_names_the_flags_of_a_ruined_model() -> None:
    assert broken(["degenerate", "saturated", "collapsed", "collapsed"]) == ["collapsed", "degenerate"]
    assert broken(["saturated"]) == []
    assert FLAG in FLAGS
