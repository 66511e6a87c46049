"""Which task a model belongs to: its card, the recipe beside its weights, its name."""

import json
from pathlib import Path

import pytest

from muse_eval.errors import UserError
from muse_eval.scoring.which_task import task_of


def model(folder: Path, card: str | None = None, **recipes: object) -> str:
    folder.mkdir()
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    for name, recipe in recipes.items():
        (folder / f"{name}.json").write_text(json.dumps(recipe), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("head", "task"),
    [
        ("datasets:\n- muse-bench/MUSE-Books", "muse_books"),
        ("datasets: muse-bench/MUSE-News", "muse_news"),
        ("license: mit\ndatasets:\n- locuslab/TOFU\n- MUSE-Bench/muse-books", "muse_books"),
        ("datasets:\n- muse-bench/MUSE-News\n- muse-bench/MUSE-Books", "muse_news"),
    ],
)
def test_from_the_card(tmp_path: Path, head: str, task: str) -> None:
    assert task_of(model(tmp_path / "m", f"---\n{head}\n---\n\n# A model\n")).name == task


def test_the_card_goes_before_recipe_and_name(tmp_path: Path) -> None:
    card = "---\ndatasets: [muse-bench/MUSE-Books]\n---\n"
    named = model(tmp_path / "MUSE-News_x", card, unlearn={"config": {"task": "muse_mini"}})
    assert task_of(named).name == "muse_books"


def test_from_what_made_it(tmp_path: Path) -> None:
    unlearned = model(tmp_path / "a_muse_news", unlearn={"config": {"task": "muse_books"}})
    assert task_of(unlearned).name == "muse_books"
    assert task_of(model(tmp_path / "b", recipe={"task": "muse_mini"})).name == "muse_mini"


def test_from_what_made_it_with_another_seed(tmp_path: Path) -> None:
    task = task_of(model(tmp_path / "m", unlearn={"config": {"task": "muse_mini-seed3"}}))
    assert (task.name, task.data.seed) == ("muse_mini-seed3", 3)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("MUSE-News_target", "muse_news"),
        ("my-muse_books-npo-7b", "muse_books"),
        ("SimNPO.MUSE.Books", "muse_books"),
        ("musemini", "muse_mini"),
    ],
)
def test_from_its_name(tmp_path: Path, name: str, task: str) -> None:
    assert task_of(model(tmp_path / name)).name == task


@pytest.mark.parametrize(
    "card",
    [
        None,
        "",
        "# A model\n\ndatasets: muse-bench/MUSE-Books\n",
        "---\ndatasets: [\n---\n",
        "---\n- muse-bench/MUSE-Books\n---\n",
        "---\ndatasets:\n---\n",
        "---\ndatasets:\n- locuslab/TOFU\n---\n",
        "---\ndatasets: muse-bench/MUSE-Books\n",
    ],
)
def test_a_card_that_does_not_tell(tmp_path: Path, card: str | None) -> None:
    folder = model(tmp_path / "m", card)
    with pytest.raises(UserError) as caught:
        task_of(folder)
    assert str(caught.value) == (
        f"cannot tell the task of {folder}; give --task with one of muse_books, muse_mini, muse_news"
    )
    assert task_of(model(tmp_path / "muse-news", card)).name == "muse_news"


@pytest.mark.parametrize(
    "recipe", [{}, {"config": None}, {"config": []}, {"config": {}}, {"config": {"task": None}}]
)
def test_a_recipe_that_does_not_tell(tmp_path: Path, recipe: object) -> None:
    with pytest.raises(UserError, match="cannot tell the task"):
        task_of(model(tmp_path / "m", unlearn=recipe))


@pytest.mark.parametrize("recipe", [[], "text"])
def test_a_recipe_that_is_no_mapping_is_one_line(tmp_path: Path, recipe: object) -> None:
    with pytest.raises(UserError, match=r"m/unlearn\.json must be a mapping .*; mend or remove it"):
        task_of(model(tmp_path / "m", unlearn=recipe))


def test_a_recipe_of_a_task_that_is_not_built_in(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", unlearn={"config": {"task": "village"}})
    with pytest.raises(UserError) as caught:
        task_of(folder)
    assert str(caught.value) == (
        f"{folder} was made for the task 'village', which is not built in; give --task with its YAML file"
    )
