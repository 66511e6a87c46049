"""Metrics, methods and tasks are found by their file names, and a wrong name is told the nearest one."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path

import pytest
import yaml

from muse_eval import plugins
from muse_eval.config.split_names import columns_of
from muse_eval.errors import UserError
from muse_eval.types import AnyMethod, Metric

ROOT = Path(__file__).parents[1]


def test_metrics_are_the_files_that_define_one() -> None:
    names = plugins.metric_names()
    assert {"knowmem", "privleak", "verbmem"} <= set(names)
    assert names == sorted(names)
    assert "rouge" not in names
    for name in names:
        assert (ROOT / "metrics" / f"{name}.py").is_file()
        metric = plugins.metric(name)
        assert isinstance(metric, Metric)
        assert is_dataclass(metric.params)
        assert set(metric.few_shot) <= set(metric.roles)


def test_tasks_are_the_yaml_files() -> None:
    names = plugins.task_names()
    assert {"muse_books", "muse_mini", "muse_news"} <= set(names)
    assert names == sorted(path.stem for path in (ROOT / "tasks").glob("*.yaml"))
    for name in names:
        task = plugins.task(name)
        assert task.name == name
        for column in task.columns.values():
            metric = plugins.metric(column.metric)
            assert set(column.splits) == set(metric.roles)
            for role, split in column.splits.items():
                assert set(metric.roles[role]) <= set(columns_of(split))


def test_methods_come_alone_and_with_each_retain_term() -> None:
    names = plugins.method_names()
    assert {"ga", "ga_gdr", "ga_klr", "npo", "npo_gdr", "npo_klr", "simnpo", "simnpo_gdr"} <= set(names)
    for name in names:
        file, method, retain = plugins.method(name)
        assert isinstance(method, AnyMethod)
        suffix = {None: "", "nll": "_gdr", "kl": "_klr"}[retain]
        at = "@released" if file.endswith("_released") else ""
        assert name == f"{file.removesuffix('_released')}{suffix}{at}"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("npo", ("npo", None)),
        ("npo_gdr", ("npo", "nll")),
        ("npo_klr", ("npo", "kl")),
        ("npo@released", ("npo_released", None)),
        ("npo_gdr@released", ("npo_released", "nll")),
        ("task_vector", ("task_vector", None)),
    ],
)
def test_split_method(name: str, parts: tuple[str, str | None]) -> None:
    assert plugins.split_method(name) == parts


@pytest.mark.parametrize("name", ["npo_klr@released", "rmu_gdr", "npo_released", "task_vector_klr", "ga_xyz"])
def test_what_has_no_such_retain_term_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"no method|has no retain term"):
        plugins.method(name)


def test_wrong_names_are_told_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no metric 'verbmen'; did you mean 'verbmem'\? metrics: .*knowmem"):
        plugins.metric("verbmen")
    with pytest.raises(UserError, match=r"no method 'simpo'; did you mean 'simnpo'\?"):
        plugins.method("simpo")
    with pytest.raises(UserError, match=r"no task 'muse_book'; did you mean 'muse_books'\?"):
        plugins.task("muse_book")
    with pytest.raises(UserError, match="no metric 'rouge'"):
        plugins.metric("rouge")
    with pytest.raises(UserError, match=r"no task '\.\./tasks/muse_news'"):
        plugins.task("../tasks/muse_news")


def test_a_world_of_another_seed_is_a_task_of_its_own() -> None:
    base, other = plugins.task("muse_mini"), plugins.task("muse_mini-seed3")
    assert (other.name, other.title, other.data.seed) == ("muse_mini-seed3", f"{base.title}, seed 3", 3)
    assert other.fingerprints == {}
    assert other.columns == base.columns
    with pytest.raises(UserError, match="task muse_news has no seed"):
        plugins.task("muse_news-seed3")
    with pytest.raises(UserError, match="no task 'muse_mine-seed3'"):
        plugins.task("muse_mine-seed3")


@pytest.mark.parametrize("name", ["muse_mini_scal", "muse_mini_sust", "muse_news_scal", "muse_news_sust"])
def test_a_task_of_several_forget_sets_is_its_base_otherwise(name: str) -> None:
    task = plugins.task(name)
    base = plugins.task(name.rpartition("_")[0])
    assert task.base == base.name
    assert task.forget_sets is not None
    group = name.rpartition("_")[2]
    assert task.forget_sets.forget == [f"{group}/forget_{number}" for number in (1, 2, 3, 4)]
    assert task.forget_sets.mode == {"scal": "nested", "sust": "sequential"}[group]
    own = {"name", "title", "source", "base", "forget_sets", "fingerprints"}
    assert task.model_dump(exclude=own) == base.model_dump(exclude=own)
    assert base.fingerprints.items() <= task.fingerprints.items()
    assert task.needed == base.needed | set(task.forget_sets.forget)
    assert task.needed <= set(task.fingerprints)


def test_folds_are_as_large_as_muse_says() -> None:
    """Nested: 889, 1778, 2667, 3554 texts. Disjoint: 889, 889, 889, 887, and the bytes of the nested sums."""
    scal, sust = (plugins.task(f"muse_news_{kind}").fingerprints for kind in ("scal", "sust"))
    rows = bytes_ = 0
    for number, nested in zip((1, 2, 3, 4), (889, 1778, 2667, 3554), strict=True):
        one = sust[f"sust/forget_{number}"]
        rows, bytes_ = rows + one.rows, bytes_ + (one.num_bytes or 0)
        whole = scal[f"scal/forget_{number}"]
        assert (whole.rows, whole.num_bytes) == (rows, bytes_)
        assert whole.rows == nested


def test_a_seed_reseeds_the_base_too() -> None:
    task = plugins.task("muse_mini_sust-seed3")
    assert (task.name, task.base, task.data.seed) == ("muse_mini_sust-seed3", "muse_mini-seed3", 3)
    with pytest.raises(UserError, match="task muse_news_scal has no seed"):
        plugins.task("muse_news_scal-seed3")


def test_a_target_reads_nested_sets_once_and_sequential_ones_all() -> None:
    assert plugins.task("muse_mini_scal").reads("target") == ["scal/forget_4", "raw/retain"]
    disjoint = [f"sust/forget_{number}" for number in (1, 2, 3, 4)]
    assert plugins.task("muse_mini_sust").reads("target") == [*disjoint, "raw/retain"]


def test_a_task_has_its_bases_data_folder_unless_it_names_its_own(tmp_path: Path) -> None:
    """A relative folder stands beside the file that names it."""
    task = plugins.task("muse_mini").model_dump(mode="json", by_alias=True)
    for folder in ("homes", "children"):
        (tmp_path / folder).mkdir()
    task |= {"name": "home", "data": {"source": "folder", "folder": "data"}}
    (tmp_path / "homes" / "home.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    child = tmp_path / "children" / "child.yaml"
    text = "name: child\ntitle: C\nsource: me\nbase: ../homes/home.yaml\n"
    child.write_text(text, encoding="utf-8")
    found = plugins.task(str(child)).data.folder
    assert found is not None
    assert found.resolve() == (tmp_path / "homes" / "data").resolve()
    child.write_text(text + "data: {folder: own}\n", encoding="utf-8")
    assert plugins.task(str(child)).data.folder == tmp_path / "children" / "own"


def test_a_base_is_a_whole_task_by_name_or_beside_the_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\ntitle: Mine\nsource: me\nbase: muse_mini\nunlearn: {lr: 0.01}\n", "utf-8")
    task, base = plugins.task(str(mine)), plugins.task("muse_mini")
    assert (task.name, task.base, task.unlearn.lr) == ("mine", "muse_mini", 0.01)
    assert task.unlearn.epochs == base.unlearn.epochs
    assert task.columns == base.columns

    (tmp_path / "child.yaml").write_text("name: child\ntitle: C\nsource: me\nbase: mine.yaml\n", "utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml has a base itself; name a whole task as base"):
        plugins.task(str(tmp_path / "child.yaml"))
    (tmp_path / "self.yaml").write_text("name: s\ntitle: S\nsource: me\nbase: self.yaml\n", "utf-8")
    with pytest.raises(UserError, match=r"self\.yaml has a base itself"):
        plugins.task(str(tmp_path / "self.yaml"))
    mine.write_text("name: mine\ntitle: Mine\nsource: me\nbase: muse_mni\n", "utf-8")
    with pytest.raises(UserError, match="no task 'muse_mni'; did you mean 'muse_mini'"):
        plugins.task(str(mine))
    mine.write_text("name: mine\ntitle: M\nsource: me\nbase: muse_mini\nfolds: {mode: nest, forget: [a]}\n")
    with pytest.raises(UserError, match=r"mine\.yaml: folds\.mode"):
        plugins.task(str(mine))


@pytest.mark.parametrize("name", ["muse_mini", "muse_news_sust"])
def test_a_task_written_as_yaml_reads_back_equal(name: str, tmp_path: Path) -> None:
    task, path = plugins.task(name), tmp_path / "copy.yaml"
    path.write_text(yaml.safe_dump(task.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    assert plugins.task(str(path)) == task


def test_a_task_may_be_a_file_of_the_user_s(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = (ROOT / "tasks" / "muse_news.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("name: muse_news", "name: mine"), encoding="utf-8")
    assert plugins.task(str(path)).name == "mine"
    path.write_text(text.replace("title: MUSE-News", "titel: MUSE-News"), encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml"):
        plugins.task(str(path))
    path.write_text("a: [1", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.yaml:\d+: not valid YAML"):
        plugins.task(str(path))
    path.write_text("- a\n", encoding="utf-8")
    with pytest.raises(UserError, match="must be a mapping"):
        plugins.task(str(path))
    with pytest.raises(UserError, match=r"task file .*none\.yml does not exist"):
        plugins.task(str(tmp_path / "none.yml"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def score(:", "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("x", "NameError"),
    ],
)
def test_a_file_that_does_not_load_is_named(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / told.lower()
    room.mkdir()
    (room / "broken.py").write_text(f"{text}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=rf"{room.name}/broken\.py does not load \({told}: .*mend it"):
        plugins._load(room.name, "broken")
