"""The check for a card, on a CPU: every stage that can run here really runs, at the smallest shape."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import small
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.answers import Answers, agree
from benchmarks.gpu.check import check_fits, wait
from benchmarks.gpu.sheet import FILE, PAGE
from benchmarks.gpu.stages import LIMITS
from benchmarks.gpu.training import Subject, fit, reckon
from benchmarks.shapes import SHAPES
from muse_eval.errors import UserError
from muse_eval.results.gate import load_baseline, only

PATIENT = [f"--limit={stage}=900" for stage in LIMITS]
"""Time enough on a machine that does other things too."""
TINY = [*PATIENT, "--device", "cpu", "--shape", "tiny", "--out"]


@pytest.fixture(autouse=True)
def _gpus_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which the check sets, for its own process


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a whole check."""
    out = tmp_path_factory.mktemp("check") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert main([*TINY, str(out)]) == 0
    return out


@pytest.fixture
def out(checked: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(checked, tmp_path / "out"))


def read(folder: Path) -> dict[str, Any]:
    sheet: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return sheet


def rows(folder: Path, stage: str) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in read(folder)["stages"][stage]["rows"]}


# ── what is measured ─────────────────────────────────────────────────────────────────────────────
def test_every_stage_ends_and_is_written_down(checked: Path) -> None:
    sheet = read(checked)
    ended = {name: stage["status"] for name, stage in sheet["stages"].items()}
    done = dict.fromkeys(("machine", "exactness", "scoring", "training"), "done")
    assert ended == {**done, "small": "skipped"}
    assert (sheet["shape"], sheet["device"]) == ("tiny", "cpu")
    assert {"torch", "transformers", "peft"} <= sheet["versions"].keys()
    facts = sheet["stages"]["machine"]["facts"]
    assert facts["operations"] > 1e8
    assert facts["bytes"] > 1e7
    page = (checked / PAGE).read_text(encoding="utf-8")
    for text in (facts["card"], "**Exact.**", "| GPT-NeoX |", "| verbmem_f |", "| npo_gdr |", "hand-over"):
        assert text in page
    assert "failed" not in page
    assert sorted(path.name for path in checked.iterdir()) == [FILE, PAGE]


def test_every_architecture_agrees_in_all_batches_and_attentions(checked: Path) -> None:
    found = rows(checked, "exactness")
    assert found.pop("out of memory")["skipped"]
    assert list(found) == ["Llama", "GPT-2", "GPT-NeoX", "Gemma-2", "Qwen-3"]
    for name, row in found.items():
        assert row["exact"] is True
        assert (row["same"], row["tied"], row["wrong"], row["wrong_answers"]) == (27, 0, 0, [])
        assert max(row["worst"], row["batches"], row.get("eager", 0)) < 1e-4
        # Attentions and batches differ by rounding, which shows that they are not the same computation.
        assert name == "Gemma-2" or row["eager"] > 0
        assert row["batches"] > 0
        assert row["drift_worst"] > row["drift"] > 1e-4


def test_every_column_is_set_against_its_floor_and_one_at_a_time(checked: Path) -> None:
    found = rows(checked, "scoring")
    assert found["vLLM"]["skipped"]
    columns = ("verbmem_f", "knowmem_f", "knowmem_r", "privleak")
    for name in columns:
        row, alone = found[name], found[f"{name}, one at a time"]
        assert row["times_floor"] == pytest.approx(row["seconds"] / row["floor"])
        assert row["floor"] > 0
        assert alone["ratio"] == pytest.approx(alone["alone"] / row["seconds"])
        assert row["peak"] is None
    assert (found["verbmem_f"]["new"], found["privleak"]["new"]) == (32, 0)
    whole = found["all columns"]
    assert whole["read"] == sum(found[name]["read"] for name in columns)
    assert "hash" in found["hash and load"]["note"]


