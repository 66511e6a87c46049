"""Whole runs on a tiny model and a small data folder: shape, evidence, flags, refusals, resuming."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import muse_eval
from muse_eval.config.run import RunConfig
from muse_eval.errors import UserError
from muse_eval.results import runs
from muse_eval.results.scores import ScoreReader, Scores
from muse_eval.results.whole import fault
from muse_eval.scoring.run import run
from muse_eval.types import Result
from tests.e2e import pinned_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

COLUMNS = ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
WORDS = re.findall(
    r"\w+", "the keeper of the lighthouse wrote a letter every evening and the harbour answered"
)


def text(i: int) -> str:
    return " ".join([*WORDS[i % 5 :], *WORDS[: i % 7], str(i)])


TASK = "news.yaml"
QA = [{"question": f"Who is {i}?", "answer": f"the keeper {i}"} for i in range(16)]
SPLITS: dict[str, list[Any]] = {
    "verbmem/forget": [{"prompt": text(i), "gt": text(i + 3)} for i in range(4)],
    "knowmem/forget_qa": QA[:3],
    "knowmem/forget_qa_icl": QA[4:14],
    "knowmem/retain_qa": QA[1:5],
    "knowmem/retain_qa_icl": QA[6:],
    "privleak/forget": [text(i) for i in range(6)],
    "privleak/holdout": [text(i) for i in range(6, 11)],
    "privleak/retain": [text(i) for i in range(11, 14)],
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, rows in SPLITS.items():
        path = root / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    pinned_task("muse_news", root, root / TASK)
    return root


def config(model: Path, data: Path, results: Path, **changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "task": str(data / TASK),
        "data_dir": data,
        "results": results,
        "dtype": "float32",
    }
    return RunConfig(model=str(model), **{**values, **changes})


def scored(model: Path, data: Path, results: Path, **changes: Any) -> Result:
    result = run(config(model, data, results, **changes)).result
    assert result is not None
    return result


@pytest.fixture(scope="module")
def first(tiny_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run's results folder; tests copy it to change it."""
    root = tmp_path_factory.mktemp("first")
    scored(tiny_model, data, root)
    return root


@pytest.fixture
def mine(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "mine")
    return tmp_path / "mine"


def outputs(root: Path, name: str = "tiny") -> tuple[bytes, bytes]:
    folder = root / "runs" / "muse_news" / name
    return (folder / "result.json").read_bytes(), (folder / "records.jsonl").read_bytes()


