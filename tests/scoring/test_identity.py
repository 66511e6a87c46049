"""Which runs are the same: what was asked of which model, whatever is noted beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from muse_eval.config.spec import fingerprint
from muse_eval.errors import UserError
from muse_eval.results.lineage import ForgetSet, Lineage
from muse_eval.results.runs import StoredResult
from muse_eval.results.selection import Selection
from muse_eval.scoring import identity

NESTED = ForgetSet("npo", "scal/forget_2", 2, 4, "nested", 57, 1234)
MODEL = {"engine": "hf", "weights": "aa" * 32, "tokenizer": "bb" * 32, "dtype": "float32"}
RETRAIN = {**MODEL, "weights": "cc" * 32}


def asked(**changes: Any) -> dict[str, Any]:
    columns = {
        "privleak": {"title": "PrivLeak", "metric": "privleak", "splits": {"forget": "privleak/forget"}},
        "verbmem_f": {"title": "VerbMem Df", "metric": "verbmem", "splits": {"forget": "verbmem/forget"}},
    }
    return {
        "task": {"name": "t", "title": "T", "source": "s", "columns": columns, "retrain_auc": {}},
        "data": {"source": "folder", "sha256": {"privleak/forget": "dd" * 32}},
        "model": MODEL,
        "retrain": RETRAIN,
        "columns": {"privleak": {"k": 0.4}},
        "limit": None,
        "seed": 0,
        **changes,
    }


def stored(known: dict[str, Any], **extras: Any) -> StoredResult:
    """Return a result of these settings, as it comes from its file."""
    whole = {
        "schema_version": 1,
        "task": "t",
        "name": "npo",
        "model": {},
        "columns": {},
        "config": known,
        "extras": extras,
        "provenance": {"retrain": {"path": "there/retrain"}, "engine": {"path": "models/npo"}},
        "seconds": 1.0,
    }
    return StoredResult.model_validate_json(json.dumps(whole))


def changed_task(**changes: Any) -> dict[str, Any]:
    task = asked()["task"]
    return {**asked(), "task": {**task, **changes}}


def changed_columns(**changes: Any) -> dict[str, Any]:
    columns = asked()["task"]["columns"]
    return changed_task(columns={**columns, "privleak": {**columns["privleak"], **changes}})


def test_a_fingerprint_is_what_it_always_was() -> None:
    """Stored results stay valid: made stands before the fingerprint, which is over all that is before it."""
    plain = identity.settings(asked(), {})
    assert list(plain) == [*asked(), "fingerprint"]
    assert plain["fingerprint"] == fingerprint(asked())
    lineage = identity.settings(asked(), Lineage("r").settings())
    assert list(lineage) == [*asked(), "made", "fingerprint"]
    assert lineage["fingerprint"] == fingerprint({**asked(), "made": {"recipe": "r"}})


@pytest.mark.parametrize(
    "noted",
    [
        changed_task(title="Another"),
        changed_task(source="elsewhere"),
        changed_columns(title="Another"),
        changed_task(columns={"privleak": asked()["task"]["columns"]["privleak"]}),
        asked(data={"source": "hub", "repo": "a/b", "sha256": asked()["data"]["sha256"]}),
        {**asked(), "made": {"recipe": "r"}},
        # Published AUCs say nothing where the retrain model was measured.
        changed_task(retrain_auc={"Min-40%": 0.5}),
    ],
    ids=["title", "source", "column title", "column not scored", "place of data", "made", "published"],
)
def test_notes_make_no_other_run(noted: dict[str, Any]) -> None:
    assert identity.same(noted, asked())


def test_a_default_that_is_stored_or_not_makes_no_difference() -> None:
    spec = {"title": "K", "metric": "knowmem", "splits": {"qa": "q"}}
    plain, stated, other = (
        {**changed_task(columns={"k": spec}), "columns": {"k": {"shots": 3, **params}}}
        for params in ({}, {"answer_space": True}, {"answer_space": False})
    )
    assert identity.same(plain, stated)
    assert not identity.same(plain, other)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (asked(seed=1), "seed 0, now 1"),
        (asked(limit=3), "limit none, now 3"),
        (asked(columns={"privleak": {"k": 0.2}}), "columns.privleak.k 0.4, now 0.2"),
        (changed_task(name="u"), "task t, now u"),
        (changed_columns(metric="attack"), "columns.privleak.metric privleak, now attack"),
        (
            changed_columns(splits={"forget": "raw/forget"}),
            "columns.privleak.splits.forget privleak/forget, now raw/forget",
        ),
        (
            asked(data={"source": "folder", "sha256": {"privleak/forget": "ee" * 32}}),
            "data.privleak/forget dddddddd, now eeeeeeee",
        ),
        (asked(model={**MODEL, "dtype": "bfloat16"}), "model.dtype float32, now bfloat16"),
        (
            asked(model={**MODEL, "dtype": "x"}, retrain={**RETRAIN, "dtype": "x"}),
            "model.dtype float32, now x",
        ),
        (asked(model={**MODEL, "engine": "vllm", "weights": "ff" * 32}), "engine hf, now vllm"),
        (
            asked(columns={"verbmem_f": {}}, data={"sha256": {"verbmem/forget": "aa"}}),
            "privleak scored, now left out; verbmem_f left out, now scored",
        ),
    ],
)
def test_another_run_is_refused_by_what_differs(other: dict[str, Any], told: str, tmp_path: Path) -> None:
    there = stored(identity.settings(asked(), {}))
    with pytest.raises(UserError) as caught:
        identity.settle(tmp_path, there, other, None, overwrite=False)
    assert str(caught.value) == (
        f"{tmp_path} holds a run with other settings ({told}); "
        "give --name for a new one (in a sweep NAME=MODEL), or --overwrite"
    )
    assert identity.settle(tmp_path, there, other, None, overwrite=True)[0]["seed"] == other["seed"]


def test_what_it_was_scored_against_and_whose_it_is_are_named(tmp_path: Path) -> None:
    there = stored(identity.settings(asked(), {}))
    other = asked(retrain=None, model={**MODEL, "weights": "ff" * 32})
    with pytest.raises(UserError) as caught:
        identity.settle(tmp_path, there, other, None, overwrite=False)
    told = "(model.weights aaaaaaaa, now ffffffff; retrain cccccccc, now none)"
    assert f"{told}; it was scored with --retrain there/retrain; it is of models/npo; give" in str(
        caught.value
    )


def test_a_plain_run_keeps_how_the_model_was_made(tmp_path: Path) -> None:
    lineage = Lineage("r", NESTED, selection=Selection(2, 4, "paper"))
    known = identity.settings(asked(), lineage.settings())
    for overwrite in (False, True):
        settled = identity.settle(tmp_path, stored(known, notes=lineage.notes()), asked(), None, overwrite)
        assert settled == (known, lineage.notes())


def test_the_pipeline_takes_over_a_plain_run_and_adds_how_the_model_was_made(tmp_path: Path) -> None:
    lineage = Lineage("r", NESTED)
    there = stored(identity.settings(asked(), {}))
    assert identity.settle(tmp_path, there, asked(), lineage, overwrite=False) == (
        identity.settings(asked(), lineage.settings()),
        lineage.notes(),
    )


@pytest.mark.parametrize(
    "config", [{}, {"task": "t", "columns": [], "model": 3, "retrain": "x", "data": None}]
)
def test_settings_that_someone_else_wrote_are_another_run(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds a run with other settings \(.+\); give --name"):
        identity.settle(tmp_path, stored(config), asked(), None, overwrite=False)


def test_a_result_holds_what_is_asked_only_of_the_same_models_and_code() -> None:
    known = identity.settings(asked(), {})
    there, origin = stored(known), {"retrain": {"path": "there/retrain"}, "commit": "another"}
    assert identity.holds(there, known, origin)
    assert not identity.holds(there, known, {**origin, "code": "0"})
    assert not identity.holds(there, known, {**origin, "versions": {"torch": "0"}})
    assert not identity.holds(there, known, {**origin, "engine": {}})
    # What our own version changed is told by the code's digest.
    assert identity.holds(there, known, {**origin, "versions": {"muse-eval": "0"}})
    assert not identity.holds(there, identity.settings(asked(seed=1), {}), origin)


def test_what_is_asked_for_more_columns_may_take_its_own_place(tmp_path: Path) -> None:
    lineage = Lineage("r")
    there = stored(identity.settings(asked(), lineage.settings()))
    task = asked()["task"]
    spec = {"title": "V", "metric": "verbmem", "goal": "lower", "splits": {"forget": "verbmem/forget"}}
    more = asked(
        task={**task, "columns": {**task["columns"], "verbmem_f": spec}},
        columns={**asked()["columns"], "verbmem_f": {}},
        data={"sha256": {**asked()["data"]["sha256"], "verbmem/forget": "aa" * 32}},
    )
    settled, _ = identity.settle(tmp_path, there, more, None, overwrite=False)
    assert settled == identity.settings(more, lineage.settings())
    with pytest.raises(UserError, match="verbmem_f scored, now left out"):
        identity.settle(tmp_path, stored(settled), asked(), None, overwrite=False)
    with pytest.raises(UserError, match=r"seed 0, now 1; verbmem_f left out, now scored"):
        identity.settle(tmp_path, there, {**more, "seed": 1}, None, overwrite=False)
