"""Puts the built-in world's models to every probe, and writes table and curves into docs/probes.md.

``make demo-probes`` runs it, two models at a time with a thread each; killed, the same command goes on. A
model's controls are the other jobs: each job probes one model without controls, and the table is then made
of what all have stored. Where torchao and bitsandbytes are missing it says that ``quantize`` is left out.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.methods_page import replace
from muse_eval import plugins
from muse_eval.api import probe
from muse_eval.config import parse_params
from muse_eval.printable import console
from muse_eval.probing.config import run_name
from muse_eval.results import REFERENCES, draw, load, part, run_folder
from muse_eval.results.drawing import draw as draw_chart
from muse_eval.results.probe_figure import draw_probes
from muse_eval.results.probe_table import probe_grid
from muse_eval.results.probe_verdict import Course
from muse_eval.results.probed import courses
from muse_eval.results.runs import StoredResult
from muse_eval.results.tables import grid_markdown
from muse_eval.types import ignore

TASK = "muse_mini"
METHODS = ("npo_gdr", "simnpo_gdr")
PAGE = Path("docs/probes.md")
FIGURE = Path("docs/figures/probes.svg")


def able() -> tuple[list[str], list[str]]:
    """Return the probes that can run here, and a line for each that cannot."""
    found, left = [], []
    for name in plugins.probe_names():
        one = plugins.probe(name)
        lacks = one.lacks(parse_params(one.params, one.quick, name))
        if lacks:
            left.append(f"{name} is left out: {lacks}")
        else:
            found.append(name)
    return found, left


def put(name: str, model: str, probes: Sequence[str], results: Path) -> float:
    """Put one model to the probes, without controls; return the seconds."""
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"{name}: {line}", flush=True)

    probe(
        model,
        TASK,
        name=name,
        retrain="none",
        target="none",
        probes=probes,
        results=results,
        progress=ignore,
        tell=tell,
    )
    return time.monotonic() - began


def scored(results: Path, names: Sequence[str]) -> dict[str, str]:
    """Unlearn and score what is not there yet; return each model's folder."""
    command = [sys.executable, "-m", "muse_eval", "pipeline", "--task", TASK, "--methods", ",".join(METHODS)]
    subprocess.run([*command, "--results", str(results), "--quiet"], check=True)
    runs = {name: load(run_folder(results, TASK, name)) for name in names}
    return {name: str(part(run.provenance, "engine")["path"]) for name, run in runs.items() if run}


def stored(results: Path, names: Sequence[str], probes: Sequence[str]) -> list[StoredResult]:
    """Return what was stored of models under probes, in their order."""
    every = {name: plugins.probe(name) for name in probes}
    asked = {name: one.strengths(parse_params(one.params, one.quick, name)) for name, one in every.items()}
    wanted = [("", "now"), *((name, strength) for name, several in asked.items() for strength in several)]
    found = [load(run_folder(results, TASK, run_name(name, *one))) for name in names for one in wanted]
    return [run for run in found if run is not None]


def write(found: Sequence[Course], names: Sequence[str], left: Sequence[str]) -> None:
    """Write the figure, and the page's part between its markers."""
    FIGURE.write_text(draw_chart(draw_probes(found, names, across=3)), encoding="utf-8")
    alt = "Score against strength, a panel for each probe and column; the worst strengths stand in the table."
    table = grid_markdown(probe_grid(found))
    text = "\n".join([f"![{alt}](figures/{FIGURE.name})", "", *(f"{line}\n" for line in left), table])
    PAGE.write_text(replace(PAGE.read_text(encoding="utf-8"), "demo", text), encoding="utf-8")


def main() -> None:
    """Score, probe, print the table, write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    probes, left = able()
    for line in left:
        print(line)
    names = [*REFERENCES, *METHODS]
    models = scored(given.results, names)
    began = time.monotonic()
    print(f"probes: {', '.join(probes)}; models: {', '.join(names)}; {given.jobs} processes, a thread each")
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        work = partial(put, probes=probes, results=given.results)
        for name, seconds in zip(models, pool.map(work, models, models.values()), strict=True):
            print(f"{name}: {seconds:.0f} s")
    print(f"all: {(time.monotonic() - began) / 60:.1f} min")
    found = courses(stored(given.results, names, probes))
    console(width=150).print(draw(probe_grid(found)))
    write(found, names, left)
    print(f"{PAGE} and {FIGURE}: written")


if __name__ == "__main__":
    main()
