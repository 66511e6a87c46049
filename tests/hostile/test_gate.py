"""Ways of cheating the regression gate on a small real run: none may end fine; honest changes must."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from muse_eval.config import fingerprint
from muse_eval.config.run import RunConfig
from muse_eval.errors import UserError
from muse_eval.results import load_all
from muse_eval.results.gate import baseline_text, check, load_baseline, make_baseline
from muse_eval.scoring.run import run
from tests.e2e import write_data, write_task

RUN = "village/npo"
Json = dict[str, Any]


@dataclass
class Stored:
    """A run and its baseline as a cheat finds them; what it leaves is written back."""

    result: Json
    records: list[Json]
    baseline: Json
    resealed: bool = True
    """Whether the digests of settings and records are made to match again."""

    def cell(self, column: str = "verbmem_f") -> Json:
        found: Json = self.result["columns"][column]
        return found

    def expected(self, column: str = "verbmem_f") -> Json:
        found: Json = self.baseline["runs"][RUN][column]
        return found

    def settings(self, *path: str) -> Json:
        found: Json = self.result["config"]
        for key in path:
            found = found[key]
        return found

    def noted(self, column: str) -> Json:
        found: Json = self.baseline["measured"][RUN]["columns"][column]
        return found

    def of(self, column: str) -> list[Json]:
        return [one for one in self.records if one["column"] == column]


def scoring(home: Path, model: Path, task: Path, data: Path, name: str) -> RunConfig:
    return RunConfig(
        model=str(model),
        task=str(task),
        name=name,
        retrain=str(model),
        data_dir=data,
        results=home,
        dtype="float32",
    )


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Two runs, the model's and the retrain model's, and the baseline that was made of them."""
    home = tmp_path_factory.mktemp("gate")
    task, data = write_task(home / "village.yaml"), write_data(home / "data")
    for name in ("npo", "retrain"):
        run(scoring(home, tiny_model, task, data, name))
    (home / "baseline.json").write_text(baseline_text(make_baseline(load_all(home, print))))
    return home


def outcome(home: Path, **options: Any) -> int:
    """Return the gate's exit code; a refusal is 2, as the command line has it."""
    try:
        return check(
            load_all(home, lambda _: None), load_baseline(home / "baseline.json"), whole=True, **options
        ).exit_code
    except UserError:
        return 2


