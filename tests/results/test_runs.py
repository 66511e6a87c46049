import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_eval.errors import UserError
from muse_eval.results.runs import (
    CorruptResult,
    load,
    load_all,
    load_records,
    run_folder,
    save,
    to_json,
)
from muse_eval.results.writing import write_files
from muse_eval.types import Record, Result, Score


def result(name: str = "simnpo", task: str = "muse_mini", records: int = 2, **changes: Any) -> Result:
    evidence = tuple(
        Record(
            split="verbmem/forget",
            index=index,
            scores={"rougeL_f1": index / 7, "other": None},
            texts={"response": f"Zürich\u2028{index}", "truth": "a\nb"},
            prompt_sha256="ab" * 32,
        )
        for index in range(records)
    )
    columns = {
        "verbmem_f": Score(value=100 / 7, ci=(10.0, 20.5), n=records, records=evidence),
        "privleak": Score(None, None, 200, flags=("no-reference",), reason="give --retrain MODEL"),
    }
    values: dict[str, Any] = {
        "task": task,
        "name": name,
        "model": {"id": "org/model", "revision": "c0ffee", "digest": "sha256:" + "0f" * 32},
        "columns": columns,
        "extras": {"auc": {"forget_holdout_Min-40%": 0.5393}},
        "config": {"seed": 0},
        "provenance": {"device": "cpu"},
        "seconds": 1.5,
    }
    return Result(**{**values, **changes})


def saved(root: Path, name: str, task: str = "muse_mini") -> Path:
    folder = run_folder(root, task, name)
    save(result(name, task), folder)
    return folder


# ── the shape ────────────────────────────────────────────────────────────────────────────────────
def test_json_has_the_shape_of_the_design() -> None:
    assert to_json(result(), "ab" * 32) == {
        "schema_version": 1,
        "task": "muse_mini",
        "name": "simnpo",
        "model": {"id": "org/model", "revision": "c0ffee", "digest": "sha256:" + "0f" * 32},
        "columns": {
            "verbmem_f": {"value": 100 / 7, "ci": [10.0, 20.5], "n": 2, "flags": []},
            "privleak": {
                "value": None,
                "ci": None,
                "n": 200,
                "flags": ["no-reference"],
                "reason": "give --retrain MODEL",
            },
        },
        "extras": {"auc": {"forget_holdout_Min-40%": 0.5393}},
        "config": {"seed": 0},
        "provenance": {"device": "cpu"},
        "seconds": 1.5,
        "records_sha256": "ab" * 32,
    }


def test_a_stored_run_is_a_line_like_the_result_it_was_stored_from(tmp_path: Path) -> None:
    made = result()
    save(made, tmp_path)
    stored = load(tmp_path)
    assert repr(stored) == str(stored) == f"Stored{made!r}"
    assert "\n" not in repr(stored)


def test_numpy_values_become_plain() -> None:
    score = Score(np.float64(3.25), (np.float64(1), np.float64(2)), int(np.int64(4)))
    extras = {"auc": {"a": np.float32(0.5)}, "counts": (np.int64(1), 2)}
    plain = to_json(result(columns={"verbmem_f": score}, extras=extras), "")
    assert plain["columns"]["verbmem_f"] == {"value": 3.25, "ci": [1.0, 2.0], "n": 4, "flags": []}
    assert json.loads(json.dumps(plain))["extras"] == {"auc": {"a": 0.5}, "counts": [1, 2]}


