"""Runs compared by example, the best set of a table, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_eval.config import fingerprint
from muse_eval.errors import UserError
from muse_eval.results.best import BOLD, NEAREST
from muse_eval.results.compare import compare
from muse_eval.results.compare_lines import WIDTH, lines, to_json
from muse_eval.results.gate import baseline_text, make_baseline
from muse_eval.results.gated import gated
from muse_eval.results.grid import Grid, grid
from muse_eval.results.rows import headings, rows
from muse_eval.results.runs import load_all, save
from muse_eval.results.tables import to_csv
from muse_eval.types import Record, Result, Score
from tests.e2e import muse
from tests.support.stored import TRUE, write_runs

N = 100
SPLITS = {"forget": "privleak/forget", "holdout": "privleak/holdout"}
COLUMNS = {
    "verbmem_f": {"title": "VerbMem Df", "metric": "verbmem", "goal": "lower", "splits": {"forget": "v/f"}},
    "privleak": {"title": "PrivLeak", "metric": "privleak", "goal": "zero", "splits": SPLITS},
    "knowmem_r": {"title": "KnowMem Dr", "metric": "knowmem", "goal": "higher", "splits": {"qa": "k/r"}},
}
WAVE = np.linspace(0, 1, N)
"""How hard each example is; all runs agree on it."""


def rouge(split: str, values: Any) -> tuple[Record, ...]:
    return tuple(
        Record(split, i, {"rougeL": float(v)}, {"truth": f"t{i}"}, "ab") for i, v in enumerate(values)
    )


def mean_of(values: Any, *flags: str) -> Score:
    value = 100 * float(np.mean(values))
    return Score(value, (value - 1, value + 1), N, flags, records=rouge("v/f", values))


def leak(shift: float, *flags: str, base: float = 0.5) -> Score:
    """Return PrivLeak of 20 + 20 texts, the forget texts likelier by a shift."""
    texts = np.linspace(1, 2, 20)
    low, high = -(texts - shift), -texts
    auc = float(((high[None, :] > low[:, None]) + 0.5 * (high[None, :] == low[:, None])).mean())
    records = tuple(
        Record(f"privleak/{role}", i, {"Min-40%": float(-one)}, {}, f"{role}{i}")
        for role, side in (("forget", low), ("holdout", high))
        for i, one in enumerate(side)
    )
    extras = {"attack": "Min-40%", "auc": {}, "reference": {"source": "measured", "auc": base}}
    value = 100 * (auc / base - 1)
    return Score(value, (min(value, -100), value + 1), 40, flags, extras=extras, records=records)


def store(home: Path, name: str, forget: Any, retain: Any, *flags: str, **config: Any) -> Path:
    columns = {
        "verbmem_f": mean_of(forget, *flags),
        "privleak": leak(0.0 if name == "retrain" else 0.3),
        "knowmem_r": mean_of(retain),
    }
    extras = {key: score.extras for key, score in columns.items() if score.extras}
    whole = {
        "task": {"name": "town", "title": "Town", "columns": COLUMNS},
        "data": {"sha256": {"v/f": "1" * 64, "k/r": "2" * 64, **dict.fromkeys(SPLITS.values(), "3" * 64)}},
        "model": {"engine": "hf", "dtype": "float32"},
        "retrain": {"engine": "hf", "dtype": "float32"},
        "seed": 0,
        **config,
    }
    whole["fingerprint"] = fingerprint(whole)
    folder = home / "runs" / "town" / name
    save(Result("town", name, {"id": name}, columns, extras, whole, {}, 1.0), folder)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Three unlearned models: one like retrain, one that went past it to 0, one that kept nothing."""
    rng = np.random.default_rng(0)
    noise = [rng.uniform(-0.05, 0.05, N) for _ in range(4)]
    store(tmp_path, "retrain", 0.15 + 0.2 * WAVE, 0.6 + 0.3 * WAVE)
    store(tmp_path, "like", 0.15 + 0.2 * WAVE + 0.5 * noise[0], 0.6 + 0.3 * WAVE + noise[1])
    store(tmp_path, "gone", np.zeros(N), 0.6 + 0.3 * WAVE + noise[2])
    store(tmp_path, "worse", 0.35 + 0.2 * WAVE + noise[3], 0.3 + 0.3 * WAVE)
    return tmp_path


