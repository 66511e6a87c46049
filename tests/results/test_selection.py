"""The rules that select an epoch, on trajectories made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.errors import UserError
from muse_eval.results.composites import COMPOSITES
from muse_eval.results.selection import (
    RULES,
    Scores,
    Selection,
    check_retrain,
    check_rule,
    explain,
    select,
    selectable,
)

COLUMNS = ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
RETRAIN: Scores = {"verbmem_f": 20.0, "knowmem_f": 30.0, "privleak": 0.0, "knowmem_r": 55.0}


def epoch(
    knowmem_f: float | None = 50.0, knowmem_r: float | None = 60.0, privleak: float | None = 0.0
) -> Scores:
    return {"verbmem_f": 0.0, "knowmem_f": knowmem_f, "privleak": privleak, "knowmem_r": knowmem_r}


def test_last_is_the_last_whatever_the_scores() -> None:
    assert select("last", [epoch(None, None, None)] * 3, dict.fromkeys(COLUMNS)) == Selection(3, 3, "last")


def test_paper_stops_where_utility_first_falls_below_retrains() -> None:
    """Retrain's is 55: equal in epoch 2 is not below; epochs 3 and 5 are, and the first counts."""
    went = [epoch(knowmem_r=value) for value in (60.0, 55.0, 54.9, 58.0, 10.0)]
    assert select("paper", went, RETRAIN) == Selection(3, 5, "paper")


def test_released_stops_where_forget_knowledge_first_comes_down_to_retrains() -> None:
    """Retrain's is 30: equal in epoch 2 is enough."""
    went = [epoch(knowmem_f=value) for value in (30.1, 30.0, 5.0)]
    assert select("released", went, RETRAIN) == Selection(2, 3, "released")


def test_best_is_the_highest_composite_and_the_earliest_of_equals() -> None:
    """With VerbMem and PrivLeak at 0, balance is (KR + (100 + 100 − KF + 100)/3)/2.

    (60 + 250/3)/2 = 71.7; (90 + 210/3)/2 = 80; (80 + 240/3)/2 = 80; (70 + 270/3)/2 = 80: a tie of 2, 3, 4.
    """
    went = [epoch(50.0, 60.0), epoch(90.0, 90.0), epoch(60.0, 80.0), epoch(30.0, 70.0)]
    assert select("best", went, RETRAIN) == Selection(2, 4, "best", composite="balance")


def test_best_passes_over_ruined_models_and_the_other_rules_do_not() -> None:
    went = [epoch(50.0, 60.0), epoch(90.0, 90.0), epoch(60.0, 80.0), epoch(30.0, 70.0)]
    assert select("best", went, RETRAIN, ruined=(2, 3)) == Selection(4, 4, "best", composite="balance")
    assert select("best", went, RETRAIN, ruined=(1, 2, 3, 4)) == Selection(4, 4, "best", False, "balance")
    assert select("released", went, RETRAIN, ruined=(4,)).epoch == 4
    assert selectable(went, RETRAIN, ruined=(2,)) > selectable(went, RETRAIN)


def test_composites_may_disagree() -> None:
    """A leak of −90 costs balance (60 + (100 + 80 + 10)/3)/2 = 61.7 against (50 + 270/3)/2 = 70, and

    harmonic nothing: 3/(1/100 + 1/80 + 1/60) = 76.6 against 3/(1/100 + 1/70 + 1/50) = 67.7.
    """
    went = [epoch(20.0, 60.0, -90.0), epoch(30.0, 50.0, 0.0)]
    assert select("best", went, RETRAIN, "balance").epoch == 2
    assert select("best", went, RETRAIN, "harmonic").epoch == 1


@pytest.mark.parametrize(
    ("rule", "went"),
    [
        ("paper", [epoch(knowmem_r=60.0), epoch(knowmem_r=55.0)]),
        ("released", [epoch(knowmem_f=40.0), epoch(knowmem_f=30.01)]),
        ("best", [epoch(privleak=None), epoch(knowmem_r=None)]),
    ],
)
def test_a_rule_that_selects_none_leaves_the_last_and_says_so(rule: str, went: list[Scores]) -> None:
    found = select(rule, went, RETRAIN)
    assert (found.epoch, found.of, found.fired) == (2, 2, False)
    assert explain(found).startswith(f"epoch 2 of 2, the last: the rule {rule!r} selected none, as ")


def test_an_undefined_score_never_decides() -> None:
    """An epoch whose deciding cell is undefined is passed over; another's undefined cell changes nothing."""
    went = [epoch(None, None), epoch(30.0, 10.0, None), epoch(20.0, 5.0)]
    assert select("paper", went, RETRAIN).epoch == 2
    assert select("released", went, RETRAIN).epoch == 2
    assert select("best", went, RETRAIN).epoch == 3