def test_every_method_trains_and_what_it_leaves_is_told(checked: Path) -> None:
    found = rows(checked, "training")
    last = found.pop("hand-over")
    assert list(found) == ["finetune", "simnpo_gdr", "npo_gdr", "rmu", "simnpo_gdr, LoRA r=16"]
    assert all(row["tokens_per_second"] > 0 and row["layers"] == "2 of 2" for row in found.values())
    assert [name for name, row in found.items() if row["utilisation"] is None] == ["rmu"]
    assert last["held"] >= last["held_after_collection"] == 0


# ── resuming, failing ────────────────────────────────────────────────────────────────────────────
def test_a_second_call_does_only_what_is_missing(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (out / FILE).read_bytes()
    assert main([*TINY, str(out)]) == 0
    assert (out / FILE).read_bytes() == before
    assert " …" not in capsys.readouterr().err
    sheet = read(out)
    first = sheet["stages"].pop("scoring")
    (out / FILE).write_text(json.dumps(sheet), encoding="utf-8")
    assert main([*TINY, str(out)]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.endswith(" …")] == ["scoring …"]
    again = read(out)["stages"]
    assert list(again) == list(json.loads(before)["stages"])
    assert again["scoring"]["rows"] != first["rows"]
    assert {name: one for name, one in again.items() if name != "scoring"} == sheet["stages"]


def test_a_stage_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    asked = [*TINY, str(out), "--data-dir", str(empty), "--only", "scoring", "--only", "machine"]
    assert main(asked) == 0
    stages = read(out)["stages"]
    assert stages["machine"]["status"] == "done"
    assert stages["scoring"]["status"] == "failed"
    assert "verbmem" in stages["scoring"]["reason"]
    assert "\n" not in stages["scoring"]["reason"]
    assert f"**Failed**: {stages['scoring']['reason']}" in (out / PAGE).read_text(encoding="utf-8")
    # It has no result, so it is tried again; alone it leaves nothing measured.
    assert main([*TINY, str(out), "--data-dir", str(empty), "--only", "scoring"]) == 2


def test_a_stage_of_its_own_process_is_stopped_at_its_limit(out: Path) -> None:
    before = read(out)["stages"]
    asked = [*TINY, str(out), "--apart", "--again", "--only"]
    assert main([*asked, "exactness", "--limit", "exactness=0.2"]) == 2
    found = read(out)["stages"]
    assert found.pop("exactness")["reason"].startswith("stopped at its limit of 0 s")
    before.pop("exactness")
    assert found == before
    assert main([*TINY, str(out), "--only", "machine", "--again", "--apart"]) == 0
    assert read(out)["stages"]["machine"]["facts"].keys() == before["machine"]["facts"].keys()


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed: the stage would take minutes")
def test_a_stage_that_is_left_out_says_why(out: Path) -> None:
    assert main([*TINY, str(out), "--only", "vllm"]) == 2
    stage = read(out)["stages"]["vllm"]
    assert (stage["status"], stage["rows"]) == (
        "skipped",
        [{"what": "vLLM", "skipped": "vLLM is not installed"}],
    )


def test_what_was_not_exact_is_exit_code_1(out: Path) -> None:
    sheet = read(out)
    sheet["stages"]["exactness"]["facts"]["exact"] = False
    (out / FILE).write_text(json.dumps(sheet), encoding="utf-8")
    assert main([*TINY, str(out)]) == 1
    assert main([*TINY, str(out), "--only", "training"]) == 0


def test_a_check_is_not_mixed_with_another(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (out / FILE).read_bytes()
    assert main([*TINY, str(out), "--shape", "1m"]) == 2
    told = capsys.readouterr().err
    assert "another shape (tiny; now 1m)" in told
    assert told.count("\n") == 1
    (out / FILE).write_text("{}", encoding="utf-8")
    assert main([*TINY, str(out)]) == 2
    assert "no sheet of this check" in capsys.readouterr().err
    (out / FILE).write_bytes(before)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--shape", "7c"], "did you mean '7b'"),
        (["--limit", "scorin=3"], "did you mean 'scoring'"),
        (["--limit", "scoring=x"], "scoring=300"),
        (["--data-dir", "nowhere"], "is no folder"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, str(tmp_path / "new"), *options]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert not (tmp_path / "new").exists()


# ── how answers are compared, what fits ──────────────────────────────────────────────────────────
def answers(text: str, score: float = -1.0) -> Answers:
    return Answers({"prompts": ["w1 w2", text]}, [np.array([score, -2.0])])


def test_answers_may_part_at_a_tie_and_nowhere_else() -> None:
    asked: list[tuple[str, int, int]] = []

    def gap(kind: str, place: int, token: int) -> float:
        asked.append((kind, place, token))
        return 5e-5 if token == 2 else 0.1

    reference = answers("w3 w4 w5 w6")
    found = agree(reference, answers("w3 w4 w7 w8", -1.00005), gap)
    assert (found.same, found.tied, found.wrong, found.exact) == (1, 1, [], True)
    assert found.worst == pytest.approx(5e-5)
    found = agree(reference, answers("w3 w4 w5"), gap)
    assert (found.wrong, found.exact) == (["prompts[1]"], False)
    assert asked == [("prompts", 1, 2), ("prompts", 1, 3)]
    assert not agree(reference, answers("w3 w4 w5 w6", -1.0002), gap).exact
    assert not agree(reference, answers("w3 w4 w5 w6", float("nan")), gap).exact


def test_layers_are_cut_to_what_fits() -> None:
    shape, tune = SHAPES["7b"], Subject("finetune")
    needed = reckon(shape, tune, "adamw", 2, 2_048)
    # Llama-2-7B has 6.74 thousand million weights: 13.5 GB; as many gradients; two states.
    assert needed["weights"] == needed["gradients"] == pytest.approx(13.48e9, rel=1e-3)
    assert needed["optimizer"] == pytest.approx(2 * 13.48e9, rel=1e-3)
    assert fit(shape, tune, "adamw", 2, 2_048, 75e9) == shape
    assert fit(shape, Subject("simnpo_gdr", "r=16"), "adamw", 2, 2_048, 22e9) == shape
    cut = fit(shape, tune, "adamw", 2, 2_048, 36e9)
    assert 12 < cut.layers < 20
    assert sum(reckon(cut, tune, "adamw", 2, 2_048).values()) <= 36e9
    with pytest.raises(MemoryError, match="smaller --shape"):
        fit(shape, tune, "adamw", 2, 2_048, 2e9)


def test_a_shape_too_large_for_the_card_is_refused_with_one_that_fits() -> None:
    machine = {"facts": {"card": "Small Card", "memory_gib": 15.8}}
    with pytest.raises(
        UserError, match=r"7b takes about 19 GiB to score, Small Card has 15.8; --shape 3b fits"
    ):
        check_fits("7b", machine)
    for memory in (23.5, 39.5, 79.2):
        check_fits("7b", {"facts": {"card": "", "memory_gib": memory}})


def test_the_last_stage_has_committed_values_to_hold_its_own_against() -> None:
    runs = [f"muse_mini/{name}" for name in ("target", "retrain", small.METHOD)]
    assert sorted(only(load_baseline(small.BASELINE), runs).runs) == sorted(runs)


# ── time ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_stage_for_which_no_time_was_left_is_tried_again(tmp_path: Path) -> None:
    asked = [*TINY, str(tmp_path / "out"), "--only", "machine"]
    assert main([*asked, "--limit", "machine=-1"]) == 2
    stage = read(tmp_path / "out")["stages"]["machine"]
    assert stage["status"] == "failed"
    assert stage["reason"].startswith("0 s were left of the stage's time")
    assert main(asked) == 0
    assert read(tmp_path / "out")["stages"]["machine"]["status"] == "done"


def test_models_on_the_way_take_no_more_time_than_was_left() -> None:
    made = subprocess.Popen([sys.executable, "-c", ""])
    wait(made, 60)
    assert made.returncode == 0
    endless = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    wait(endless, -3)
    assert endless.returncode != 0
