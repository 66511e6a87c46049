"""The rule that chooses the demonstration's settings, and that the task has what it chose."""

import csv
from pathlib import Path

import pytest
import yaml

from benchmarks import demo_settings
from benchmarks.demo_settings import Tried, choose, distance, to_csv, trials, with_settings
from muse_eval import plugins

RETRAIN = {"verbmem_f": 23.0, "knowmem_f": 16.0, "privleak": 0.0, "knowmem_r": 100.0}
CHOSEN = Path("results/project") / demo_settings.CSV


def tried(lr: float, apart: float | None, kept: float, flags: tuple[str, ...] = ()) -> Tried:
    setting = {"lr": lr, "lambda": 4.0, "epochs": 2}
    return Tried("npo_gdr", setting, {"knowmem_r": kept}, list(flags), apart, apart is not None and not flags)


def test_distance_is_the_mean_of_three_whichever_way_they_lie() -> None:
    """(|13 − 23| + |26 − 16| + |−40|)/3 = 20; of what was not scored on all three there is none."""
    values = {"verbmem_f": 13.0, "knowmem_f": 26.0, "privleak": -40.0, "knowmem_r": 90.0}
    assert distance(values, RETRAIN) == pytest.approx(20)
    assert distance({"knowmem_r": 10.0}, RETRAIN) is None


def test_the_nearest_that_passes_on_both_worlds_is_chosen_and_the_first_of_equals() -> None:
    far, near, equal = tried(2e-4, 60, 99), tried(1e-4, 20, 91), tried(4e-4, 20, 95)
    own = [tried(3e-4, 5, 99, ("degenerate",)), far, near, equal]
    assert choose(own, lambda _: True).best is near
    choice = choose(own, lambda one: one is far)
    assert (choice.best, choice.elsewhere) == (far, {2: False, 3: False, 1: True})
    lines = list(csv.DictReader(to_csv([choice]).splitlines()))
    assert [line["passes"] for line in lines] == ["no", "yes", "yes", "yes"]
    assert [line["elsewhere"] for line in lines] == ["", "yes", "no", "no"]
    assert [line["chosen"] for line in lines] == ["", "yes", "", ""]


def test_where_none_passes_the_most_useful_is_chosen() -> None:
    own = [tried(2e-4, None, 40), tried(1e-4, None, 60)]
    assert choose(own, lambda _: True).best is own[1]
    assert choose([tried(1e-4, 20, 91), *own], lambda _: False).best.values["knowmem_r"] == 91


def test_every_method_has_the_same_budget() -> None:
    assert {len(trials(name)) for name in plugins.method_names()} == {4}


def test_the_worlds_chosen_on_are_none_of_the_tables() -> None:
    from benchmarks.reproduce import SEEDS

    assert not {demo_settings.SEED, demo_settings.OTHER} & set(SEEDS)


def test_settings_go_into_the_yaml_beside_parameters_and_change_nothing_else() -> None:
    before = demo_settings.TASK.read_text(encoding="utf-8")
    after = with_settings(before, {"rmu": {"lr": 1.5e-4, "epochs": 3}, "npo@released": {"lambda": 10.0}})
    was, now = yaml.safe_load(before)["unlearn"], yaml.safe_load(after)["unlearn"]
    assert now["methods"]["rmu"] == was["methods"]["rmu"] | {"lr": 1.5e-4, "epochs": 3}
    assert now["methods"]["npo@released"]["lambda"] == 10.0
    assert {**now, "methods": None} == {**was, "methods": None}
    assert with_settings(after, {}) == after
    changed = {line for line in after.splitlines() if line not in before.splitlines()}
    assert len(changed) <= 2


def test_the_task_has_what_was_chosen() -> None:
    with CHOSEN.open(encoding="utf-8") as file:
        chosen = [line for line in csv.DictReader(file) if line["chosen"]]
    methods = plugins.task("muse_mini").unlearn.methods
    for line in chosen:
        given = methods[line["method"]].given
        for name in ("lr", "lambda", "alpha", "epochs"):
            if line[name]:
                assert float(given[name]) == float(line[name]), (line["method"], name)
    assert chosen