@pytest.mark.parametrize("rule", RULES)
def test_one_epoch_is_the_one(rule: str) -> None:
    assert select(rule, [epoch()], RETRAIN).epoch == 1


def test_what_a_rule_compares_with_must_be_defined() -> None:
    blank: Scores = dict.fromkeys(COLUMNS)
    with pytest.raises(
        UserError, match="--select paper compares with retrain's knowmem_r, which is undefined"
    ):
        check_retrain("paper", blank)
    with pytest.raises(UserError, match="--select released compares with retrain's knowmem_f"):
        select("released", [epoch()], blank)
    assert select("best", [epoch()], blank).fired


def test_columns_that_a_task_lacks_are_named() -> None:
    with pytest.raises(UserError, match="--select paper needs the columns knowmem_r, which are not scored"):
        check_rule("paper", "balance", ["verbmem_f", "knowmem_f"])
    with pytest.raises(UserError, match="--select best needs the columns privleak, knowmem_r"):
        check_rule("best", "harmonic", ["verbmem_f", "knowmem_f"])
    check_rule("released", "balance", ["knowmem_f"])
    check_rule("last", "balance", ["verbmem_f"])


def test_names_that_do_not_exist_are_told_the_nearest() -> None:
    with pytest.raises(UserError, match="no selection rule 'papr'; did you mean 'paper'"):
        check_rule("papr", "balance", COLUMNS)
    with pytest.raises(UserError, match="no composite 'balanse'; did you mean 'balance'"):
        check_rule("best", "balanse", COLUMNS)


def test_reasons_name_rule_and_composite() -> None:
    assert explain(Selection(2, 5, "best", composite="harmonic")) == (
        "epoch 2 of 5, selected by the rule 'best': the epoch with the highest composite 'harmonic'"
    )
    assert explain(Selection(1, 3, "paper")).endswith(
        "the first epoch whose KnowMem Dr is below retrain's (MUSE, section 5.1)"
    )


def test_selectable_is_what_any_rule_selects() -> None:
    """Paper: epoch 2 (50 < 55). Released: 3 (30 ≤ 30). Last: 5. Best: 1 by either composite.

    Balance is (60 + 250/3)/2 = 71.7, 66.7, (40 + 270/3)/2 = 65, 60, 55; harmonic
    3/(1/100 + 1/50 + 1/60) = 64.3, 3/(0.01 + 0.02 + 0.02) = 60, 3/(0.01 + 1/70 + 1/40) = 60.9, less, less.
    """
    went = [epoch(50.0, 60.0), epoch(50.0, 50.0), epoch(30.0, 40.0), epoch(30.0, 30.0), epoch(30.0, 20.0)]
    assert selectable(went, RETRAIN) == {1, 2, 3, 5}
    # Without retrain's scores two rules cannot be put, and without columns best cannot either.
    assert selectable(went, dict.fromkeys(COLUMNS)) == {1, 5}
    assert selectable([{"knowmem_f": 10.0}, {"knowmem_f": 5.0}], {"knowmem_f": 30.0}) == {1, 2}


def test_selectable_holds_what_each_composite_selects() -> None:
    """As where they disagree: balance takes epoch 2, harmonic 1; the last is 4, the other rules never fire.

    Balance of 3 and 4 is (10 + (100 + 10 + 10)/3)/2 = 25, and their harmonic mean 3/(1/100 + 1/10 + 1/10).
    """
    went = [epoch(20.0, 60.0, -90.0), epoch(30.0, 50.0, 0.0), *[epoch(90.0, 10.0, 90.0)] * 2]
    never = {"verbmem_f": 0.0, "knowmem_f": 0.0, "privleak": 0.0, "knowmem_r": 0.0}
    assert selectable(went, never) == {1, 2, 4}
    # A rule that cannot be put does not hide those after it.
    assert selectable(went, dict.fromkeys(COLUMNS)) == {1, 2, 4}


cell = st.none() | st.floats(0, 100)
scored = st.fixed_dictionaries(dict.fromkeys(COLUMNS, cell))


@given(st.lists(scored, min_size=1, max_size=6), scored)
def test_no_epoch_before_the_selected_one_would_have_done(went: list[Scores], retrain: Scores) -> None:
    for rule, column in (("paper", "knowmem_r"), ("released", "knowmem_f")):
        bar = retrain[column]
        if bar is None:
            continue
        found = select(rule, went, retrain)
        holds = [
            value is not None and (value < bar or (rule == "released" and value == bar))
            for value in (scores[column] for scores in went)
        ]
        assert found.fired == any(holds)
        assert not any(holds[: found.epoch - 1])
        assert holds[found.epoch - 1] or found.epoch == len(went)
    for name in COMPOSITES:
        assert select("best", went, retrain, name).epoch in selectable(went, retrain)
