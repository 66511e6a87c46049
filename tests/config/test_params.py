"""What of a metric's parameters is stored, told and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config.groups import column_changes, scored_groups, sort_settings
from muse_eval.config.params import deciding, departures, filled, stated
from muse_eval.config.spec import fingerprint
from muse_eval.config.task import TaskSpec
from muse_eval.errors import UserError
from muse_eval.metrics import knowmem, privleak, verbmem
from muse_eval.pipelines.config import PipelineConfig
from muse_eval.pipelines.config import check as check_pipeline

OLD: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "cases" / "settings_0.1.0.json").read_text(encoding="utf-8")
)
"""The settings of a run as version 0.1.0 stored them."""


# ── stored settings ──────────────────────────────────────────────────────────────────────────────
def test_settings_are_those_of_0_1_0_where_nothing_departs() -> None:
    kinds = {"verbmem_f": verbmem, "knowmem_f": knowmem, "privleak": privleak, "knowmem_r": knowmem}
    now = {name: stated(kind.Params()) for name, kind in kinds.items()}
    assert now == OLD["columns"]
    rest = {key: value for key, value in OLD.items() if key != "fingerprint"}
    assert fingerprint({**rest, "columns": now}) == OLD["fingerprint"]


def test_a_departure_is_stored_and_makes_another_run() -> None:
    changed = stated(knowmem.Params(answer_space=False))
    assert changed == {**OLD["columns"]["knowmem_f"], "answer_space": False}
    assert "answer_space" not in stated(knowmem.Params(shots=3))
    assert filled(knowmem.Params, {"shots": 3}) == {"shots": 3, "answer_space": True}
    assert filled(knowmem.Params, changed) == changed


def test_only_departures_are_told() -> None:
    assert departures(knowmem.Params, {"shots": 3, "answer_space": False}) == {"answer_space": False}
    assert departures(knowmem.Params, {"shots": 3, "answer_space": True}) == {}
    assert departures(knowmem.Params, {}) == {}


def test_what_decides_a_value_has_its_default_where_it_is_not_stored() -> None:
    expected = {"max_tokens": 32, "shots": 3, "answer_space": True}
    assert deciding(knowmem.Params, {"shots": 3, "truncate": True}) == expected
    assert deciding(privleak.Params, {"retain": True, "lower": True}) == {"k": 0.4}


# ── groups ───────────────────────────────────────────────────────────────────────────────────────
def spec(**columns: str) -> TaskSpec:
    """Return a task with columns of these metrics; only their names matter here."""
    made = {
        name: {"title": name, "metric": kind, "goal": "lower", "splits": {}} for name, kind in columns.items()
    }
    return TaskSpec.model_validate(
        {"name": "t", "title": "T", "source": "s", "data": {"source": "folder"}, "columns": made}
    )


def test_a_metric_s_name_stands_for_all_its_columns() -> None:
    task = spec(f="knowmem", r="knowmem", v="verbmem")
    groups = sort_settings({"knowmem.answer_space": False, "f.shots": 2, "engine.batch_tokens": 9}, task)
    assert column_changes(groups, task, "f") == {"answer_space": False, "shots": 2}
    assert column_changes(groups, task, "r") == {"answer_space": False}
    assert column_changes(groups, task, "v") == {}


def test_a_column_s_own_value_goes_before_its_metric_s() -> None:
    task = spec(f="knowmem", r="knowmem")
    for order in (1, -1):
        pairs = dict([("f.shots", 2), ("knowmem.shots", 5)][::order])
        groups = sort_settings(pairs, task)
        assert [column_changes(groups, task, name)["shots"] for name in ("f", "r")] == [2, 5]


def test_a_column_named_after_a_metric_is_meant_alone() -> None:
    task = spec(privleak="privleak", other="privleak", verbmem="knowmem", text="verbmem")
    assert scored_groups(task)["privleak"] == ["privleak"]
    groups = sort_settings({"privleak.k": 0.2, "verbmem.shots": 1}, task)
    assert column_changes(groups, task, "privleak") == {"k": 0.2}
    assert column_changes(groups, task, "other") == {}
    assert column_changes(groups, task, "verbmem") == {"shots": 1}
    assert column_changes(groups, task, "text") == {}


def test_an_unknown_group_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--set knowmen\.…: .*knowmem"):
        sort_settings({"knowmen.shots": 2}, spec(f="knowmem"))


def test_a_pipeline_hands_a_metric_s_settings_to_every_run_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    config = PipelineConfig(
        task="muse_mini",
        methods=("npo",),
        results=tmp_path,
        settings={"knowmem.answer_space": False, "npo.beta": 0.2},
    )
    check_pipeline(config)
    task = plugins.task("muse_mini")
    assert config.scoring(task, "m", "r", "n").settings == {"knowmem.answer_space": False}
    wrong = config.model_copy(update={"settings": {"knowmem.anser_space": False}})
    with pytest.raises(UserError, match=r"anser_space.*answer_space"):
        check_pipeline(wrong)
