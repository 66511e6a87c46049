"""docs/files.md lists every key of the files that runs and trainings write, and no other, with its kind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config.run import RunConfig
from muse_eval.engines import digests
from muse_eval.engines.composition import ComposedSpec
from muse_eval.results import forget_sets, published, runs, trajectory
from muse_eval.results.gate import Baseline, Expected
from muse_eval.results.lineage import Epoch, ForgetSet, Lineage
from muse_eval.results.measured import Measured, MeasuredColumn
from muse_eval.results.rows import rows
from muse_eval.results.selection import Selection
from muse_eval.results.tables import to_csv
from muse_eval.scoring.columns import optional_metrics
from muse_eval.scoring.run import run
from muse_eval.tuning import ranking
from muse_eval.unlearning.recipe import configure, parse_lora
from muse_eval.unlearning.training import output
from tests.e2e import COLUMNS, write_data, write_task

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
SECTIONS = ("`result.json`", "`records.jsonl`", "`unlearn.json`, `finetune.json` and `recipe.json`")
KeyPath = tuple[str, ...]
"""A key and those above it."""


@dataclass(frozen=True)
class Row:
    """A key as the page has it."""

    kind: str
    meaning: str
    when: str

    @property
    def walked(self) -> bool:
        """Whether its own keys stand in rows."""
        return "section" in self.kind


def table(heading: str) -> dict[str, Row]:
    (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^\| `(\S+)` \| (.*?) \|(?: (.*?))? \| (.*?) \|(?: (.*?))? \|$", text, re.MULTILINE)
    listed = {key: Row(kind, meaning, when) for key, kind, _, meaning, when in cells}
    assert len(listed) == len(cells) == len(re.findall(r"^\| `", text, re.MULTILINE))
    return listed


def row_of(path: KeyPath, listed: Mapping[str, Row]) -> str | None:
    """Return the row that tells of a key: the one that names it, else one with a name in capitals."""
    if (exact := ".".join(path)) in listed:
        return exact
    for key in listed:
        parts = [re.sub(r"[A-Z]{4,}", ".+", re.escape(part)) for part in key.split(".")]
        if len(parts) == len(path) and all(map(re.fullmatch, parts, path)):
            return key
    return None


def walk(value: Any, listed: Mapping[str, Row], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every key of a file with its value, but for those below a mapping."""
    for key, below in value.items():
        here = (*path, key)
        yield here, below
        row = row_of(here, listed)
        if isinstance(below, dict) and (row is None or listed[row].walked):
            yield from walk(below, listed, here)


def is_of(value: Any, kind: str) -> bool:
    """Tell whether a value is of what the page calls a kind."""
    if value is None:
        return kind.endswith(" or null")
    kind = kind.removesuffix(" or null")
    if kind.startswith("list of "):
        return isinstance(value, list) and all(is_of(one, kind[8:].removesuffix("s")) for one in value)
    if kind == "yes or no":
        return isinstance(value, bool)
    types: dict[str, Any] = {
        "text": str,
        "whole number": int,
        "number": (int, float),
        "section": dict,
        "mapping": dict,
    }
    return isinstance(value, types[kind]) and not isinstance(value, bool)


def differences(files: list[Any], listed: Mapping[str, Row]) -> list[str]:
    """Return what page and files do not agree in, a line each."""
    found: dict[str, list[Any]] = {}
    told = []
    for file in files:
        for path, value in walk(file, listed):
            row = row_of(path, listed)
            if row is None:
                told.append(f"not on the page: {'.'.join(path)}")
            else:
                found.setdefault(row, []).append(value)
                if not is_of(value, listed[row].kind):
                    told.append(f"{row} is no {listed[row].kind}: {value!r}")
    told += [f"in no file: {key}" for key, row in listed.items() if key not in found and not row.when]
    told += [f"in no file, and not in the code: {key}" for key in listed if key not in found and unknown(key)]
    return sorted(set(told))


