"""`make meta`: its statistics by hand, the whole on hardly trained models, the page against the CSV."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.meta import table, trust
from benchmarks.meta.__main__ import MODELS, PAGE, TRUST, carry_out, main
from benchmarks.meta.plan import Job, Plan
from benchmarks.meta.readings import readings
from benchmarks.meta.table import Scored
from benchmarks.meta.tiny import tiny
from benchmarks.meta.trust import Drawn, Seen
from benchmarks.methods_page import replace as replace_part

PROJECT = Path("results/project")


# ── the statistics ───────────────────────────────────────────────────────────────────────────────
def test_relearning_is_what_retrain_gains_over_what_the_model_gains() -> None:
    assert trust.relearning(10, 40) == 0.25
    assert trust.relearning(40, 10) == 1
    # It gained nothing, or less than nothing: there is no ratio.
    assert trust.relearning(10, 0) is None
    assert trust.relearning(10, -5) is None
    # Retrain itself lost.
    assert trust.relearning(-10, 40) == 0


def test_quantization_is_the_leak_before_over_that_after() -> None:
    assert trust.quantization(30, 40) == 0.75
    assert trust.quantization(40, 30) == 1
    assert trust.quantization(0, 30) == 0
    assert trust.quantization(-3, 30) == 0
    assert trust.quantization(30, 0) is None
    assert trust.quantization(30, -3) is None


def test_faithfulness_counts_pairs_of_models_of_all_worlds() -> None:
    having, lacking = Seen([0, 0, 1], [9.0, 5.0, 4.0]), Seen([0, 1], [4.0, 3.0])
    drawn = Drawn([0, 1], np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    # Of six pairs five are won and one (4 against 4) is a tie. World 0 alone: 9 and 5 against 4; world 1
    # alone: 4 against 3.
    assert trust.faithfulness(having, lacking, drawn) == pytest.approx([5.5 / 6, 1, 1])
    lost = Seen([1, 1], [0.0, 0.0])
    assert trust.faithfulness(lost, lacking, drawn)[0] == 0
    # World 0 was drawn twice, and has no such model.
    assert np.isnan(trust.faithfulness(lost, lacking, drawn)[1])


def test_means_follow_the_worlds_drawn() -> None:
    drawn = Drawn([0, 5], np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    assert trust.mean_over(Seen([0, 0, 5], [1.0, 0.5, 0.0]), drawn) == pytest.approx([0.5, 0.75, 0])
    assert np.isnan(trust.mean_over(Seen([5], [1.0]), drawn)).tolist() == [False, True, False]
    assert np.isnan(trust.mean_over(Seen([], []), drawn)).all()


def test_worlds_are_drawn_with_replacement_and_alike_each_time() -> None:
    drawn = Drawn.of([0, 3, 7], resamples=50)
    assert drawn.counts.shape == (51, 3)
    assert drawn.counts[0].tolist() == [1, 1, 1]
    assert (drawn.counts[1:].sum(axis=1) == 3).all()
    assert drawn.counts[1:].max() == 3
    assert (Drawn.of([0, 3, 7], resamples=50).counts == drawn.counts).all()


def test_the_harmonic_mean_is_0_where_either_is() -> None:
    found = trust.harmonic(np.array([1.0, 0.0, 0.0, 0.8, np.nan]), np.array([0.5, 1.0, 0.0, 0.8, 1.0]))
    assert found[:4] == pytest.approx([2 / 3, 0, 0, 0.8])
    assert np.isnan(found[4])


def test_an_interval_is_of_the_resamples_that_have_a_value() -> None:
    found = trust.Estimate.of(np.array([0.5, *np.linspace(0, 1, 41), np.nan]))
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.025, 0.975))
    assert trust.Estimate.of(np.array([np.nan, 1.0])) == trust.Estimate(None)
    assert trust.Estimate.of(np.array([1.0, np.nan])) == trust.Estimate(1.0)


def test_each_score_is_read_so_that_more_is_more_knowledge() -> None:
    found = {one.name: one for one in readings(["balance", "auc PPL", "exact_knowmem_f", "privleak"])}
    assert list(found) == ["privleak", "|privleak|", "exact_knowmem_f", "auc PPL", "balance"]
    leaks = {name: one.leak(-75.0) for name, one in found.items()}
    assert leaks == {
        "privleak": 75, "|privleak|": 75, "exact_knowmem_f": -75, "auc PPL": 76, "balance": 175,
    }  # fmt: skip
    assert found["|privleak|"].leak(30.0) == 30
    assert found["|privleak|"].source == "privleak"


# ── what models say of a score ───────────────────────────────────────────────────────────────────
def model(seed: int, group: str, made: str, state: str, **values: float | None) -> Scored:
    return Scored(seed, group, made, state, {"knowmem_r": 100.0, **values})


MADE = [
    model(0, "retrain", "recipe", "now", verbmem_f=20),
    model(0, "retrain", "recipe", "relearned", verbmem_f=30),
    model(0, "with", "recipe", "now", verbmem_f=90),
    model(0, "with", "95 steps", "now", verbmem_f=25),
    model(0, "without", "40 steps", "now", verbmem_f=22),
    model(0, "without", "120 steps", "now", verbmem_f=26),
    model(0, "unlearned", "npo", "now", verbmem_f=15),
    model(0, "unlearned", "npo", "relearned", verbmem_f=55),
    model(0, "unlearned", "npo", "quantized", verbmem_f=20),
    # It gains nothing, and nothing is left of it: no R; Q = 10 / 10.
    model(0, "unlearned", "ga", "now", verbmem_f=10),
    model(0, "unlearned", "ga", "relearned", verbmem_f=10),
    model(0, "unlearned", "ga", "quantized", verbmem_f=10),
    # Its KnowMem Dr is below 0.8 of the target's: it counts nowhere.
    model(0, "unlearned", "ruined", "now", verbmem_f=1, knowmem_r=79.0),
    model(0, "unlearned", "ruined", "relearned", verbmem_f=99),
    model(0, "unlearned", "ruined", "quantized", verbmem_f=99),
]


def test_a_score_is_judged_by_pairs_of_models_and_by_ratios_of_unlearned_ones() -> None:
    found = {one.measure: one for one in table.judge(MADE)}
    verbmem = found["verbmem_f"]
    assert (verbmem.n_with, verbmem.n_without) == (2, 2)
    assert (verbmem.mean_with, verbmem.mean_without) == (57.5, 24)
    # 90 wins twice, 25 wins once: three of four.
    assert verbmem.faithfulness.value == 0.75
    # NPO gains 40 where retrain gains 10.
    assert (verbmem.relearning.value, verbmem.n_relearning) == (0.25, 1)
    assert verbmem.quantization.value == pytest.approx((0.75 + 1) / 2)
    assert verbmem.n_quantization == 2
    robust = 2 * 0.25 * 0.875 / (0.25 + 0.875)
    assert verbmem.aggregate.value == pytest.approx(2 * 0.75 * robust / (0.75 + robust))
    # One world alone has no other to be drawn.
    assert verbmem.faithfulness == trust.Estimate(0.75, 0.75, 0.75)


def test_a_score_that_is_undefined_somewhere_is_judged_by_the_rest() -> None:
    models = [*MADE, model(0, "with", "48 steps", "now", verbmem_f=None)]
    assert [one.n_with for one in table.judge(models) if one.measure == "verbmem_f"] == [2]
    nowhere = [replace(one, values={**one.values, "auc x": None}) for one in MADE]
    undefined = next(one for one in table.judge(nowhere) if one.measure == "auc x")
    assert (undefined.n_with, undefined.mean_with, undefined.aggregate.value) == (0, None, None)
    assert "| `auc x` | lower |  |  | n/a | n/a (0) | n/a (0) | n/a |" in table.markdown([undefined], MADE)


def test_models_are_read_as_they_were_written() -> None:
    text = table.models_csv(MADE)
    assert text.splitlines()[0] == "world,group,made,state,knowmem_r,verbmem_f"
    assert table.read_models(text) == MADE
    blank = [model(0, "with", "recipe", "now", verbmem_f=None)]
    assert table.read_models(table.models_csv(blank)) == blank


# ── the plan ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.slow
def test_the_plan_has_as_many_models_as_asked_for_and_each_after_what_it_needs() -> None:
    plan = Plan(Path("meta"))
    jobs = plan.jobs()
    counts = {group: sum(job.group == group for job in jobs) for group in ("with", "without")}
    assert counts == {"with": 25, "without": 25}
    assert len(set(jobs)) == len(jobs) == len({plan.model(job) for job in jobs})
    for place, job in enumerate(jobs):
        needed = plan.needs(job)
        assert needed is None or needed in jobs[:place]
    few = Plan(Path("meta"), models=6).jobs()
    assert sum(job.group == "without" for job in few) == 6
    assert {job.seed for job in few} == {0, 1}


def test_a_job_is_named_after_all_that_decides_its_scores() -> None:
    plan, job = Plan(Path("meta")), Job("unlearned", 0, "npo_gdr")
    others = [replace(plan, limit=3), replace(plan, relearning=5), replace(plan, unlearning={"lr": 1.0})]
    assert len({one.key(job) for one in [plan, *others]}) == 4
    assert len({plan.key(replace(job, seed=seed)) for seed in range(3)}) == 3
    # A model that is scored otherwise is the same model.
    trained = plan.jobs()[0]
    assert plan.model(trained) == replace(plan, limit=3).model(trained)


# ── the whole of it ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
def test_the_whole_runs_and_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "meta" / "tiny"
    steps = carry_out(tiny(home, 1), 1)
    assert next(steps).startswith("4 models, 0 of them done: about ")
    assert next(steps).startswith("1/4 world 0, retrain: recipe: ")
    steps.close()
    command = ["--tiny", "--models", "1", "--processes", "1", "--results", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 models, 1 of them done")
    assert "4/4 world 0, unlearned: npo_gdr: " in said
    models = table.read_models((home / MODELS).read_text(encoding="utf-8"))
    assert [(one.group, one.state) for one in models] == [
        ("retrain", "now"), ("retrain", "relearned"), ("with", "now"), ("without", "now"),
        ("unlearned", "now"), ("unlearned", "relearned"), ("unlearned", "quantized"),
    ]  # fmt: skip
    for name in (
        "verbmem_f",
        "exact_knowmem_f",
        "fluency_verbmem_f",
        "auc gradnorm",
        "auc Min-40%++",
        "harmonic",
    ):
        assert name in models[0].values
    # Retrain beside itself, before and after it relearned.
    assert models[0].values["privleak"] == 0
    assert models[0].values["auc reference"] == 0.5
    assert models[1].values["auc reference"] != 0.5
    assert sorted(path.name for path in home.iterdir()) == [
        "cache", TRUST, MODELS, "models", "notes", "runs",
    ]  # fmt: skip
    before = (home / TRUST).read_bytes()
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("4 models, all of them done\n")
    assert (home / TRUST).read_bytes() == before


# ── what is published ────────────────────────────────────────────────────────────────────────────
def test_the_page_and_the_csv_say_what_the_models_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    if not (PROJECT / MODELS).is_file():
        assert replace_part(page, table.PART, table.UNMEASURED) == page
        return
    models = table.read_models((PROJECT / MODELS).read_text(encoding="utf-8"))
    found = table.judge(models)
    assert (PROJECT / TRUST).read_text(encoding="utf-8") == table.trust_csv(found)
    assert replace_part(page, table.PART, table.markdown(found, models)) == page, "run: make meta"
    assert min(found[0].n_with, found[0].n_without) >= 20
