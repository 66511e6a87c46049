"""What a run's settings say of how its model was made, and which runs only select another epoch."""

from typing import Any

from muse_eval.results.lineage import Epoch, ForgetSet, Lineage, but_the_checkpoint, reselected
from muse_eval.results.selection import Selection

NESTED = ForgetSet("npo", "scal/forget_2", 2, 4, "nested", 57, 1234)


def settings(lineage: Lineage, weights: str = "a", **changes: Any) -> dict[str, Any]:
    model = {"engine": "hf", "weights": weights, "dtype": "float32"}
    whole = {"task": {"name": "t"}, "model": model, "columns": {"privleak": {"ks": (0.4,)}}, **changes}
    known = lineage.settings()
    return {**whole, **({"made": known} if known else {}), "fingerprint": repr(whole)}


def test_a_plain_result_names_its_recipe_alone() -> None:
    assert Lineage("r").settings() == {"recipe": "r"}
    assert Lineage("r").notes() == {}


def test_selection_and_fold_are_settings() -> None:
    assert Lineage("r", selection=Selection(2, 4, "paper")).settings() == {
        "selection": {"epoch": 2, "of": 4, "rule": "paper", "fired": True, "composite": None},
        "recipe": "r",
    }
    assert Lineage("r", NESTED).settings() == {
        "fold": {
            "method": "npo",
            "split": "scal/forget_2",
            "number": 2,
            "of": 4,
            "mode": "nested",
            "texts": 57,
            "tokens": 1234,
        },
        "recipe": "r",
    }
    assert Lineage("r", epoch=Epoch(1, 4)).settings() == {"epoch": {"number": 1, "of": 4}, "recipe": "r"}


def test_notes_say_where_a_fold_began() -> None:
    assert Lineage("r", NESTED).notes() == {"fold": "forgets scal/forget_2, fold 2 of 4, from the target"}
    first = ForgetSet("npo", "sust/forget_1", 1, 4, "sequential", 28, None)
    assert Lineage("r", first).notes()["fold"].endswith("fold 1 of 4, from the target")
    second = ForgetSet("npo", "sust/forget_2", 2, 4, "sequential", 29, None)
    assert Lineage("r", second).notes()["fold"].endswith("from the model that forgot the fold before")


def test_the_default_rule_needs_no_note() -> None:
    assert Lineage("r", selection=Selection(4, 4, "last")).notes() == {}
    assert "selection" in Lineage("r", selection=Selection(4, 4, "best", composite="balance")).notes()


def test_another_epoch_of_the_same_unlearning_may_take_a_runs_place() -> None:
    """The stored settings come from JSON: a tuple has become a list there."""
    paper = settings(Lineage("r", selection=Selection(2, 4, "paper")), columns={"privleak": {"ks": [0.4]}})
    best = settings(Lineage("r", selection=Selection(3, 4, "best", composite="balance")), weights="b")
    assert reselected(paper, best, "r")
    assert reselected(paper, settings(Lineage("r"), weights="b"), "r")
    assert reselected(settings(Lineage("r"), weights="b"), paper, "r")


def test_nothing_else_may() -> None:
    paper = settings(Lineage("r", selection=Selection(2, 4, "paper")))
    best = Lineage("r", selection=Selection(3, 4, "best"))
    assert not reselected(paper, settings(best, columns={"privleak": {"ks": (0.2,)}}), "r")
    assert not reselected(paper, settings(best), "another recipe")
    assert not reselected(settings(Lineage("q")), settings(best), "r")
    assert not reselected(paper, settings(Lineage("r", NESTED, selection=Selection(3, 4, "best"))), "r")
    quantized = {"engine": "hf", "weights": "a", "dtype": "bfloat16"}
    assert not reselected(paper, settings(best, model=quantized), "r")
    assert not reselected({}, settings(best), "r")


def test_only_the_checkpoint_is_left_out() -> None:
    one, other = settings(Lineage("r", epoch=Epoch(1, 2))), settings(Lineage("s"), weights="b")
    assert but_the_checkpoint(one) == but_the_checkpoint(other)
    assert but_the_checkpoint(one) != but_the_checkpoint({**other, "seed": 1})
