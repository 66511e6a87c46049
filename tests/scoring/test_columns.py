"""Which columns ``--metrics`` means, and what an optional one is asked like."""

from __future__ import annotations

from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config import ColumnSpec, RunConfig, sort_settings
from muse_eval.errors import UserError
from muse_eval.metrics import beside, knowmem
from muse_eval.scoring.columns import choose, optional_metrics
from muse_eval.scoring.plan import plan
from muse_eval.types import Generate

OWN = ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
HOSTS = ("verbmem_f", "knowmem_f", "knowmem_r")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ((), OWN),
        (("privleak",), ("privleak",)),
        (("+extraction",), (*OWN, *(f"extraction_{one}" for one in HOSTS))),
        (("+exact_knowmem_f",), (*OWN, "exact_knowmem_f")),
        (("knowmem_r", "+fluency_verbmem_f"), ("knowmem_r", "fluency_verbmem_f")),
        (("extraction_verbmem_f",), ("extraction_verbmem_f",)),
        (("fluency",), tuple(f"fluency_{one}" for one in HOSTS)),
        (("+verbmem_f",), OWN),
        (("+extraction_knowmem_f", "+extraction_knowmem_f"), (*OWN, "extraction_knowmem_f")),
    ],
)
@pytest.mark.parametrize("task", ["muse_mini", "muse_books", "muse_news", "muse_mini_sust", "muse_news_scal"])
def test_a_plus_adds_to_the_task_s_own(task: str, wanted: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert choose(plugins.task(task), wanted).names == names


def test_without_optional_columns_the_task_is_as_it_was() -> None:
    task = plugins.task("muse_mini")
    assert choose(task, ("privleak", "+knowmem_r")).task is task


def test_an_optional_column_reads_what_its_host_reads_and_wants_what_it_wants() -> None:
    task = plugins.task("muse_books")
    columns = choose(task, ("+extraction", "+fluency")).task.columns
    assert [*columns][:4] == [*OWN]
    for host in HOSTS:
        assert columns[f"extraction_{host}"].splits == columns[host].splits
    assert [columns[f"extraction_{host}"].goal for host in HOSTS] == ["lower", "lower", "higher"]
    assert [columns[f"fluency_{host}"].goal for host in HOSTS] == ["higher"] * 3
    assert columns["extraction_knowmem_r"].title == "Extraction KnowMem Dr"


def test_every_optional_column_is_one_that_its_metric_can_read() -> None:
    assert optional_metrics() == ("exact", "extraction", "fluency")
    chosen = choose(plugins.task("muse_news"), tuple(f"+{one}" for one in optional_metrics()))
    for name in chosen.hosts:
        plugins.column(name, chosen.task.columns[name], chosen.values(name, {}))


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("+extractoin", r"no column 'extractoin'; did you mean '\+extraction'"),
        ("+privleak_f", "no column 'privleak_f'"),
        ("+", "no column ''"),
    ],
)
def test_what_there_is_not_is_refused(wanted: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        choose(plugins.task("muse_mini"), (wanted,))


def test_a_metric_with_nothing_to_stand_beside_is_refused() -> None:
    task = plugins.task("muse_mini")
    alone = task.model_copy(update={"columns": {"privleak": task.columns["privleak"]}})
    with pytest.raises(UserError, match="exact stands beside columns of verbmem, knowmem, and task"):
        choose(alone, ("+exact",))


# ── asked like their hosts ───────────────────────────────────────────────────────────────────────
def params(settings: dict[str, Any], column: str) -> Any:
    config = RunConfig(
        model="m", task="muse_mini", engine="hf", metrics=("+extraction", "+fluency"), settings=settings
    )
    return next(one.params for one in plan(config).columns if one.name == column)


def test_an_optional_column_is_asked_like_its_host() -> None:
    assert params({}, "extraction_verbmem_f") == beside.Params(max_tokens=128)
    assert params({}, "fluency_knowmem_r") == beside.Params(max_tokens=32)
    changed = {"knowmem.answer_space": False, "knowmem_f.shots": 2, "extraction.max_tokens": 7}
    assert params(changed, "extraction_knowmem_f") == beside.Params(7, 2, answer_space=False)
    assert params(changed, "fluency_knowmem_r") == beside.Params(32, 10, answer_space=False)


def test_fluency_asks_nothing_that_was_not_asked() -> None:
    planned = plan(RunConfig(model="m", task="muse_mini", engine="hf", metrics=("+fluency", "+exact")))
    apart = planned.apart()
    assert [len(apart[f"fluency_{host}"]) for host in HOSTS] == [0, 0, 0]
    assert [len(apart[f"exact_{host}"]) for host in HOSTS] == [100, 100, 100]
    asks = next(one.requests for one in planned.columns if one.name == "fluency_knowmem_f")
    assert {ask.stop for ask in asks if isinstance(ask, Generate)} == {knowmem.STOP}


def test_extraction_and_exact_ask_the_same() -> None:
    planned = plan(RunConfig(model="m", task="muse_mini", engine="hf", metrics=("exact", "extraction")))
    assert [len(asks) for asks in planned.apart().values()] == [100, 100, 100, 0, 0, 0]


def test_a_column_of_an_optional_metric_may_stand_in_a_task() -> None:
    task = plugins.task("muse_mini")
    own = ColumnSpec(title="ES", metric="extraction", goal="lower", splits={"forget": "verbmem/forget"})
    whole = task.model_copy(update={"columns": {**task.columns, "extraction_verbmem_f": own}})
    chosen = choose(whole, ("+extraction",))
    assert "extraction_verbmem_f" not in chosen.hosts
    assert chosen.task.columns["extraction_verbmem_f"].title == "ES"
    with pytest.raises(UserError, match="extraction needs the splits forget or qa, icl"):
        plugins.column("c", own.model_copy(update={"splits": {"qa": "knowmem/forget_qa"}}), {})


def test_settings_of_an_optional_column_need_it() -> None:
    with pytest.raises(UserError, match=r"no group 'extraction'"):
        sort_settings({"extraction.max_tokens": 3}, choose(plugins.task("muse_mini"), ()).task)


def test_gradients_are_refused_where_the_engine_takes_none() -> None:
    config = RunConfig(
        model="m",
        task="muse_mini",
        engine="server",
        base_url="http://127.0.0.1:1/v1",
        settings={"privleak.gradnorm": True},
    )
    with pytest.raises(UserError, match=r"PrivLeak asks for gradients, which engine server does not take"):
        plan(config)