def changed(home: Path, to: Path, change: Callable[[Stored], None]) -> Path:
    """Copy results and baseline, and change them."""
    copy = to / "copy"
    shutil.copytree(home / "runs", copy / "runs")
    folder = copy / "runs" / RUN
    lines = (folder / "records.jsonl").read_text().split("\n")
    stored = Stored(
        json.loads((folder / "result.json").read_text()),
        [json.loads(line) for line in lines if line],
        json.loads((home / "baseline.json").read_text()),
    )
    change(stored)
    text = "".join(json.dumps(one, sort_keys=True, ensure_ascii=False) + "\n" for one in stored.records)
    if stored.resealed:
        rest = {key: value for key, value in stored.result["config"].items() if key != "fingerprint"}
        stored.result["config"]["fingerprint"] = fingerprint(rest)
        stored.result["records_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "records.jsonl").write_text(text)
    (folder / "result.json").write_text(json.dumps(stored.result))
    (copy / "baseline.json").write_text(json.dumps(stored.baseline))
    return copy


CHEATS: dict[str, Callable[[Stored], Any]] = {}


def cheat(name: str) -> Callable[[Callable[[Stored], Any]], Callable[[Stored], Any]]:
    def keep(change: Callable[[Stored], Any]) -> Callable[[Stored], Any]:
        CHEATS[name] = change
        return change

    return keep


def bound(change: Callable[..., Any], *values: Any) -> Callable[[Stored], Any]:
    """Return a change of these values."""
    return lambda s: change(s, *values)


def _each_column() -> None:
    """Cheats that are the same of every column."""

    def value(column: str, by: float) -> Callable[[Stored], Any]:
        def change(s: Stored) -> None:
            s.cell(column)["value"] += by
            s.cell(column)["ci"] = [s.cell(column)["value"] - 1, s.cell(column)["value"] + 1]

        return change

    def drop(column: str) -> Callable[[Stored], Any]:
        return lambda s: s.baseline["runs"][RUN].pop(column)

    def few(column: str) -> Callable[[Stored], Any]:
        def change(s: Stored) -> None:
            kept = [one for one in s.of(column) if one["id"] == 0]
            s.records = [one for one in s.records if one["column"] != column] + kept
            s.cell(column)["n"] = len(kept)

        return change

    for column in ("verbmem_f", "knowmem_f", "privleak", "knowmem_r"):
        CHEATS[f"{column}: value nudged"] = value(column, 0.4)
        CHEATS[f"{column}: value lowered"] = value(column, -5.0)
        CHEATS[f"{column}: not in the baseline"] = drop(column)
        CHEATS[f"{column}: fewer examples"] = few(column)
        CHEATS[f"{column}: gone from the result"] = bound(lambda s, c: s.result["columns"].pop(c), column)
        CHEATS[f"{column}: n of the result"] = bound(lambda s, c: s.cell(c).update(n=9), column)
        CHEATS[f"{column}: tolerance 1e9"] = bound(lambda s, c: s.expected(c).update(tolerance=1e9), column)
        CHEATS[f"{column}: interval beside its value"] = bound(
            lambda s, c: s.cell(c).update(ci=[200.0, 300.0]), column
        )
        CHEATS[f"{column}: records deleted"] = bound(
            lambda s, c: s.records.__setitem__(slice(None), [one for one in s.records if one["column"] != c]),
            column,
        )


_each_column()


@cheat("a limit without its flag")
def _(s: Stored) -> None:
    s.result["config"]["limit"] = 2


@cheat("a flag without its limit")
def _(s: Stored) -> None:
    s.cell()["flags"] = ["limited"]


@cheat("a limit with its flag, in the baseline too")
def _(s: Stored) -> None:
    s.result["config"]["limit"] = 2
    for column in s.result["columns"]:
        s.cell(column)["flags"] = [*s.cell(column)["flags"], "limited"]
        s.expected(column)["flags"] = sorted([*s.expected(column).get("flags", []), "limited"])


def _settings(s: Stored, path: tuple[str, ...], values: Json, resealed: bool = True) -> None:
    s.settings(*path).update(values)
    s.resealed = resealed


for _key, _other in {"engine": "vllm", "dtype": "bfloat16", "quantization": "fp8"}.items():
    for _model in ("model", "retrain"):
        CHEATS[f"{_model}.{_key}"] = bound(_settings, (_model,), {_key: _other})

for _column, _params in (
    ("verbmem_f", {"max_tokens": 4}),
    ("knowmem_f", {"max_tokens": 4}),
    ("knowmem_r", {"shots": 0}),
    ("knowmem_f", {"answer_space": False}),
    ("privleak", {"k": 0.2}),
):
    for _resealed in (True, False):
        _name = f"{_column}: parameter {next(iter(_params))}{'' if _resealed else ', unsealed'}"
        CHEATS[_name] = bound(_settings, ("columns", _column), _params, _resealed)

for _column, _goal in (("verbmem_f", "higher"), ("knowmem_r", "lower"), ("privleak", "higher")):
    CHEATS[f"{_column}: goal turned in the result"] = bound(
        _settings, ("task", "columns", _column), {"goal": _goal}
    )
    CHEATS[f"{_column}: goal turned in the baseline"] = bound(
        lambda s, c, g: s.noted(c).update(goal=g), _column, _goal
    )

for _split in ("verbmem/forget", "knowmem/forget_qa", "privleak/holdout"):
    CHEATS[f"data of {_split}"] = bound(_settings, ("data", "sha256"), {_split: "0" * 64})
    CHEATS[f"no digest of {_split}"] = bound(lambda s, d: s.settings("data", "sha256").pop(d), _split)


@cheat("another seed")
def _(s: Stored) -> None:
    s.result["config"]["seed"] = 7


@cheat("all records gone, and their digest")
def _(s: Stored) -> None:
    s.records.clear()


@cheat("a record twice in the place of another")
def _(s: Stored) -> None:
    first, *others = s.of("verbmem_f")
    others[0].update({**first, "id": others[0]["id"]})
    values = [one["scores"]["rougeL"] for one in s.of("verbmem_f")]
    s.cell()["value"] = 100 * sum(values) / len(values)
    s.cell()["ci"] = [0.0, 100.0]


@cheat("a record's scores, with the value that follows")
def _(s: Stored) -> None:
    for one in s.of("verbmem_f"):
        one["scores"]["rougeL"] = 0.5
    s.cell().update(value=50.0, ci=[50.0, 50.0])


@cheat("a record's response")
def _(s: Stored) -> None:
    s.of("verbmem_f")[0]["response"] = s.of("verbmem_f")[0]["truth"]


@cheat("a record's truth")
def _(s: Stored) -> None:
    s.of("knowmem_f")[0]["truth"] = "something else"


@cheat("a record without its response")
def _(s: Stored) -> None:
    s.of("verbmem_f")[0].pop("response")


@cheat("a record that was not sealed again")
def _(s: Stored) -> None:
    s.of("verbmem_f")[0]["response"] += " "
    s.resealed = False


@cheat("PrivLeak's sign, by its retrain AUC")
def _(s: Stored) -> None:
    for extras in (s.result["extras"], s.result["extras"]["privleak"]):
        extras["reference"]["auc"] *= 1.5
    own, base = (
        s.result["extras"]["auc"]["forget_holdout_Min-40%"],
        s.result["extras"]["reference"]["auc"],
    )
    value = 100 * (own - base) / base
    s.cell("privleak").update(value=value, ci=[value - 1, value + 1])


@cheat("PrivLeak's own AUC")
def _(s: Stored) -> None:
    s.result["extras"]["privleak"]["auc"]["forget_holdout_Min-40%"] = 0.123


@cheat("PrivLeak's texts on the other side")
def _(s: Stored) -> None:
    for one in s.of("privleak"):
        one["scores"] = {name: -score for name, score in one["scores"].items() if score is not None}


@cheat("a value that is no percentage")
def _(s: Stored) -> None:
    s.cell().update(value=-40.0, ci=[-41.0, -39.0])


@cheat("a baseline's value that is no percentage")
def _(s: Stored) -> None:
    s.expected()["value"] = 1e9


@cheat("a tolerance that lets every value pass")
def _(s: Stored) -> None:
    s.expected().update(value=50.0, tolerance=60.0)


@cheat("a baseline of another n")
def _(s: Stored) -> None:
    s.baseline["measured"][RUN]["columns"]["verbmem_f"]["n"] = 100


@cheat("an interval wider than the records give")
def _(s: Stored) -> None:
    values = [one["scores"]["rougeL"] for one in s.of("knowmem_f")]
    s.cell("knowmem_f")["ci"] = [-500.0, 500.0]
    if min(values) == max(values):
        s.cell("knowmem_f")["ci"] = [500.0, 600.0]


@cheat("an undefined cell")
def _(s: Stored) -> None:
    s.cell().update(value=None, ci=None, reason="it was inconvenient")


@cheat("a run under another's name")
def _(s: Stored) -> None:
    s.result["name"] = "retrain"


@cheat("another metric")
def _(s: Stored) -> None:
    s.result["config"]["task"]["columns"]["verbmem_f"]["metric"] = "elsewhere"
    s.cell().update(value=0.0, ci=[0.0, 0.0])


# ── the campaign ─────────────────────────────────────────────────────────────────────────────────
@cheat("a digest of weights that the settings do not have")
def _(s: Stored) -> None:
    s.result["model"]["digest"] = "0" * 64


@cheat("a tokenizer in the settings that the engine did not have")
def _(s: Stored) -> None:
    s.result["config"]["model"]["tokenizer"] = "0" * 64


def test_there_are_enough() -> None:
    assert len(CHEATS) >= 40


@pytest.mark.parametrize("name", sorted(CHEATS))
def test_a_cheat_does_not_end_fine(name: str, honest: Path, tmp_path: Path) -> None:
    assert outcome(changed(honest, tmp_path, CHEATS[name])) != 0


def test_records_that_are_gone_do_not_end_fine(honest: Path, tmp_path: Path) -> None:
    copy = changed(honest, tmp_path, lambda _: None)
    (copy / "runs" / RUN / "records.jsonl").unlink()
    assert outcome(copy) == 2


def test_every_run_must_be_in_the_baseline_where_that_is_asked(honest: Path, tmp_path: Path) -> None:
    copy = changed(honest, tmp_path, lambda s: s.baseline["runs"].pop(RUN))
    assert (outcome(copy), outcome(copy, every=True)) == (0, 2)
    assert outcome(copy, patterns=["village/retrain"], every=True) == 2


def test_nothing_is_taken_over_from_what_contradicts_its_records(honest: Path, tmp_path: Path) -> None:
    copy = changed(honest, tmp_path, CHEATS["verbmem_f: value nudged"])
    with pytest.raises(UserError, match="village/npo is not taken: verbmem_f contradicts the records"):
        make_baseline(load_all(copy, print))


@pytest.mark.parametrize("name", ["gone", "cut", "verbmem_f: value nudged", "another seed, unsealed"])
def test_what_is_not_whole_is_scored_again_and_not_reused(
    name: str, honest: Path, tiny_model: Path, tmp_path: Path
) -> None:
    def unsealed(s: Stored) -> None:
        s.result["config"]["seed"] = 7
        s.resealed = False

    whole = (honest / "runs" / RUN / "result.json").read_bytes()
    copy = changed(honest, tmp_path, CHEATS.get(name, unsealed if "seed" in name else lambda _: None))
    shutil.copytree(honest / "cache", copy / "cache")
    folder = copy / "runs" / RUN
    if name in ("gone", "cut"):
        (folder / "result.json").write_bytes(whole)
        text = (folder / "records.jsonl").read_bytes()
        (folder / "records.jsonl").unlink()
        if name == "cut":
            (folder / "records.jsonl").write_bytes(text[:-9])
    told: list[str] = []
    config = scoring(copy, tiny_model, honest / "village.yaml", honest / "data", "npo")
    if "seed" in name:
        config = config.model_copy(update={"overwrite": True})
    assert run(config, reuse=True, warn=told.append).result is not None
    assert any("is not whole" in line and "scored again" in line for line in told)
    assert json.loads((folder / "result.json").read_text())["columns"] == json.loads(whole)["columns"]
    told.clear()
    assert (
        run(scoring(copy, tiny_model, honest / "village.yaml", honest / "data", "npo"), reuse=True).result
        is None
    )


# ── what is honest ───────────────────────────────────────────────────────────────────────────────
def _reordered(s: Stored) -> None:
    s.result["columns"] = dict(reversed(s.result["columns"].items()))


def _rebuilt(s: Stored) -> None:
    s.result["config"]["model"]["weights"] = "0" * 64
    s.result["provenance"]["engine"]["weights"] = "0" * 64
    s.result["model"]["digest"] = "0" * 64


def _of_before(s: Stored) -> None:
    s.baseline["schema_version"] = 1
    del s.baseline["measured"]


HONEST: dict[str, Callable[[Stored], Any]] = {
    "nothing": lambda _: None,
    "other weights": _rebuilt,
    "other weights of the retrain model": lambda s: s.result["config"]["retrain"].update(weights="0" * 64),
    "other times": lambda s: s.result.update(seconds=123.0),
    "another machine": lambda s: s.result["provenance"]["engine"].update(device="NVIDIA", path="/elsewhere"),
    "other versions": lambda s: s.result["provenance"].update(commit="0" * 40, versions={"torch": "9"}),
    "other code": lambda s: s.result["provenance"].update(code="0" * 64),
    "another order of columns": lambda s: s.result.update(
        columns=dict(reversed(s.result["columns"].items()))
    ),
    "a baseline of before version 2": _of_before,
    "another title": lambda s: s.result["config"]["task"].update(title="Hamlet"),
}


@pytest.mark.parametrize("name", sorted(HONEST))
def test_what_is_honest_ends_fine(name: str, honest: Path, tmp_path: Path) -> None:
    assert outcome(changed(honest, tmp_path, HONEST[name])) == 0
