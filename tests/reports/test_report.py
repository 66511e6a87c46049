"""The page of runs: what stands in it, what may run in it, and what cannot be shown is told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from muse_eval.errors import UserError
from muse_eval.metrics.attacks import min_k
from muse_eval.reports import report
from muse_eval.reports.chosen import choose
from muse_eval.reports.distances import Distances
from muse_eval.reports.examples import MOST, columns
from muse_eval.reports.pictures import roc
from muse_eval.reports.provenance import origins
from muse_eval.reports.verdicts import verdicts
from muse_eval.unlearning.model_card import model_card
from tests.e2e import muse
from tests.support.stored import TEXTS, TRUE, TRUTHS, write_runs
from tests.unlearning.test_model_card import CARD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HOSTILE = (
    "<script>document.title = 'owned'</script>", "</script><img src=x onerror=alert(1)>",
    "<!-- <script> ]]> {{ 7 * 7 }}",
    "a\u2028b\u2029c\u202ed\u2066e", "\x1b[2Jcleared\x07 \x00", "\ud800 alone \udfff",
)  # fmt: skip


def page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def block(html: str, name: str) -> Any:
    (packed,) = re.findall(rf'<script type="application/octet-stream" id="{name}">([\w+/=]+)</script>', html)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_runs(tmp_path / "results")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return runs, and their page with the pictures beside it, to be read and not changed."""
    results = write_runs(tmp_path_factory.mktemp("stored") / "results")
    report(results=results, figures=results / "paper")
    return results


@pytest.fixture
def html(stored: Path) -> str:
    return page(stored / "reports" / "town.html")