def table(home: Path) -> Grid:
    found = rows(load_all(home, print))
    return grid(headings("town", found), found)


def bold(laid: Grid, column: int) -> set[str]:
    return {line[0].value for line in laid.lines if line[column].best}


# ── compare ──────────────────────────────────────────────────────────────────────────────────────
def test_nothing_left_is_not_nearer_to_retrain_than_a_model_like_it(home: Path) -> None:
    found = compare(["like", "gone"], home)
    forget, _, retain = found.columns
    (pair,) = forget.pairs
    assert forget.judged_by == "distance to retrain (25.0); 0 is over-unlearning"
    assert pair.better == "like"
    assert pair.p < 0.001
    # Examples lie near 25 on the mean; the other is 0 in all: a difference of -25 and no p of luck.
    assert pair.difference.value == pytest.approx(-25, abs=0.5)
    assert pair.difference.low < pair.difference.value < pair.difference.high
    gone = forget.sides["gone"].from_retrain
    assert gone is not None
    assert gone.value == pytest.approx(-25.0)
    # Its interval is that of the examples' differences: 1.96 · 100 · sd / √100 on each side.
    assert gone.high - gone.low == pytest.approx(2 * 1.96 * 100 * np.std(0.2 * WAVE) / 10, rel=0.05)
    assert retain.pairs[0].better is None
    told = "\n".join(lines(found))
    assert "like is nearer to retrain by 2" in told
    assert "no difference that 100 questions could show (smallest: " in told
    assert max(map(len, told.splitlines())) <= WIDTH


def test_without_retrain_the_task_s_goal_counts_and_is_told(home: Path) -> None:
    shutil.rmtree(home / "runs/town/retrain")
    found = compare(["like", "gone"], home)
    assert found.columns[0].pairs[0].better == "gone"
    assert "no retrain run of these data is stored" in found.columns[0].judged_by
    assert "gone is better by 2" in "\n".join(lines(found))


def test_more_than_two_runs_are_a_family(home: Path) -> None:
    three = compare(["like", "gone", "worse"], home)
    assert [(pair.one, pair.other) for pair in three.columns[2].pairs] == [
        ("like", "gone"),
        ("like", "worse"),
        ("gone", "worse"),
    ]
    assert all(pair.p >= pair.judged.p for column in three.columns for pair in column.pairs)
    assert three.columns[2].pairs[1].better == "like"
    assert "(Holm)" in "\n".join(lines(three))
    two = compare(["like", "gone"], home).columns[0].pairs[0]
    assert two.p == two.judged.p


def test_a_membership_attack_has_rates_and_distances(home: Path) -> None:
    column = compare(["like", "retrain"], home, columns=["privleak"]).columns[0]
    (pair,) = column.pairs
    # The forget texts of one lie 0.3 lower: 0.3 · 19 = 5.7 steps of 20, so 6 of 20 lie outside.
    assert pair.apart["forget"][0] == pytest.approx(0.3)
    assert pair.apart["holdout"] == (0.0, 1.0)
    # No holdout text of 20 may be mistaken at 1 %, two at 10 %: 6 forget texts lie below 1, two more below.
    assert column.sides["like"].rates == {"0.01": pytest.approx(6 / 20), "0.1": pytest.approx(8 / 20)}
    assert column.sides["retrain"].rates == {"0.01": 0.0, "0.1": pytest.approx(2 / 20)}
    assert pair.better == "retrain"
    # The retrain model's own texts are drawn along: it is at 0 in every resample.
    assert (pair.judged.low, pair.judged.high) == pytest.approx((pair.difference.low, pair.difference.high))
    assert column.notes == []
    shutil.rmtree(home / "runs/town/retrain")
    (told,) = compare(["like", "gone"], home, columns=["privleak"]).columns[0].notes
    assert told == "the retrain model's own run is not stored beside: its AUC counts as a constant"


