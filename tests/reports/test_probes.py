"""What a page says of probes: each verdict by the probes' own rule, its curve, and the example behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from muse_eval.reports import report
from muse_eval.reports.chosen import choose
from muse_eval.reports.distances import Distances
from muse_eval.reports.probes import probes
from muse_eval.reports.verdicts import verdicts
from muse_eval.results.probe_verdict import deciding
from muse_eval.results.probed import courses
from muse_eval.types import ignore
from tests.reports.test_report import block, page
from tests.support.stored import TRUE, TRUTHS, write_probed, write_runs

TIMES = 10
SAID = {
    "target": TRUTHS * TIMES,
    "retrain": TRUE["retrain"] * TIMES,
    "hider": TRUE["npo"] * TIMES,
    "gone": TRUE["retrain"] * TIMES,
    "same": TRUTHS * TIMES,
    "left": TRUE["npo"] * TIMES,
}


def write_all(results: Path) -> Path:
    """Write six models, five of them probed: one says the truth after 20 steps, the others what they did."""
    truths = TRUTHS * TIMES
    write_runs(results, SAID, truths)
    for name, said in SAID.items():
        if name == "left":
            continue
        write_probed(results, name, "now", said, truths)
        write_probed(results, name, "10", said, truths)
        write_probed(results, name, "20", truths if name == "hider" else said, truths)
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("probed"))


def test_each_model_has_the_verdict_of_the_probes_own_rule(results: Path) -> None:
    chosen = choose(results, "town", (), ignore)
    found = {
        one.name: (one.badges[0].name, one.badges[0].of)
        for one in verdicts(chosen, Distances(chosen), probes(chosen))
    }
    assert found == {
        "target": ("reference", ""),
        "retrain": ("reference", ""),
        "gone": ("gone", "under relearn"),
        "hider": ("hidden", "comes back after 20 steps"),
        "left": ("not probed", ""),
        "same": ("not unlearned", ""),
    }


def test_what_one_probe_shows_no_other_undoes(results: Path) -> None:
    known = {one.model: one for one in courses(choose(results, "town", (), ignore).probed)}
    for weaker in ("gone", "same"):
        assert deciding([known[weaker], known["hider"]]) is known["hider"]
    assert deciding([known["gone"], known["same"]]) is known["same"]
    assert deciding([known["gone"], known["retrain"]]).verdict == "cannot tell"


@pytest.mark.slow
def test_a_curve_is_a_file_of_its_own_where_asked_for(results: Path, tmp_path: Path) -> None:
    made = report(results=results, out=tmp_path / "page.html", figures=tmp_path / "figures")
    assert {path.name for path in made.pictures} >= {"probe-relearn.svg", "probe-relearn.pdf"}


@pytest.mark.slow
def test_curve_table_and_examples_stand_in_the_page(results: Path) -> None:
    html = page(report(results=results).path)
    (section,) = re.findall(r'<section id="probes".*?</section>', html, re.S)
    assert section.count("<svg") == 1
    assert "hidden: comes back after 20 steps" in section
    (example,) = re.findall(r'href="#verbmem_f/(\d+)@hider%2Brelearn%3A20"', section)
    kept = block(html, "evidence-0")
    assert kept["beside"]["hider+relearn:20"] == [
        "retrain",
        "hider",
        "hider+relearn:20",
        "retrain+relearn:20",
    ]
    runs = kept["examples"][int(example)]["runs"]
    gains = [
        one["runs"]["hider+relearn:20"]["score"] - one["runs"]["hider"]["score"] for one in kept["examples"]
    ]
    assert runs["hider+relearn:20"]["score"] - runs["hider"]["score"] == max(gains)
    assert "hider+relearn:20" not in kept["runs"]


def test_a_page_without_probes_says_nothing_of_them(tmp_path: Path) -> None:
    html = page(report(results=write_runs(tmp_path)).path)
    assert not re.search(r"id=.probes|#probes.>|not probed", html)
    assert "beside" not in block(html, "evidence-0")


def test_probes_of_other_weights_count_for_nothing(tmp_path: Path) -> None:
    results = write_runs(tmp_path, SAID, TRUTHS * TIMES)
    for name in ("retrain", "hider"):
        write_probed(results, name, "now", SAID[name], TRUTHS * TIMES)
        write_probed(results, name, "10", SAID["target"], TRUTHS * TIMES)
    stored = results / "runs/town/hider/result.json"
    digest = re.findall(r'"digest": "(\w+)"', stored.read_text())[0]
    stored.write_text(stored.read_text().replace(digest, "f" * 64))
    told: list[str] = []
    chosen = choose(results, "town", (), told.append)
    assert [one.model for one in probes(chosen).courses] == ["retrain"]
    assert [line for line in told if line.startswith("without its probes: hider has other weights")]