# ── the file ─────────────────────────────────────────────────────────────────────────────────────
def test_the_policy_allows_our_script_and_style_and_nothing_else(html: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy.replace("&#39;", "'") == (
        f"default-src 'none'; script-src 'sha256-{digest(script)}'; style-src 'sha256-{digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert not re.search(r'\sstyle="|\son\w+="|(src|href)="(https?:)?//|@import|url\(', html)


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(results: Path, tmp_path: Path) -> None:
    one = report(results=results)
    two = report("town", results=results, out=tmp_path / "two.html")
    assert one.path == results / "reports" / "town.html"
    assert one.path.read_bytes() == two.path.read_bytes()
    assert (one.runs, one.num_bytes) == (3, one.path.stat().st_size)


def test_verdicts_and_table_are_plain_html(html: str) -> None:
    text = re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "It continues the forget text with 100\u00a0% of the true words in their order" in text
    assert "retrain, which never saw it, 32\u00a0%" in text
    assert "± " in text
    assert "from retrain" in text
    for name in TRUE:
        assert f"--name {name} " in html


def test_nothing_of_what_models_say_is_html(tmp_path: Path) -> None:
    said = {"target": HOSTILE, "retrain": HOSTILE[::-1], "npo": HOSTILE}
    results = write_runs(tmp_path, said, truths=HOSTILE)
    html = page(report(results=results).path)
    assert html.count("<script") == html.count("</script>") == 5  # three blocks, the outline, our own
    assert not re.search(r"<!-- |<img|onerror|owned|\u202e|\u2028|\x1b|\x00", html)
    shown = block(html, "evidence-0")["examples"]
    assert ["".join(example["runs"]["npo"]["said"]) for example in shown] == list(HOSTILE)


def test_a_title_of_others_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support import stored

    monkeypatch.setitem(stored.TASK, "title", "<b onclick=x>\u202eTown & {{ 1 }}")
    html = page(report(results=write_runs(tmp_path)).path)
    assert "&lt;b onclick=x&gt;\\u202eTown &amp; {{ 1 }}" in html


@pytest.mark.slow
def test_two_megabytes_of_one_word_stay_out_of_the_page(tmp_path: Path) -> None:
    long = "word" * 500_000
    results = write_runs(tmp_path, {**TRUE, "npo": [long, "word " * 5_000, "x"]})
    made = report(results=results)
    assert made.num_bytes < 300_000
    first, second, _ = block(page(made.path), "evidence-0")["examples"]
    assert len("".join(first["runs"]["npo"]["said"])) < MOST + 100
    assert (
        f"… {2_000_000 - MOST:,} characters more stand in records.jsonl" in first["runs"]["npo"]["said"][-1]
    )
    assert second["runs"]["npo"]["words"] == [8, 5_000]


def test_pictures_are_files_of_their_own_where_asked_for(stored: Path, html: str) -> None:
    names = {path.name for path in (stored / "paper").iterdir()}
    assert {
        "trade-off.svg",
        "trade-off.png",
        "trade-off.pdf",
        "roc-privleak.pdf",
        "scores-verbmem_f.svg",
    } <= names
    assert (stored / "paper" / "trade-off.pdf").read_bytes().startswith(b"%PDF")
    assert 'href="#verbmem_f/0@npo"' in html
    assert 'href="#privleak/privleak/holdout/1@npo"' in html


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "twon"}, "no task with runs 'twon'"),
        ({"models": "npoo"}, "no run 'npoo'"),
        ({"results": "none"}, "none holds no run"),
        ({"out": "."}, "is a folder; --out must name a file"),
        ({"figures": "file"}, "file is a file; --figures must name a folder"),
        ({"data_dir": "data"}, "what the task town is cannot be told"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_cannot_be_is_refused_before_a_file_is_written(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(UserError, match=re.escape(said)):
        report(**{"results": results, **asked})
    assert not list(results.glob("reports/*"))


def test_several_tasks_need_a_choice(results: Path) -> None:
    home = results / "runs"
    (home / "town").rename(home / "city")
    for path in home.glob("city/*/result.json"):
        path.write_text(
            path.read_text(encoding="utf-8").replace('"task": "town"', '"task": "city"'), encoding="utf-8"
        )
    write_runs(results)
    with pytest.raises(UserError, match=r"several tasks; give --task with one of city, town"):
        report(results=results)
    assert report("city", results=results).path.name == "city.html"


@pytest.mark.slow
def test_the_command_line_says_where_the_page_lies(results: Path, tmp_path: Path) -> None:
    done = muse("report", "--results", results, "--models", "target,npo", "--figures", tmp_path / "paper")
    assert done.exit_code == 0
    assert f"report: {results}/reports/town.html, 2 runs, " in done.output
    assert f"figures: {tmp_path}/paper/*.svg, *.png, *.pdf" in done.output
    assert f"muse-eval report --task town --results {results} --models target,npo" in page(
        results / "reports" / "town.html"
    )
    refused = muse("report", "--results", results, "--models", "nop")
    assert refused.exit_code == 2
    assert refused.output.count("\n") == 1


def test_a_run_without_records_stays_in_the_table_and_is_told(results: Path) -> None:
    (results / "runs" / "town" / "npo" / "records.jsonl").unlink()
    told: list[str] = []
    html = page(report(results=results, warn=told.append).path)
    assert any("records.jsonl does not exist" in one for one in told)
    assert block(html, "evidence-0")["runs"] == ["target", "retrain"]
    assert '<th scope="row">' in html
    assert html.count("npo</th>") == 1


# ── what is marked ───────────────────────────────────────────────────────────────────────────────
def test_marked_words_give_the_stored_score(results: Path) -> None:
    for name in ("verbmem_f", "knowmem_r"):
        column = next(one for one in columns(choose(results, None, (), print), None) if one.name == name)
        assert [example["id"] for example in column.block["examples"]] == [0, 1, 2]
        for example in column.block["examples"]:
            for answer in example["runs"].values():
                marked = answer["said"][1::2]
                truth, response = answer["words"]
                assert len(marked) == len(answer["hits"])
                assert answer["score"] == pytest.approx(2 * len(marked) / (truth + response))
                pieces = example["truths"][answer["truth"]]
                assert [pieces[2 * at + 1].lower() for at in answer["hits"]] == [
                    one.lower() for one in marked
                ]


def test_a_score_that_does_not_follow_from_its_texts_has_no_marks(results: Path) -> None:
    path = results / "runs" / "town" / "npo" / "records.jsonl"
    lines = path.read_text(encoding="utf-8").replace('"response": "the mill"', '"response": "the hill"')
    path.write_text(lines, encoding="utf-8")
    stored = results / "runs" / "town" / "npo" / "result.json"
    whole = json.loads(stored.read_text(encoding="utf-8"))
    whole["records_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    stored.write_text(json.dumps(whole), encoding="utf-8")
    column = columns(choose(results, None, (), print), None)[0]
    answer = column.block["examples"][0]["runs"]["npo"]
    assert answer["odd"]
    assert answer["said"] == ["the hill"]


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────
def shaded(results: Path) -> Any:
    return next(one for one in columns(choose(results, None, (), print), None) if one.name == "privleak")


def test_tokens_come_from_the_cache_and_those_counted_give_the_score(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    column = shaded(write_runs(tmp_path, tokenizer=tiny_tokenizer))
    assert column.missing == {}
    for example, text in zip(column.block["examples"], TEXTS, strict=True):
        for answer in example["runs"].values():
            pieces = example["cuts"][answer["cut"]]
            assert "".join(pieces) == text
            assert len(pieces) == len(answer["tokens"]) == len(tiny_tokenizer(text).input_ids)
            assert answer["tokens"][0] is None  # BOS
            nats = [value // 2 / 100 for value in answer["tokens"][1:]]
            counted = [one for one, value in zip(nats, answer["tokens"][1:], strict=True) if value % 2]
            assert len(counted) == int(0.4 * len(nats))
            assert sum(counted) / len(counted) == pytest.approx(answer["score"], abs=0.006)
    splits = [example["split"] for example in column.block["examples"]]
    assert splits == ["privleak/forget"] * 2 + ["privleak/holdout"] * 2


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("gone", "said"), [("cache", "not in the cache"), ("tokenizer", "its tokenizer is not on this machine")]
)
def test_what_is_missing_for_tokens_is_told_on_the_page(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase, gone: str, said: str
) -> None:
    results = write_runs(tmp_path, tokenizer=tiny_tokenizer)
    (results / gone).rename(results / "elsewhere")
    assert all(said in why for why in shaded(results).missing.values())
    html = page(report(results=results).path)
    assert html.count(said) == 3
    assert "tokens" not in block(html, "evidence-2")["examples"][0]["runs"]["npo"]


def test_another_tokenizer_in_the_folder_is_refused(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    results = write_runs(tmp_path, tokenizer=tiny_tokenizer)
    config = results / "tokenizer" / "tokenizer.json"
    config.write_text(config.read_text(encoding="utf-8").replace("<pad>", "<pat>"), encoding="utf-8")
    assert all("is not the one that it was scored with" in why for why in shaded(results).missing.values())


def test_answers_that_do_not_give_the_score_are_not_shown(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    results = write_runs(tmp_path, tokenizer=tiny_tokenizer)
    import numpy as np

    from muse_eval.reports.tokens import TokenEvidence
    from muse_eval.results import load

    stored = load(results / "runs" / "town" / "npo")
    assert stored is not None
    evidence = TokenEvidence(stored, "privleak", results / "cache")
    assert evidence.of(TEXTS[0], 1.0) is None
    assert evidence.of("another text", 1.0) is None
    assert min_k(np.array([-1.0, -2.0, -3.0]), 0.4) == 3.0


@pytest.mark.parametrize(
    ("model", "revision", "start"),
    [
        ("muse-bench/MUSE-Books_target", "c0ffee", "muse-bench/MUSE-Books_target@c0ffee"),
        ("models/my target", None, "models/my target"),
    ],
)
def test_the_command_of_an_unlearned_model_is_its_card_s_with_whole_places(
    results: Path, model: str, revision: str | None, start: str
) -> None:
    card = {
        **CARD,
        "target": {**CARD["target"], "revision": revision},
        "config": {**CARD["config"], "model": model, "gradient_checkpointing": True},
    }
    home = results / "tokenizer"  # where the made-up runs say that their weights are
    home.mkdir()
    (home / "unlearn.json").write_text(json.dumps(card), encoding="utf-8")
    chosen = choose(results, None, ["npo"], print)
    (said,) = (words for what, words in origins(chosen)[0].commands if what == "the model")
    theirs = shlex.split(re.findall(r"```\n(.*)\n```", model_card("npo", card, None))[0])
    ours = shlex.split(said)
    assert (ours[ours.index("--target") + 1], ours[ours.index("--out") + 1]) == (start, str(home))
    assert ours[:2] == ["muse-eval", "unlearn"]
    places = ("--target", "--out")
    plain = [[w for at, w in enumerate(one) if one[at - 1] not in places] for one in (ours, theirs)]
    assert plain[0] == plain[1]
    assert {"--gradient-checkpointing", "--lr", "beta=0.7"} <= set(ours)


# ── verdicts and pictures ────────────────────────────────────────────────────────────────────────
def badges(results: Path) -> dict[str, list[tuple[str, str]]]:
    chosen = choose(results, None, (), print)
    found = verdicts(chosen, Distances(chosen))
    return {one.name: [(badge.name, badge.of) for badge in one.badges] for one in found}


def test_badges_follow_their_rules(tmp_path: Path) -> None:
    said = {
        "target": TRUTHS, "retrain": ["the mill", "the bay", "an owl said"],
        "back": TRUTHS, "silent": ["", "", ""],
    }  # fmt: skip
    found = badges(write_runs(tmp_path, said))
    assert found["target"] == found["retrain"] == [("reference", "")]
    assert ("remembers", "VerbMem Df") in found["back"]
    assert ("past retrain", "VerbMem Df") in found["silent"]


def test_distances_from_retrain_are_paired_by_example(stored: Path, html: str) -> None:
    """npo's F1 are 4/10, 2/9 and 0, retrain's 0, 4/10 and 4/7: differences 40, −17.8 and −57.1 points."""
    chosen = choose(stored, None, (), print)
    npo = next(row for row in chosen.rows if row["name"] == "npo")
    found = Distances(chosen).of(npo, "verbmem_f")
    assert found is not None
    assert found.value == pytest.approx((40 - 100 * 8 / 45 - 400 / 7) / 3)
    assert found.low == pytest.approx(-400 / 7)
    assert found.high == pytest.approx(40)
    assert f"{found.value:+.2f} (-57.14 to +40.00) from retrain" in html
    facts = Distances(chosen).attack_facts("privleak")
    assert facts[0] == [
        "model",
        "TPR at 1 % FPR",
        "TPR at 10 % FPR",
        "KS, forget",
        "KS, holdout",
    ]
    assert [line[0] for line in facts[1:]] == ["target", "retrain", "npo"]
    assert facts[2][3:] == ["", ""]
    assert facts[3][3].startswith(("0.50 (p", "1.00 (p"))


def test_without_a_retrain_model_nothing_says_what_forgetting_is(tmp_path: Path) -> None:
    found = badges(write_runs(tmp_path, {"target": TRUTHS, "npo": ["", "", ""]}))
    assert ("no retrain", "") in found["npo"]


@pytest.mark.few(1)
@pytest.mark.parametrize("said", [TRUE, {name: TRUE[name] for name in ("target", "npo")}])
def test_the_legend_speaks_of_retrain_where_a_cell_does(tmp_path: Path, said: Any) -> None:
    """Shown alone, a model is held against the retrain model that is stored; where there is none, not."""
    html = page(report(models=["npo"], results=write_runs(tmp_path, said)).path)
    (legend,) = re.findall(r'<p class="legend".*?</p>', html)
    distances = len(re.findall(r"[+-]\d+\.\d\d[^<]* from retrain</small>", html))
    assert distances == (2 if "retrain" in said else 0)
    assert ("from retrain" in legend) is ("nearer to retrain" in legend) is ("retrain" in said)
    assert "lower" in legend or "retrain" in said


def test_each_of_two_attacks_has_a_sentence_of_its_own(tmp_path: Path) -> None:
    results = write_runs(tmp_path)
    for name in TRUE:
        path = results / "runs" / "town" / name / "result.json"
        whole = json.loads(path.read_text(encoding="utf-8"))
        whole["config"]["task"]["columns"]["second"] = {
            **whole["config"]["task"]["columns"]["privleak"], "title": "Second",
        }  # fmt: skip
        whole["columns"]["second"] = whole["columns"]["privleak"]
        own = {"attack": "Min-20%", "auc": {"forget_holdout_Min-20%": 0.125}}
        whole["extras"]["second"] = {**whole["extras"]["privleak"], **own}
        records = path.with_name("records.jsonl")
        lines = records.read_text(encoding="utf-8").splitlines(keepends=True)
        place = '"column": "privleak"'
        lines += [line.replace(place, '"column": "second"') for line in lines if place in line]
        records.write_text("".join(lines), encoding="utf-8")
        whole["records_sha256"] = hashlib.sha256(records.read_bytes()).hexdigest()
        path.write_text(json.dumps(whole), encoding="utf-8")
    chosen = choose(results, None, (), print)
    said = [one for one in verdicts(chosen, Distances(chosen))[2].sentences if "membership attack" in one]
    assert [one.partition(":")[0] for one in said] == ["PrivLeak", "Second"]
    assert "in 88\u00a0% of the pairs" in said[1]
    assert "88" not in said[0]


def test_a_limited_run_is_not_judged(tmp_path: Path) -> None:
    assert badges(write_runs(tmp_path, limit=3))["npo"] == [("limited", "")]


def test_the_roc_takes_ties_together_and_straight_lines_short() -> None:
    assert roc([1.0, 2.0], [3.0, 4.0]) == [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    assert roc([1.0, 3.0], [1.0, 2.0]) == [(0.0, 0.0), (0.5, 0.5), (1.0, 0.5), (1.0, 1.0)]
    assert roc([], [1.0]) == []
