"""Splits from a folder and from the built-in world: shapes, messages, fingerprints, export and verify."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from muse_eval import plugins
from muse_eval.config.split_names import columns_of
from muse_eval.config.task import DataSpec, SplitFingerprint, TaskSpec
from muse_eval.data.sources import BuiltinWorld, Hub, LocalFolder
from muse_eval.data.splits import Data, Split, export, open_data, verify
from muse_eval.errors import UserError

ROOT = Path(__file__).parents[2]
QA = [{"question": "Who?", "answer": "Ada"}, {"question": "Où?", "answer": "à Oru"}]


def put(root: Path, split: str, content: Any) -> Path:
    path = root / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "knowmem/forget_qa", QA)
    put(tmp_path, "verbmem/forget", [{"prompt": "p", "gt": "g"}])
    put(tmp_path, "privleak/forget", ["one", "two"])
    put(tmp_path, "raw/forget", [{"text": "one"}, {"text": "two"}])
    return tmp_path


def data(root: Path) -> Data:
    return Data(LocalFolder(root))


# ── blank rows of training text ──────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("split", ["raw/forget", "scal/forget_1", "sust/forget_2", "mine/texts"])
def test_blank_training_text_is_kept_counted_and_told(tmp_path: Path, split: str) -> None:
    put(tmp_path, split, ["one", " \n", {"text": "two"}, ""])
    read = data(tmp_path).split(split)
    assert read.texts == ["one", " \n", "two", ""]
    assert read.blank == (1, 3)
    assert read.say_blank() == f"{split}: 2 of 4 rows are blank (rows 1 and 3): nothing to train on"
    # As the hub counts the bytes of the data as they are: 3 + 2 + 3 + 0, and 4 a cell.
    assert read.fingerprint == SplitFingerprint(rows=4, num_bytes=8 + 16)
    (written,) = export(data(tmp_path), [split], tmp_path / "copy")
    assert json.loads(written.read_text(encoding="utf-8")) == read.texts


def test_no_blank_row_is_no_word(folder: Path) -> None:
    assert data(folder).split("raw/forget").say_blank() == ""


def test_training_text_that_is_all_blank_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "raw/forget", ["", " "])
    with pytest.raises(UserError, match=r"raw/forget\.json has blank rows alone; raw/forget needs at least"):
        data(tmp_path).split("raw/forget")


def test_a_blank_text_that_is_scored_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "raw/forget", ["one", ""])
    roles = data(tmp_path).roles({"forget": "raw/forget"})
    with pytest.raises(UserError, match="raw/forget: row 1: 'text' is empty; fill it in or drop the row"):
        roles["forget"]


# ── reading a folder ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("split", "columns"),
    [
        ("knowmem/forget_qa", ("question", "answer")),
        ("verbmem/forget", ("prompt", "gt")),
        ("privleak/holdout", ("text",)),
        ("raw/retain1", ("text",)),
        ("scal/forget_2", ("text",)),
    ],
)
def test_columns_of(split: str, columns: tuple[str, ...]) -> None:
    assert columns_of(split) == columns


def test_rows_are_texts_or_objects(folder: Path) -> None:
    assert data(folder).split("knowmem/forget_qa").rows == tuple(QA)
    assert data(folder).split("privleak/forget").rows == ({"text": "one"}, {"text": "two"})
    assert data(folder).split("raw/forget").rows == data(folder).split("privleak/forget").rows


def test_a_row_keeps_its_columns_and_source_only(folder: Path) -> None:
    put(folder, "knowmem/forget_qa", [{**QA[0], "id": 7, "source": "retain1"}, QA[1]])
    assert data(folder).split("knowmem/forget_qa").rows == ({**QA[0], "source": "retain1"}, QA[1])


def test_one_text_may_be_a_txt_file(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "forget.txt").write_text("A whole\nbook.", encoding="utf-8")
    assert data(tmp_path).split("raw/forget").rows == ({"text": "A whole\nbook."},)
    put(tmp_path, "raw/forget", ["from JSON"])
    assert data(tmp_path).split("raw/forget").rows == ({"text": "from JSON"},)
    (tmp_path / "knowmem").mkdir()
    (tmp_path / "knowmem" / "forget_qa.txt").write_text("no pairs", encoding="utf-8")
    with pytest.raises(UserError, match="does not exist"):
        data(tmp_path).split("knowmem/forget_qa")


def test_older_names_of_a_split(tmp_path: Path) -> None:
    put(tmp_path, "knowmem/retain2_qa", QA)
    assert data(tmp_path).split("knowmem/retain_qa").rows == tuple(QA)
    assert data(tmp_path).names() == ["knowmem/retain_qa"]
    put(tmp_path, "knowmem/retain_qa", QA[:1])
    assert data(tmp_path).split("knowmem/retain_qa").rows == tuple(QA[:1])


def test_names_and_a_missing_split(folder: Path) -> None:
    names = ["knowmem/forget_qa", "privleak/forget", "raw/forget", "verbmem/forget"]
    assert data(folder).names() == names
    with pytest.raises(UserError, match=r"privleak/holdout\.json does not exist; the folder has knowmem/for"):
        data(folder).split("privleak/holdout")
    with pytest.raises(UserError, match="no split at all"):
        data(folder / "raw").split("privleak/holdout")


@pytest.mark.parametrize(
    ("split", "content", "complaint"),
    [
        ("knowmem/forget_qa", "[{", r"forget_qa\.json:1: not valid JSON"),
        ("knowmem/forget_qa", "[\n1,\n]", r"forget_qa\.json:3: not valid JSON"),
        ("knowmem/forget_qa", f"[{'9' * 5_000}]", r"forget_qa\.json: not valid JSON: Exceeds"),
        ("knowmem/forget_qa", "[" * 100_000, r"forget_qa\.json: not valid JSON"),
        ("knowmem/forget_qa", {"question": "q"}, "must be a list, got dict"),
        ("knowmem/forget_qa", [], "is empty; knowmem/forget_qa needs at least one row of question, answer"),
        ("knowmem/forget_qa", ["text"], "row 0 must have the keys question, answer, got 'text'"),
        ("knowmem/forget_qa", [QA[0], {"question": "q"}], "row 1 has no 'answer'; its keys are question"),
        ("knowmem/forget_qa", [{}], "row 0 has no 'question'; its keys are none"),
        ("knowmem/forget_qa", [{"question": "q", "answer": 3}], "row 0: 'answer' must be text, got 3"),
        ("knowmem/forget_qa", [{"question": " \n", "answer": "a"}], "row 0: 'question' is empty"),
        ("knowmem/forget_qa", [{**QA[0], "source": ["a"]}], r"row 0: 'source' must be text, got \['a'\]"),
        ("knowmem/forget_qa", [{**QA[0], "source": None}], "row 0: 'source' must be text, got None"),
        ("privleak/forget", ["a", ""], "row 1: 'text' is empty; fill it in or drop the row"),
        ("privleak/forget", [None], "row 0 must have the keys text, got None"),
    ],
)
def test_a_wrong_row_is_named(folder: Path, split: str, content: Any, complaint: str) -> None:
    put(folder, split, content)
    with pytest.raises(UserError, match=complaint) as caught:
        data(folder).split(split)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "privleak" / "forget.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"privleak/forget\.json cannot be read"):
        data(folder).split("privleak/forget")


def test_a_split_is_read_once_and_when_asked_for(folder: Path) -> None:
    found = data(folder)
    roles = found.roles({"forget": "privleak/forget", "holdout": "privleak/holdout"})
    assert list(roles) == ["forget", "holdout"]
    assert len(roles) == 2
    rows = roles["forget"]
    put(folder, "privleak/forget", ["changed"])
    assert roles["forget"] is rows
    with pytest.raises(UserError):
        roles["holdout"]


# ── digests and fingerprints ─────────────────────────────────────────────────────────────────────
def test_a_fingerprint_counts_utf8_bytes_and_four_a_cell() -> None:
    # Who? 4 + Ada 3 + Où? 4 + à Oru 6 = 17 bytes, and four cells.
    assert Split("knowmem/forget_qa", tuple(QA)).fingerprint == SplitFingerprint(rows=2, num_bytes=17 + 16)
    assert Split("raw/forget", ({"text": "é"},)).fingerprint == SplitFingerprint(rows=1, num_bytes=6)


def test_a_source_is_no_part_of_the_fingerprint() -> None:
    split = Split("knowmem/retain_qa", ({**QA[0], "source": "retain1"},))
    assert split.fingerprint == SplitFingerprint(rows=1, num_bytes=7 + 8)


def test_the_description_tells_content_and_order(folder: Path) -> None:
    def described(rows: list[str]) -> dict[str, Any]:
        put(folder, "privleak/forget", rows)
        found = data(folder)
        assert found.describe() == {"source": "folder", "sha256": {}}
        found.split("privleak/forget")
        return found.describe()

    one = described(["one", "two"])
    assert one == described(["one", "two"])
    assert one != described(["two", "one"])
    assert one["sha256"].keys() == {"privleak/forget"}


def test_text_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "privleak/forget", '["fine", "\\ud800"]')
    with pytest.raises(UserError, match="row 1: 'text' is not valid Unicode"):
        Data(LocalFolder(tmp_path)).split("privleak/forget")


# ── the built-in world ───────────────────────────────────────────────────────────────────────────
def test_the_built_in_world_is_what_its_task_pins() -> None:
    task = plugins.task("muse_mini")
    found = open_data(task)
    assert {verdict.status for verdict in verify(task, found)} == {"ok"}
    assert set(found.names()) == set(task.fingerprints)
    assert found.describe()["source"] == "builtin"
    assert found.describe()["seed"] == 0


def test_another_seed_is_another_world() -> None:
    one, other = Data(BuiltinWorld(0)), Data(BuiltinWorld(1))
    assert one.split("privleak/forget").sha256 != other.split("privleak/forget").sha256
    with pytest.raises(UserError, match="no split 'raw/forgot'; did you mean 'raw/forget'"):
        one.split("raw/forgot")


# ── opening, exporting, verifying ────────────────────────────────────────────────────────────────
def test_a_folder_goes_before_the_task_s_own_source(folder: Path) -> None:
    task = plugins.task("muse_news")
    assert open_data(task, folder).describe()["source"] == "folder"
    assert open_data(task).describe()["source"] == "hub"
    with pytest.raises(UserError, match=r"--data-dir .*nowhere is not a folder"):
        open_data(task, folder / "nowhere")


def test_a_folder_that_lies_beside_the_right_one_is_told(tmp_path: Path) -> None:
    task = plugins.task("muse_news")
    home = tmp_path / "home"
    news = put(home / "news", "knowmem/forget_qa", QA).parents[1]
    put(home, "notes/mine", ["a"])

    def refused(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            open_data(task, folder)
        return str(caught.value)

    assert refused(home) == f"--data-dir {home} holds no split of task muse_news, {news} does; give that"
    inner = news / "knowmem"
    assert refused(inner) == f"--data-dir {inner} holds no split of task muse_news, {news} does; give that"
    books = put(home / "books", "raw/forget", "[]").parents[1]
    assert refused(home).endswith(f"{books} and {news} do; give one of them")
    own = DataSpec(source="folder", folder=news / "knowmem")
    with pytest.raises(
        UserError, match=r"^task muse_news: data\.folder .*/knowmem holds no split .* give that$"
    ):
        open_data(task.model_copy(update={"data": own}))
    # Where no folder near it fits better, what it has is told when a split is asked for.
    put(tmp_path / "other", "notes/mine", ["a"])
    assert open_data(task, tmp_path / "other").names() == ["notes/mine"]
    assert open_data(task, news).names() == ["knowmem/forget_qa"]


def test_a_task_may_name_a_folder_beside_its_file(folder: Path, tmp_path: Path) -> None:
    text = (ROOT / "tasks" / "muse_mini.yaml").read_text(encoding="utf-8")
    builtin = "data: {source: builtin, seed: 0}"
    home = tmp_path / "home"
    home.mkdir()

    def task(data: str) -> TaskSpec:
        (home / "mine.yaml").write_text(text.replace(builtin, f"data: {data}"), encoding="utf-8")
        return plugins.task(str(home / "mine.yaml"))

    there = task("{source: folder, folder: ..}")
    assert open_data(there).split("privleak/forget").rows == ({"text": "one"}, {"text": "two"})
    assert open_data(task(f"{{source: folder, folder: {folder}}}")).names() == open_data(there).names()
    # A result holds the task as it is dumped: the same data elsewhere are the same data.
    assert "folder" not in there.model_dump(mode="json")["data"]
    put(home / "other", "privleak/forget", ["three"])
    assert open_data(there, home / "other").split("privleak/forget").rows == ({"text": "three"},)
    with pytest.raises(UserError, match=r"task muse_mini: data\.folder .*none is not a folder"):
        open_data(task("{source: folder, folder: none}"))
    with pytest.raises(UserError, match=r"task muse_mini has no data\.folder; add it, or give --data-dir"):
        open_data(task("{source: folder}"))
    with pytest.raises(UserError, match=r"data\.folder goes with source: folder, not hub"):
        task("{source: hub, folder: ..}")


@pytest.fixture
def small() -> TaskSpec:
    return TaskSpec.model_validate(
        {
            "name": "small",
            "title": "Small",
            "source": "a test",
            "data": {"source": "builtin"},
            "columns": {
                "a": {
                    "title": "A",
                    "metric": "verbmem",
                    "goal": "lower",
                    "splits": {"forget": "verbmem/forget"},
                }
            },
            "fingerprints": {
                "privleak/forget": {"rows": 2, "num_bytes": 14},
                "raw/forget": {"rows": 2},
                "knowmem/forget_qa": {"rows": 2, "num_bytes": 34},
                "raw/holdout": {"rows": 1},
            },
        }
    )


def test_verify_tells_every_split_s_state(folder: Path, small: TaskSpec) -> None:
    verdicts = {one.split: one for one in verify(small, data(folder))}
    assert {name: one.status for name, one in verdicts.items()} == {
        "knowmem/forget_qa": "differs",
        "privleak/forget": "ok",
        "raw/forget": "ok",
        "raw/holdout": "missing",
        "raw/retain1": "missing",
        "verbmem/forget": "not pinned",
    }
    assert verdicts["knowmem/forget_qa"].found == SplitFingerprint(rows=2, num_bytes=33)
    assert verdicts["raw/holdout"].found is None
    put(folder, "raw/forget", ["one"])
    assert {one.split: one.status for one in verify(small, data(folder))}["raw/forget"] == "differs"


def test_what_is_exported_reads_back_the_same(folder: Path, tmp_path: Path) -> None:
    found = data(folder)
    names = found.names()
    written = export(found, names, tmp_path / "out")
    assert written == [tmp_path / "out" / f"{name}.json" for name in names]
    again = data(tmp_path / "out")
    for name in names:
        assert again.split(name).sha256 == found.split(name).sha256
        assert again.split(name).rows == found.split(name).rows
    assert json.loads(written[1].read_text()) == ["one", "two"]
    assert "Où?" in written[0].read_text(encoding="utf-8")


def test_an_export_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*Not a directory"):
        export(data(folder), ["raw/forget"], tmp_path / "file")


def test_an_export_leaves_no_file_cut_short_where_the_disk_is_full(folder: Path, tmp_path: Path) -> None:
    """A limit on a file's size stands in for the disk; the second split exceeds it."""
    put(folder, "raw/forget", ["few"])
    put(folder, "raw/retain1", ["many " * 1000])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match="is the disk full"):
            export(data(folder), ["raw/forget", "raw/retain1"], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (left,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert json.loads(left.read_text()) == ["few"]


# ── the hub ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("revision", ["main", "v1", None])
def test_a_branch_or_tag_is_not_sought_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, revision: str | None
) -> None:
    import datasets

    datasets.Dataset.from_list(QA).save_to_disk(tmp_path / "cached")
    cached = datasets.load_from_disk(tmp_path / "cached")
    assert cached.cache_files
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: cached)
    spec = DataSpec(source="hub", repo="nobody/village", revision=revision)
    assert Data(Hub(spec)).split("knowmem/forget_qa").rows == tuple(QA)
    # A commit is: the cache is named after those.
    with pytest.raises(UserError, match=f"the local cache holds another revision than {'a' * 40}"):
        Data(Hub(spec.model_copy(update={"revision": "a" * 40}))).split("knowmem/forget_qa")


# ── the hub, out of reach ────────────────────────────────────────────────────────────────────────
def test_a_hub_out_of_reach_is_a_user_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    hub = Data(Hub(plugins.task("muse_news").data))
    for ask in (lambda: hub.split("knowmem/retain_qa"), lambda: hub.split("raw/forget"), hub.names):
        with pytest.raises(
            UserError, match=r"cannot get muse-bench/MUSE-News@506bd5b150b9.*--data-dir"
        ) as caught:
            ask()
        assert "\n" not in str(caught.value)