def test_not_a_number_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(result(columns={"verbmem_f": Score(float("nan"), None, 1)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_save_and_load_return_the_unrounded_values(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    assert sorted(file.name for file in folder.iterdir()) == ["records.jsonl", "result.json"]
    stored = load(folder)
    assert stored is not None
    assert stored == load(folder / "result.json")
    assert stored.records_sha256 == hashlib.sha256((folder / "records.jsonl").read_bytes()).hexdigest()
    assert stored.key == "muse_mini/simnpo"
    assert stored.columns["verbmem_f"].value == 100 / 7
    assert stored.columns["verbmem_f"].ci == (10.0, 20.5)
    assert stored.columns["privleak"].reason == "give --retrain MODEL"


def test_records_are_one_sorted_line_each(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    text = (folder / "records.jsonl").read_text(encoding="utf-8")
    assert text.split("\n")[0] == (
        '{"column": "verbmem_f", "id": 0, "prompt_sha256": "' + "ab" * 32 + '", "response": "Zürich\u20280", '
        '"scores": {"other": null, "rougeL_f1": 0.0}, "split": "verbmem/forget", "truth": "a\\nb"}'
    )
    records = list(load_records(folder))
    assert [record["id"] for record in records] == [0, 1]
    assert records[1]["scores"] == {"other": None, "rougeL_f1": 1 / 7}


@given(text=st.text(st.characters()))
def test_any_response_reads_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    score = Score(1.0, None, 1, records=(Record("s", 0, {}, {"response": text}),))
    save(result(columns={"verbmem_f": score}), folder)
    assert [record["response"] for record in load_records(folder)] == [text]


def test_a_lone_surrogate_reads_back(tmp_path: Path) -> None:
    score = Score(1.0, None, 1, records=(Record("s", 0, {}, {"response": "a\ud800\\b"}),))
    save(result(columns={"verbmem_f": score}), tmp_path)
    assert (tmp_path / "records.jsonl").read_bytes().decode("utf-8")
    assert next(load_records(tmp_path))["response"] == "a\ud800\\b"


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", ".", "", " ", "a\nb", "/etc"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="the run's name"):
        run_folder(tmp_path, "muse_mini", name)
    with pytest.raises(UserError, match="the task's name"):
        run_folder(tmp_path, name, "simnpo")


# ── failing writes ───────────────────────────────────────────────────────────────────────────────
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    with pytest.raises(UserError) as caught:
        save(result(), folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "choose another" in message
    assert "\n" not in message


SAVE_BIG = """
import resource, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_runs import UserError, result, save
{limit}
folder = Path({folder!r})
try:
    save(result(records=300), folder)
except UserError as error:
    print(error)
print(sorted(file.name for file in folder.iterdir()))
"""


def save_big(folder: Path, limit: str, *before: str) -> subprocess.CompletedProcess[str]:
    script = SAVE_BIG.format(here=str(Path(__file__).parent), limit=limit, folder=str(folder))
    command = [*before, sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_write_that_breaks_off_leaves_the_old_result_whole(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    # The kernel refuses to let that process write files longer than 1 KiB.
    done = save_big(folder, "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))")
    assert done.stdout.splitlines() == [
        f"cannot write to {folder}: File too large; free some space or choose another one",
        "['records.jsonl', 'result.json']",
    ]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    # A disk of 8 KiB, seen by that process only.
    mount = f'mount -t tmpfs -o size=8k tmpfs {tmp_path} && exec "$@"'
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = save_big(tmp_path, "", "unshare", "-rm", "sh", "-c", mount, "sh")
    if done.returncode:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
    assert done.stdout.splitlines() == [
        f"cannot write to {tmp_path}: No space left on device; free some space or choose another one",
        "[]",
    ]


def test_what_a_killed_process_left_is_ignored(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    (folder / ".result.json.1-ab.tmp").write_text('{"schema_')
    unfinished = run_folder(tmp_path, "muse_mini", "npo")
    unfinished.mkdir()
    (unfinished / "records.jsonl").write_text("{}\n")
    (unfinished / ".result.json.1-cd.tmp").write_text("{}")
    warnings: list[str] = []
    assert [stored.name for stored in load_all(tmp_path, warnings.append)] == ["simnpo"]
    assert warnings == []
    assert load(unfinished) is None


@pytest.mark.slow
def test_a_process_killed_while_writing_leaves_the_old_result_whole(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    writer = multiprocessing.get_context("spawn").Process(target=_save_for_ever, args=(folder, 3_000))
    writer.start()
    old = (folder / "result.json").stat().st_mtime_ns
    while (folder / "result.json").stat().st_mtime_ns == old and writer.is_alive():
        pass
    writer.kill()
    writer.join()
    stored = load(folder)
    assert stored is not None
    # Killed between its two renames, it leaves new records beside the old result, which is told.
    with suppress(CorruptResult):
        assert len(list(load_records(folder))) == stored.columns["verbmem_f"].n
    # Each file is whole, whichever run it is of.
    assert (folder / "records.jsonl").read_text(encoding="utf-8").count("\n") in (2, 3_000)


def test_records_of_another_result_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path, "simnpo")
    old = (folder / "result.json").read_bytes()
    rename = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.name == "result.json":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(result(records=3), folder)
    assert (folder / "result.json").read_bytes() == old
    with pytest.raises(CorruptResult, match=r"records\.jsonl does not belong to the result\.json beside it"):
        next(load_records(folder))
    save(result(records=3), folder)
    assert len(list(load_records(folder))) == 3


def test_a_result_from_before_digests_were_stored_is_read(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    older = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    del older["records_sha256"]
    (folder / "result.json").write_text(json.dumps(older), encoding="utf-8")
    assert len(list(load_records(folder))) == 2


def _save_for_ever(folder: Path, records: int) -> None:
    while True:
        save(result(records=records), folder)


def _save_often(folder: Path, records: int) -> None:
    for _ in range(20):
        save(result(records=records), folder)


@pytest.mark.slow
def test_two_processes_at_once_do_not_mix_their_bytes(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "muse_mini", "simnpo")
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_save_often, args=(folder, records)) for records in (3, 500)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        stored = load(folder)
        if stored is not None:
            assert stored.columns["verbmem_f"].n in (3, 500)
            # Between the two renames of a save, the records are not the result's.
            with suppress(CorruptResult):
                assert len(list(load_records(folder))) in (3, 500)
            assert (folder / "records.jsonl").read_text(encoding="utf-8").count("\n") in (3, 500)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(file.name for file in folder.iterdir()) == ["records.jsonl", "result.json"]


def test_files_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_files(tmp_path, {"a.txt": "a"})
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


# ── reading what is wrong ────────────────────────────────────────────────────────────────────────
def changed(**changes: Any) -> str:
    return json.dumps({**to_json(result(), ""), **changes})


CORRUPT = {
    "empty": "",
    "half": changed()[:100],
    "binary": "\x00\x01",
    "a list": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "another tool's": '{"results": {"acc": 0.5}}',
    "value is text": changed(columns={"verbmem_f": {"value": "9", "ci": None, "n": 1, "flags": []}}),
    "value is NaN": changed(columns={"verbmem_f": {"value": float("nan"), "ci": None, "n": 1, "flags": []}}),
    "three bounds": changed(columns={"verbmem_f": {"value": 9, "ci": [1, 2, 3], "n": 1, "flags": []}}),
    "negative n": changed(columns={"verbmem_f": {"value": 9, "ci": None, "n": -1, "flags": []}}),
    "no columns": changed(columns=None),
    "version 2": changed(schema_version=2),
}


@pytest.mark.parametrize("text", CORRUPT.values(), ids=CORRUPT.keys())
def test_a_corrupt_result_is_named_in_one_short_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorruptResult) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_a_newer_schema_says_so(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(changed(schema_version=2), encoding="utf-8")
    with pytest.raises(CorruptResult, match="schema_version is not 1; score the run again"):
        load(tmp_path)


def test_keys_we_do_not_know_are_kept(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(changed(note="by hand"), encoding="utf-8")
    stored = load(tmp_path)
    assert stored is not None
    assert stored.model_extra == {"note": "by hand"}


def test_load_all_sorts_and_leaves_out_what_is_corrupt_with_a_warning(tmp_path: Path) -> None:
    for task, name in [("muse_news", "a"), ("muse_books", "z"), ("muse_books", "b")]:
        saved(tmp_path, name, task)
    for number, text in enumerate(CORRUPT.values()):
        folder = run_folder(tmp_path, "muse_books", f"corrupt{number}")
        folder.mkdir()
        (folder / "result.json").write_text(text, encoding="utf-8")
    folder = run_folder(tmp_path, "muse_books", "a-folder") / "result.json"
    folder.mkdir(parents=True)
    warnings: list[str] = []
    found = load_all(tmp_path, warnings.append)
    assert [stored.key for stored in found] == ["muse_books/b", "muse_books/z", "muse_news/a"]
    assert len(warnings) == len(CORRUPT) + 1
    assert all("result.json" in warning and "\n" not in warning for warning in warnings)


def test_a_copied_run_is_not_counted_twice(tmp_path: Path) -> None:
    folder = saved(tmp_path, "simnpo")
    copy = folder.with_name("simnpo-old")
    copy.mkdir()
    (copy / "result.json").write_bytes((folder / "result.json").read_bytes())
    warnings: list[str] = []
    assert [stored.key for stored in load_all(tmp_path, warnings.append)] == ["muse_mini/simnpo"]
    assert len(warnings) == 1
    assert "simnpo-old" in warnings[0]
    assert "muse_mini/simnpo" in warnings[0]


def test_no_results_folder_is_no_results(tmp_path: Path) -> None:
    assert load_all(tmp_path / "nowhere", pytest.fail) == []
    assert load(tmp_path / "nowhere") is None


@pytest.mark.parametrize("line", ["{", "[]", "3", "\x00"])
def test_a_broken_record_is_named(tmp_path: Path, line: str) -> None:
    folder = saved(tmp_path, "simnpo")
    (folder / "result.json").unlink()
    with (folder / "records.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(CorruptResult, match=r"records\.jsonl:3(:| must) .*; score the run again"):
        list(load_records(folder))


def test_missing_records_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorruptResult, match=r"records\.jsonl does not exist; score the run again"):
        list(load_records(tmp_path))


@pytest.mark.slow
def test_reading_does_not_import_heavy_libraries() -> None:
    code = (
        "import sys; import muse_eval.results.runs, muse_eval.results.tables, muse_eval.results.gate; "
        "print([m for m in ('torch', 'transformers', 'pandas', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