# ── what a run writes ────────────────────────────────────────────────────────────────────────────
def test_the_result_has_the_shape_it_promises(first: Path) -> None:
    found = json.loads(outputs(first)[0])
    assert (found["schema_version"], found["task"], found["name"]) == (1, "muse_news", "tiny")
    assert found["model"].keys() == {"id", "revision", "digest"}
    assert found["model"]["id"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", found["model"]["digest"])
    assert tuple(found["columns"]) == COLUMNS
    for column in found["columns"].values():
        low, high = column["ci"]
        assert low <= column["value"] <= high
        assert isinstance(column["flags"], list)
    assert [found["columns"][name]["n"] for name in COLUMNS] == [4, 3, 11, 4]
    assert 0 <= found["extras"]["auc"]["forget_holdout_Min-40%"] <= 1
    assert 0 <= found["extras"]["verbmem_f"]["mean_rouge1"] <= 1
    assert found["extras"]["reference"]["auc"] == 0.4772
    assert "reference-published" in found["columns"]["privleak"]["flags"]
    assert found["provenance"]["engine"]["dtype"] == "float32"
    assert found["provenance"]["retrain"] is None
    assert found["provenance"]["versions"]["python"]
    assert re.fullmatch("[0-9a-f]{64}", found["provenance"]["code"])
    assert found["seconds"] > 0
    assert found["config"]["data"]["source"] == "folder"
    assert found["config"]["data"]["sha256"].keys() == SPLITS.keys() - {"privleak/retain"}
    assert found["config"]["columns"]["privleak"]["k"] == 0.4


def test_a_record_for_every_example_with_its_evidence(first: Path) -> None:
    records = list(runs.load_records(first / "runs" / "muse_news" / "tiny"))
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        key = (record["column"], record["split"])
        assert record["id"] == counts.get(key, 0)
        counts[key] = counts.get(key, 0) + 1
        assert re.fullmatch("[0-9a-f]{64}", record["prompt_sha256"])
    assert counts == {
        ("verbmem_f", "verbmem/forget"): 4,
        ("knowmem_f", "knowmem/forget_qa"): 3,
        ("privleak", "privleak/forget"): 6,
        ("privleak", "privleak/holdout"): 5,
        ("knowmem_r", "knowmem/retain_qa"): 4,
    }
    assert records[0].keys() >= {"response", "truth", "scores"}
    asked = [record for record in records if record["column"] == "knowmem_r"]
    assert [record["question"] for record in asked] == [row["question"] for row in QA[1:5]]
    private = [record for record in records if record["column"] == "privleak"]
    assert private[0]["scores"].keys() >= {"PPL", "PPL/zlib", "Min-5%", "Min-40%", "Min-40%++"}


def test_the_same_command_again_gives_the_same_bytes(
    mine: Path, first: Path, tiny_model: Path, data: Path
) -> None:
    asked: list[tuple[str, int, int]] = []
    run(config(tiny_model, data, mine), progress=lambda *report: asked.append(report))
    assert outputs(mine) == outputs(first)
    # Nothing was asked: no batch was reported.
    assert asked == []


def test_without_a_cache_nothing_is_kept_and_the_numbers_are_the_same(
    first: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    scored(tiny_model, data, tmp_path, cache=False, metrics=("privleak", "knowmem_f", "knowmem_r"))
    assert not (tmp_path / "cache").exists()
    found, expected = (json.loads(outputs(root)[0]) for root in (tmp_path, first))
    assert tuple(found["columns"]) == ("knowmem_f", "privleak", "knowmem_r")
    assert found["columns"]["knowmem_f"] == expected["columns"]["knowmem_f"]
    assert found["columns"]["privleak"] == expected["columns"]["privleak"]


# ── prompt and tokenizer ─────────────────────────────────────────────────────────────────────────
def test_a_random_model_s_knowmem_is_flagged_with_what_to_try(first: Path) -> None:
    found = json.loads(outputs(first)[0])
    # Bytes joined by GPT-2's rule, random weights: nothing is answered.
    for name in ("knowmem_f", "knowmem_r"):
        assert found["columns"][name]["flags"] == ["unanswered", "answer-space"]
        assert found["extras"][name]["answer_space"]["joined"] == found["columns"][name]["n"]
    assert not {"unanswered", "answer-space"} & {*found["columns"]["verbmem_f"]["flags"]}


def test_what_0_1_0_stored_is_the_same_run(mine: Path, tiny_model: Path, data: Path) -> None:
    path = mine / "runs" / "muse_news" / "tiny" / "result.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    old = json.loads(
        (Path(__file__).parents[1] / "cases" / "settings_0.1.0.json").read_text(encoding="utf-8")
    )
    assert found["config"]["columns"] == old["columns"]
    # Taken over, not refused, also where the protocol's letter is asked for by name.
    settings = {"knowmem.answer_space": True}
    assert run(config(tiny_model, data, mine, settings=settings), reuse=True).result is None


def test_knowmem_without_the_space_is_another_run_and_says_so(
    mine: Path, first: Path, tiny_model: Path, data: Path
) -> None:
    settings = {"knowmem.answer_space": False}
    told = "; ".join(rf"columns\.{name}\.answer_space true, now false" for name in ("knowmem_f", "knowmem_r"))
    with pytest.raises(UserError, match=rf"holds a run with other settings \({told}\)"):
        run(config(tiny_model, data, mine, settings=settings))
    result = scored(tiny_model, data, mine, settings=settings, name="bare")
    before = json.loads(outputs(first)[0])
    after = json.loads(outputs(mine, "bare")[0])
    for name in ("knowmem_f", "knowmem_r"):
        assert after["config"]["columns"][name] == {
            **before["config"]["columns"][name],
            "answer_space": False,
        }
        assert "answer-space" not in after["columns"][name]["flags"]
    assert after["extras"]["notes"] == {"asked": "KnowMem Df, KnowMem Dr asked with answer_space=false"}
    for name in ("verbmem_f", "privleak"):
        assert after["columns"][name] == before["columns"][name]
    records = list(runs.load_records(mine / "runs" / "muse_news" / "bare"))
    asked = next(one for one in records if one["column"] == "knowmem_f")
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in QA[4:14])
    prompt = f"{shots}Question: {QA[0]['question']}\nAnswer:"
    assert asked["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest()
    assert result.columns["knowmem_f"].n == 3


def test_an_unlearned_model_is_not_said_to_have_never_answered(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "ruined")
    (tmp_path / "ruined" / "unlearn.json").write_text("{}", encoding="utf-8")
    epoch = tmp_path / "ruined" / "checkpoints" / "checkpoint-2"
    shutil.copytree(tiny_model, epoch)
    for model in (tmp_path / "ruined", epoch):
        result = scored(model, data, tmp_path, metrics=("knowmem_r",))
        assert "unanswered" not in result.columns["knowmem_r"].flags


def test_a_tokenizer_that_closes_every_prompt_is_refused(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "closing")
    path = tmp_path / "closing" / "tokenizer.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    post = raw["post_processor"]
    post["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    post["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(UserError, match="the tokenizer of closing puts EOS behind every prompt"):
        run(config(tmp_path / "closing", data, tmp_path / "results"))
    assert not (tmp_path / "results" / "runs").exists()


# ── again ────────────────────────────────────────────────────────────────────────────────────────
def test_a_stored_result_of_the_same_settings_can_be_kept(mine: Path, tiny_model: Path, data: Path) -> None:
    before = outputs(mine)
    assert run(config(tiny_model, data, mine), reuse=True).result is None
    assert outputs(mine) == before
    other = run(config(tiny_model, data, mine, name="other"), reuse=True).result
    assert other is not None
    folder = mine / "runs" / "muse_news" / "tiny"
    path = folder / "result.json"
    path.write_text(path.read_text().replace('"code": "', '"code": "0'), encoding="utf-8")
    assert run(config(tiny_model, data, mine), reuse=True).result is not None


# ── settings ─────────────────────────────────────────────────────────────────────────────────────
def test_other_settings_under_the_same_name_are_refused(mine: Path, tiny_model: Path, data: Path) -> None:
    before = outputs(mine)
    for changes, told in (
        ({"seed": 1}, r"seed 0, now 1"),
        ({"limit": 2}, r"limit none, now 2"),
        ({"settings": {"privleak.k": 0.2}}, r"columns\.privleak\.k 0\.4, now 0\.2"),
        ({"retrain": str(tiny_model)}, r"retrain none, now [0-9a-f]{8}"),
        ({"dtype": "bfloat16"}, r"model\.dtype float32, now bfloat16"),
        ({"metrics": ("privleak",)}, r"verbmem_f, knowmem_f, knowmem_r scored, now left out"),
    ):
        with pytest.raises(UserError, match=rf"other settings \({told}\); give --name.*--overwrite"):
            run(config(tiny_model, data, mine, **changes))
    assert outputs(mine) == before
    changed = scored(tiny_model, data, mine, settings={"privleak.k": 0.2}, overwrite=True)
    assert changed.extras["reference"]["attack"] == "Min-20%"
    assert outputs(mine) != before


def test_optional_columns_join_a_stored_run(mine: Path, first: Path, tiny_model: Path, data: Path) -> None:
    asked: list[str] = []
    more = config(tiny_model, data, mine, metrics=("+extraction", "+exact_knowmem_f", "+fluency"))
    run(more, progress=lambda what, _done, _all: asked.append(what))
    before, now = (json.loads(outputs(root)[0]) for root in (first, mine))
    assert tuple(now["columns"])[:4] == COLUMNS
    assert tuple(now["columns"])[4:] == (
        "exact_knowmem_f",
        *(f"{metric}_{host}" for metric in ("extraction", "fluency") for host in (*COLUMNS[:2], COLUMNS[3])),
    )
    for name in COLUMNS:
        assert now["columns"][name] == before["columns"][name]
        assert now["extras"][name] == before["extras"][name]
        assert now["config"]["columns"][name] == before["config"]["columns"][name]
    assert set(asked) == {"Exact KnowMem Df", "Extraction VerbMem Df", "Extraction KnowMem Dr"}
    there = runs.load(mine / "runs" / "muse_news" / "tiny")
    assert there is not None
    assert not fault(there, deep=True)
    for name, column in there.columns.items():
        assert isinstance(ScoreReader().of(there, name), Scores), name
        assert column.value is not None
    with pytest.raises(UserError, match=r"exact_knowmem_f, .* scored, now left out"):
        run(config(tiny_model, data, mine))


def test_a_run_without_optional_columns_knows_nothing_of_them(first: Path) -> None:
    stored = json.loads(outputs(first)[0])["config"]
    assert set(stored["task"]["columns"]) == set(stored["columns"]) == {*COLUMNS}
    assert set(stored["columns"]["privleak"]) == {"k", "retain", "lower", "moments", "truncate"}


def test_attacks_on_request_leave_the_value_as_it_is(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    settings = {"privleak.reference": True, "privleak.gradnorm": True}
    one, other = (
        scored(tiny_model, data, tmp_path, name=name, metrics=("privleak",), retrain=str(tiny_model), **more)
        for name, more in (("plain", {}), ("more", {"settings": settings}))
    )
    assert one.columns["privleak"].value == other.columns["privleak"].value == 0
    assert {f"forget_holdout_{name}" for name in ("reference", "gradnorm")} == (
        other.extras["auc"].keys() - one.extras["auc"].keys()
    )
    # Retrain is this very model: every difference is 0, and of ties an AUC is a half.
    assert other.extras["auc"]["forget_holdout_reference"] == 0.5
    assert all(record.scores["gradnorm"] for record in other.columns["privleak"].records)
    assert (
        scored(
            tiny_model,
            data,
            tmp_path,
            name="more",
            metrics=("privleak",),
            retrain=str(tiny_model),
            settings=settings,
        ).columns["privleak"]
        == other.columns["privleak"]
    )


def test_other_data_under_the_same_name_are_refused(
    mine: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "data"
    shutil.copytree(data, changed)
    (changed / "privleak" / "forget.json").write_text(json.dumps(SPLITS["privleak/forget"][::-1]))
    with pytest.raises(
        UserError, match=r"other settings \(data\.privleak/forget [0-9a-f]{8}, now [0-9a-f]{8}\)"
    ):
        run(config(tiny_model, changed, mine))
    assert scored(tiny_model, changed, mine, name="changed").name == "changed"


def test_another_model_at_the_same_path_is_another_model(
    mine: Path, first: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_model, folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.5)
    model.save_pretrained(folder)
    with pytest.raises(
        UserError, match=r"\(model\.weights [0-9a-f]{8}, now [0-9a-f]{8}\); it is of .*tiny; "
    ):
        run(config(folder, data, mine))
    asked: list[str] = []
    result = run(
        config(folder, data, mine, overwrite=True, metrics=("privleak",)),
        progress=lambda stage, *_: asked.append(stage),
    ).result
    assert result is not None
    assert asked
    old = json.loads(outputs(first)[0])
    assert result.model["id"] == old["model"]["id"]
    assert result.model["digest"] != old["model"]["digest"]
    assert result.extras["mean_Min-40%"] != old["extras"]["mean_Min-40%"]


def test_a_damaged_result_is_replaced_with_a_warning(
    mine: Path, first: Path, tiny_model: Path, data: Path
) -> None:
    path = mine / "runs" / "muse_news" / "tiny" / "result.json"
    path.write_bytes(path.read_bytes()[:100])
    warnings: list[str] = []
    run(config(tiny_model, data, mine), warn=warnings.append)
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert warnings[0].endswith("it is replaced")
    assert outputs(mine) == outputs(first)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"metrics": ("verbmem",)}, "no column 'verbmem'; did you mean 'verbmem_f'"),
        ({"settings": {"privlek.k": 0.2}}, r"--set privlek\.…: no group 'privlek'; did you mean 'privleak'"),
        ({"settings": {"privleak.kk": 0.2}}, "no parameter 'kk'; did you mean 'k'"),
        ({"settings": {"privleak.k": 2}}, "column privleak: k: "),
        ({"task": "muse_new"}, "no task 'muse_new'; did you mean 'muse_news'"),
        ({"task": None}, "cannot tell the task of"),
        ({"name": "a/b"}, "cannot name a folder"),
        ({"engine": "fast"}, "no engine 'fast'"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(
    tiny_model: Path, data: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        run(config(tiny_model, data, tmp_path / "results", **changes))
    assert not (tmp_path / "results").exists()


# ── flags ────────────────────────────────────────────────────────────────────────────────────────
def test_a_limited_run_scores_the_first_examples_and_says_so(
    mine: Path, first: Path, tiny_model: Path, data: Path
) -> None:
    asked: list[str] = []
    limited = run(
        config(tiny_model, data, mine, limit=2, name="limited"),
        progress=lambda stage, *_: asked.append(stage),
    ).result
    assert limited is not None
    assert [limited.columns[name].n for name in COLUMNS] == [2, 2, 4, 2]
    assert all("limited" in score.flags for score in limited.columns.values())
    # The ten in-context pairs are context, not examples: the prompts, and so the answers, are the same.
    assert asked == []
    whole = list(runs.load_records(first / "runs" / "muse_news" / "tiny"))
    responses = [record.texts["response"] for record in limited.columns["verbmem_f"].records]
    assert responses == [record["response"] for record in whole[:2]]


def test_texts_longer_than_the_context_are_refused_by_name_or_cut_and_flagged(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    long = tmp_path / "data"
    shutil.copytree(data, long)
    rows = [*SPLITS["privleak/forget"][:5], " ".join(WORDS * 60)]
    (long / "privleak" / "forget.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"privleak forget\[5\]: \d+ tokens do not fit .* context of 1024"):
        run(config(tiny_model, long, tmp_path / "results", metrics=("privleak",)))
    result = scored(tiny_model, long, tmp_path / "results", truncate=True)
    assert "truncated" in result.columns["privleak"].flags
    assert "truncated" not in result.columns["verbmem_f"].flags


# ── what PrivLeak is relative to ─────────────────────────────────────────────────────────────────
def test_a_retrain_model_measured_against_itself_leaks_nothing(
    mine: Path, tiny_model: Path, data: Path
) -> None:
    asked: list[str] = []
    result = run(
        config(tiny_model, data, mine, name="retrain", retrain=str(tiny_model)),
        progress=lambda stage, *_: asked.append(stage),
    ).result
    assert result is not None
    score = result.columns["privleak"]
    assert score.value == 0
    assert score.ci in (None, (0, 0))
    assert not {"reference-published", "no-reference", "collapsed"} & set(score.flags)
    assert result.extras["reference"]["source"] == "measured"
    assert result.extras["reference"]["auc"] == result.extras["auc"]["forget_holdout_Min-40%"]
    assert result.provenance["retrain"] == result.provenance["engine"]
    # The same model's answers are the same answers.
    assert asked == []


def test_another_retrain_model_s_auc_is_measured_and_its_spread_counts(
    mine: Path, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    folder = tmp_path / "retrain"
    shutil.copytree(tiny_model, folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    torch.manual_seed(2)
    with torch.no_grad():
        model.lm_head.weight += 0.1 * torch.randn_like(model.lm_head.weight)
    model.save_pretrained(folder)
    result = scored(tiny_model, data, mine, name="relative", retrain=str(folder), metrics=("privleak",))
    theirs = scored(folder, data, mine, metrics=("privleak",))
    own = result.extras["auc"]["forget_holdout_Min-40%"]
    base = theirs.extras["auc"]["forget_holdout_Min-40%"]
    assert result.extras["reference"]["auc"] == base
    assert result.columns["privleak"].value == pytest.approx(100 * (own - base) / base)
    published = scored(tiny_model, data, mine, name="published", metrics=("privleak",)).columns["privleak"]
    assert result.columns["privleak"].ci != published.ci


def test_without_privleak_no_retrain_model_is_opened(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    result = scored(tiny_model, data, tmp_path, retrain=str(tmp_path / "nowhere"), metrics=("knowmem_f",))
    assert result.provenance["retrain"] is None
    with pytest.raises(UserError, match="nowhere does not exist"):
        run(config(tiny_model, data, tmp_path, retrain=str(tmp_path / "nowhere"), metrics=("privleak",)))


def test_no_reference_is_no_number(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    score = scored(tiny_model, data, tmp_path, metrics=("privleak",), settings={"privleak.k": 0.25}).columns[
        "privleak"
    ]
    assert (score.value, score.ci) == (None, None)
    assert "no-reference" in score.flags
    assert "Min-25%" in str(score.reason)
    stored = runs.load(tmp_path / "runs" / "muse_news" / "tiny")
    assert stored is not None
    assert stored.columns["privleak"].reason == score.reason


def test_the_published_auc_holds_for_its_own_data_alone(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    score = scored(tiny_model, data, tmp_path, task="muse_news", metrics=("privleak",)).columns["privleak"]
    assert (score.value, score.flags) == (None, ("no-reference",))
    assert str(score.reason).startswith(
        "privleak/forget is not the data that the task's AUC was published for"
    )


# ── from Python ──────────────────────────────────────────────────────────────────────────────────
def test_a_loaded_model_scores_as_its_folder_does(
    first: Path, tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast, data: Path, tmp_path: Path
) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_model)
    result = muse_eval.evaluate(
        model, str(data / TASK), tokenizer=tiny_tokenizer, data_dir=data, results=tmp_path
    )
    assert result.name == "tiny"
    assert outputs(tmp_path)[1] == outputs(first)[1]
    found, expected = (json.loads(outputs(root)[0]) for root in (tmp_path, first))
    assert found["columns"] == expected["columns"]


def test_evaluate_a_folder(first: Path, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    result = muse_eval.evaluate(
        tiny_model, "muse_news", data_dir=data, results=tmp_path, dtype="float32", metrics=["knowmem_r"]
    )
    assert result.columns["knowmem_r"].value == json.loads(outputs(first)[0])["columns"]["knowmem_r"]["value"]


def test_evaluate_refuses_half_a_pair(
    tiny_model: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_model)
    with pytest.raises(UserError, match="a loaded model needs a task and a loaded tokenizer"):
        muse_eval.evaluate(model, "muse_news", results=tmp_path)
    with pytest.raises(UserError, match="a loaded model needs a task and a loaded tokenizer"):
        muse_eval.evaluate(model, tokenizer=tiny_tokenizer, results=tmp_path)
    with pytest.raises(UserError, match="a loaded tokenizer goes with a loaded model"):
        muse_eval.evaluate(tiny_model, "muse_news", tokenizer=tiny_tokenizer, results=tmp_path)
    with pytest.raises(UserError, match="did you mean 'limit'"):
        muse_eval.evaluate(tiny_model, "muse_news", limits=3, results=tmp_path)


# ── killed ───────────────────────────────────────────────────────────────────────────────────────
CHILD = """
import sys
from muse_eval import late
late.start()
from muse_eval.config.run import RunConfig
from muse_eval.scoring.run import run
run(RunConfig.model_validate_json(sys.argv[1]), progress=lambda *report: print(*report, flush=True))
print("saved", flush=True)
"""


def test_killed_while_scoring_it_finishes_with_the_same_bytes(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    settings = config(tiny_model, data, tmp_path, settings={"engine.batch_tokens": 200})
    command = [sys.executable, "-c", CHILD, settings.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [line for line, _ in zip(process.stdout, range(3), strict=False)]
        process.send_signal(signal.SIGKILL)
        seen += list(process.stdout)
    assert process.returncode == -signal.SIGKILL
    assert len(seen) >= 3
    assert "saved\n" not in seen
    assert not (tmp_path / "runs").exists()
    warnings: list[str] = []
    run(settings, warn=warnings.append)
    once = outputs(tmp_path)
    run(settings, warn=warnings.append)
    assert outputs(tmp_path) == once
    assert len(warnings) in (0, 2)
    # Not even batches that break off elsewhere show in the bytes.
    run(settings.model_copy(update={"results": tmp_path / "whole"}))
    whole = outputs(tmp_path / "whole")
    assert once[1] == whole[1]
    results_of = [json.loads(result) for result, _ in (once, whole)]
    assert all(result.pop("seconds") > 0 for result in results_of)
    assert results_of[0] == results_of[1]


def test_a_column_on_splits_of_another_shape_is_refused(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    task = (data / TASK).read_text(encoding="utf-8").replace("privleak/forget\n", "verbmem/forget\n", 1)
    (tmp_path / "wrong.yaml").write_text(task, encoding="utf-8")
    told = "task column privleak: privleak reads text of forget, but verbmem/forget has prompt, gt"
    with pytest.raises(UserError, match=told):
        run(config(tiny_model, data, tmp_path, task=str(tmp_path / "wrong.yaml")))


def test_two_relative_columns_keep_their_own_extras(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    task = yaml.safe_load((data / TASK).read_text(encoding="utf-8"))
    second = {**task["columns"]["privleak"], "params": {"k": 0.2}, "title": "PrivLeak, Min-20 %"}
    task["columns"] = {"privleak": task["columns"]["privleak"], "privleak_20": second}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    extras = scored(tiny_model, data, tmp_path, task=str(tmp_path / "two.yaml")).extras
    assert [extras[name]["attack"] for name in ("privleak", "privleak_20")] == ["Min-40%", "Min-20%"]
    assert extras["attack"] == "Min-40%"
    assert extras["auc"] == extras["privleak"]["auc"]