@cache
def source() -> str:
    """Return all code that writes files."""
    folders = (ROOT / "muse_eval", ROOT / "metrics")
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))


def unknown(key: str) -> bool:
    """Tell whether the code never writes a key's last part as a text or a field."""
    last = key.rpartition(".")[2]
    stem = re.sub(r"[A-Z]{4,}$", "", last)
    if not stem:
        return False
    return not re.search(rf"[\"']{re.escape(stem)}|^    {re.escape(stem)}:", source(), re.MULTILINE)


# ── the files ────────────────────────────────────────────────────────────────────────────────────
class StoppedError(Exception):
    """Ends a training in its middle."""


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> list[Path]:
    """Runs of a tiny model: with all that can be known of one, and with as little as there can be."""
    home = tmp_path_factory.mktemp("scored")
    task, data = write_task(home / "village.yaml"), write_data(home / "data")
    spaceless = {
        name: {**spec, "params": {**spec["params"], "answer_space": False}}
        for name, spec in COLUMNS.items()
        if spec["metric"] == "knowmem"
    }
    other = write_task(home / "other.yaml", name="other", columns={**COLUMNS, **spaceless})
    model: dict[str, Any] = {"model": str(tiny_model), "data_dir": data, "results": home, "dtype": "float32"}
    lineage = Lineage(
        "digest",
        ForgetSet("simnpo", "scal/forget_1", 1, 4, "nested", 3, None),
        Epoch(1, 2),
        Selection(1, 2, "best", composite="balance"),
    )
    full = RunConfig(task=str(other), retrain=str(tiny_model), **model)
    bare = RunConfig(task=str(task), limit=2, retrain="none", **model)
    more = tuple(f"+{name}" for name in optional_metrics())
    # Elsewhere: what they are called is no word of a table's.
    beside = full.model_copy(update={"metrics": more, "results": home / "more"})
    return [run(full, lineage=lineage).folder, run(bare).folder, run(beside).folder]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, target: Path) -> list[Path]:
    """Models unlearned with and without all that a recipe can have, one fine-tuned, and one not finished."""
    from muse_eval.unlearning.training.train import unlearn
    from tests.unlearning.test_unlearn import FORGET, RETAIN

    home = tmp_path_factory.mktemp("trained")
    few: dict[str, Any] = {
        "model": str(target),
        "epochs": 1,
        "batch_size": 3,
        "max_len": 16,
        "rows": "document",
    }
    lora = parse_lora("r=2,dropout=0.1")

    def stop(_line: Mapping[str, Any]) -> None:
        raise StoppedError

    unlearn(configure(method="simnpo_gdr", lora=lora, **few), FORGET, RETAIN, home / "adapters")
    unlearn(configure(method="ga", **few), FORGET, [], home / "plain")
    unlearn(configure(method=plugins.FINETUNE, **few), FORGET, [], home / "tuned")
    with pytest.raises(StoppedError):
        unlearn(configure(method="npo", **few), FORGET, [], home / "stopped", log=stop)
    return [home / "adapters", home / "plain", home / "tuned", output.partial(home / "stopped")]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unlearning.test_unlearn import make_target

    return make_target(tmp_path_factory.mktemp("target"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# ── the page ─────────────────────────────────────────────────────────────────────────────────────
def test_result_json(scored: list[Path]) -> None:
    assert differences([read(folder / runs.RESULT) for folder in scored], table(SECTIONS[0])) == []


def test_records(scored: list[Path]) -> None:
    records = [record for folder in scored for record in runs.load_records(folder)]
    assert differences(records, table(SECTIONS[1])) == []


def test_cards_and_recipe(trained: list[Path]) -> None:
    listed = table(SECTIONS[2])
    adapters, plain, tuned, stopped = trained
    cards = [read(adapters / "unlearn.json"), read(plain / "unlearn.json"), read(tuned / "finetune.json")]
    assert differences(cards, listed) == []
    recipe = read(stopped / "recipe.json")
    marked = {key: row for key, row in listed.items() if row.meaning.startswith("recipe: ")}
    assert recipe.keys() == marked.keys()
    within = {key: row for key, row in listed.items() if key.partition(".")[0] in marked}
    assert (
        differences([recipe], {key: Row(row.kind, row.meaning, "any") for key, row in within.items()}) == []
    )


def test_a_key_too_many_or_too_few_is_told(scored: list[Path]) -> None:
    listed, result = table(SECTIONS[0]), read(scored[0] / runs.RESULT)
    files = [result, *(read(folder / runs.RESULT) for folder in scored[1:])]
    less = {key: row for key, row in listed.items() if key != "columns.COLUMN.ci"}
    assert "not on the page: columns.privleak.ci" in differences(files, less)
    assert "in no file: model.aura" in differences(files, {**listed, "model.aura": Row("text", "", "")})
    optional = differences(files, {**listed, "model.aura": Row("text", "", "it has one")})
    assert optional == ["in no file, and not in the code: model.aura"]
    assert differences(files, {**listed, "task": Row("whole number", "", "")}) == [
        "task is no whole number: 'other'",
        "task is no whole number: 'village'",
    ]


def named(file: str) -> set[str]:
    """Return what the row of one of the other files puts in code."""
    (text,) = re.findall(rf"^\| `{re.escape(file)}`.*? \| (.+) \|$", PAGE, re.MULTILINE)
    return set(re.findall(r"`(\S+?)`", text))


def test_the_other_files(scored: list[Path], trained: list[Path]) -> None:
    log = output.read_log(trained[0] / output.LOG)
    assert log[0].keys() <= named("OUT/log.jsonl")
    stored = [result for folder in scored[:2] if (result := runs.load(folder))]
    header = to_csv(rows(stored)).splitlines()[0].split(",")
    plain = {re.sub(r"_(low|high|n|flags)$", "", name) for name in header} - set(COLUMNS)
    assert plain <= named("results/leaderboard.csv")
    assert set(published.PUBLISHED) <= named("results/project/published.csv")
    noted = {*Measured.model_fields, *MeasuredColumn.model_fields}
    assert {*Baseline.model_fields, *Expected.model_fields, *noted} <= named("results/baseline.json")
    assert ComposedSpec.model_fields.keys() <= named("composed.json")
    (line,) = {
        path.read_text().splitlines()[0] for path in sorted(scored[0].parents[2].glob("cache/*/*.jsonl"))[:1]
    }
    assert json.loads(line.partition(" ")[2]).keys() <= named("results/cache/ENGINE/PROCESS.jsonl")
    assert {"files", "sha256"} <= named(f"results/cache/{digests.NAME}")
    went = trajectory.Trajectory(
        "a", "b", stored[0], stored[:1], stored[0], Selection(1, 1, "last"), "balance"
    )
    header = trajectory.to_csv(went).splitlines()[0].split(",")
    plain = {re.sub(r"_(low|high)$", "", name) for name in header} - {*COLUMNS, "balance"}
    assert plain <= named("results/runs/TASK/NAME/trajectory.csv")


def test_the_tables_of_many_models(scored: list[Path], tmp_path: Path) -> None:
    stored = next(result for folder in scored if (result := runs.load(folder)))
    task = plugins.task("muse_news_scal")
    several = forget_sets.to_csv(
        forget_sets.ForgetSetRuns(task, {"target": stored, "retrain": stored}, {}, None)
    )
    tuned = ranking.to_csv(ranking.Tuned(task, ("lr",), "balance", [], tmp_path))
    for text, file in ((several, "results/runs/TASK/scalability.csv"), (tuned, "trials.csv")):
        header = text.splitlines()[0].split(",")
        plain = {re.sub(r"_(low|high|flags)$", "", name) for name in header}
        assert plain - {*COLUMNS, "lr", "balance"} <= named(file)