def test_of_two_equal_attacks_no_smallest_difference_is_told(home: Path) -> None:
    """Every forget text likelier than every holdout text: both AUCs are 0 in every resample."""
    for name in ("like", "gone"):
        columns = {"privleak": leak(2.0)}
        config = json.loads((home / f"runs/town/{name}/result.json").read_text())["config"]
        extras = {key: score.extras for key, score in columns.items()}
        save(Result("town", name, {"id": name}, columns, extras, config, {}, 1.0), home / f"runs/town/{name}")
    (column,) = (found := compare(["like", "gone"], home, columns=["privleak"])).columns
    assert column.pairs[0].judged.least is None
    text = " ".join(" ".join(lines(found)).split())
    assert "no difference that 40 texts could show (smallest: n/a, no resample differs)" in text
    json.dumps(to_json(found), allow_nan=False)


def test_the_same_runs_give_the_same_bytes(home: Path) -> None:
    first, again = (json.dumps(to_json(compare(["like", "worse"], home))) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": 5}, "limit is none and 5"),
        ({"data": {"sha256": {"v/f": "9" * 64}}}, "they are of other data"),
        ({"columns": {"verbmem_f": {"max_tokens": 32}}}, "max_tokens is 128 in like, 32 in other"),
    ],
)
def test_what_cannot_be_compared_is_refused(home: Path, changes: dict[str, Any], said: str) -> None:
    flags = ("limited",) if "limit" in changes else ()
    store(home, "other", WAVE, WAVE, *flags, **changes)
    folder = home / "runs/town/other/result.json"
    raw = json.loads(folder.read_text())
    for cell in raw["columns"].values():
        cell["flags"] = list(flags)
    folder.write_text(json.dumps(raw))
    with pytest.raises(UserError, match=f"^like and other cannot be compared in verbmem_f: {said}$"):
        compare(["like", "other"], home)


def test_other_examples_a_lost_record_and_one_run_alone_are_refused(home: Path) -> None:
    with pytest.raises(UserError, match="two different runs"):
        compare(["like", "town/like"], home)
    (home / "runs/town/gone/records.jsonl").unlink()
    with pytest.raises(UserError, match=r"^town/gone: .*records\.jsonl does not exist; score the run again$"):
        compare(["like", "gone"], home)
    with pytest.raises(UserError, match="no column 'verbmem'"):
        compare(["like", "worse"], home, columns=["verbmem"])


def test_another_engine_is_told_and_a_ruined_model_is_no_success(home: Path) -> None:
    store(home, "ruin", 0.15 + 0.2 * WAVE, WAVE, "collapsed", model={"engine": "vllm", "dtype": "bfloat16"})
    told = " ".join(" ".join(lines(compare(["gone", "ruin"], home))).split())
    assert "scored differently: hf float32: run gone; vllm bfloat16: run ruin" in told
    assert "but it is collapsed" in told
    assert "ruin is flagged collapsed: never the best of a table" in told


@pytest.mark.slow
def test_the_command_says_the_same(home: Path) -> None:
    done = muse("compare", "like", "gone", "--results", str(home))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == lines(compare(["like", "gone"], home))
    asked = muse("compare", "like", "gone", "--column", "privleak", "--json", "--results", str(home))
    assert list(json.loads(asked.stdout)["columns"]) == ["privleak"]
    refused = muse("compare", "like", "--results", str(home))
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)


# ── the best set ─────────────────────────────────────────────────────────────────────────────────
def test_bold_is_what_is_not_worse_than_the_best_and_forgetting_is_measured_by_retrain(home: Path) -> None:
    laid = table(home)
    assert bold(laid, 1) == {"like"}
    assert bold(laid, 2) == {"like", "gone", "worse"}
    assert bold(laid, 3) == {"like", "gone"}
    assert laid.notes[-3:-1] == [BOLD, NEAREST]
    assert laid.notes[-1].startswith("smallest difference from the best that could be shown")


def test_without_a_retrain_row_the_lowest_is_the_best_and_nothing_is_said_of_distance(home: Path) -> None:
    shutil.rmtree(home / "runs/town/retrain")
    laid = table(home)
    assert bold(laid, 1) == {"gone"}
    assert NEAREST not in laid.notes


@pytest.mark.parametrize("flag", ["collapsed", "degenerate"])
def test_a_ruined_model_is_in_no_best_set(home: Path, flag: str) -> None:
    store(home, "ruin", 0.15 + 0.2 * WAVE, np.ones(N), flag)
    laid = table(home)
    assert not any(cell.best for line in laid.lines if line[0].value.startswith("ruin") for cell in line)
    assert bold(laid, 1) == {"like"}


def test_a_run_that_the_gate_fails_is_in_no_best_set(tmp_path: Path) -> None:
    """The baseline knows one run, which it lets be; then it had 5 points less there, and a gate fails it."""
    said = dict.fromkeys(("npo", "simnpo"), TRUE["npo"])
    home, file = write_runs(tmp_path / "results", {**TRUE, **said}), tmp_path / "baseline.json"
    whole = make_baseline(load_all(home, print), tolerance=1.0)
    then = whole.runs["town/simnpo"]["verbmem_f"]
    for moved, best in ((0.0, {"npo", "simnpo"}), (5.0, {"npo"})):
        cell = then.model_copy(update={"value": then.value - moved})
        known = whole.model_copy(update={"runs": {"town/simnpo": {"verbmem_f": cell}}, "measured": {}})
        file.write_text(baseline_text(known), encoding="utf-8")
        marked = gated(rows(load_all(home, print)), file, print)
        laid = grid(headings("town", marked), marked)
        assert bold(laid, 1) == bold(laid, 2) == best
        told = f"fails the gate: {cell.value:.2f} in the baseline, {then.value:.2f} now, tolerance ±1.00"
        assert any(told in note for note in laid.notes) is ("simnpo" not in best)
    csv = muse("leaderboard", "--results", str(home), "--baseline", str(file), "--out", "-").stdout
    assert [line.split(",")[1] for line in csv.splitlines() if "gated" in line] == ["simnpo"]
    made = muse("report", "--results", str(home), "--baseline", str(file))
    assert made.exit_code == 0, made.output
    assert f"--baseline {file}" in (home / "reports" / "town.html").read_text(encoding="utf-8")


def test_of_other_data_a_run_does_not_compete(home: Path) -> None:
    store(home, "else", 0.15 + 0.2 * WAVE, np.ones(N), data={"sha256": {"v/f": "9" * 64, "k/r": "9" * 64}})
    assert bold(table(home), 3) == {"like", "gone", "else"}


def test_without_records_the_value_alone_is_bold_and_it_is_told(home: Path) -> None:
    (home / "runs/town/worse/records.jsonl").unlink()
    laid = table(home)
    assert bold(laid, 1) == {"gone"}
    assert any(
        note.startswith("bold by value alone in VerbMem Df, PrivLeak, KnowMem Dr: ") for note in laid.notes
    )


def test_engine_dtype_and_limit_are_columns_and_a_mixed_table_says_so(home: Path) -> None:
    store(home, "served", WAVE, WAVE, model={"engine": "vllm", "dtype": "bfloat16"})
    laid = table(home)
    assert laid.notes[-1] == (
        "scored differently: hf float32: runs retrain, gone, like and worse; vllm bfloat16: run served"
    )
    text = to_csv(rows(load_all(home, print))).splitlines()
    assert text[0].endswith(",notes,source,engine,dtype,limit")
    (line,) = [one for one in text if one.startswith("town,served,")]
    assert line.endswith(",,,vllm,bfloat16,")
