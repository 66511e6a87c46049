"""Makes the page of a task's runs, and its pictures as files of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muse_eval.errors import UserError
from muse_eval.reading import shown, typed_path
from muse_eval.reports.chosen import choose
from muse_eval.reports.distances import Distances
from muse_eval.reports.examples import columns
from muse_eval.reports.probes import probes
from muse_eval.reports.provenance import page_command
from muse_eval.results import write_files
from muse_eval.results.writing import encode
from muse_eval.types import Warn, ignore

FOLDER = "reports"
"""Where pages lie in a results folder, one a task."""


@dataclass(frozen=True)
class Report:
    """A page that was written."""

    path: Path
    runs: int
    num_bytes: int
    pictures: list[Path]
    """The files of its pictures; none where no folder was given for them."""


def report(
    task: str | None = None,
    models: Sequence[str] = (),
    *,
    results: str | Path = "results",
    out: str | Path | None = None,
    figures: str | Path | None = None,
    data_dir: str | Path | None = None,
    baseline: str | Path | None = None,
    warn: Warn = ignore,
) -> Report:
    """Write the page of a task's runs: one offline HTML file; no model is asked and nothing is fetched.

    Args:
        task: the task's name or YAML file; None: the one that has runs.
        models: names of runs; empty: all of the task.
        results: the results folder.
        out: the page's file; None: ``reports/TASK.html`` in the results folder.
        figures: folder for each picture as SVG, PNG and PDF; None: none.
        data_dir: the task's data, for texts of which records keep only the ends.
        baseline: what runs are held against; a cell that fails the gate is flagged ``gated``. None: nothing.
        warn: told, in one line, of what is left out.

    Raises:
        UserError: there is nothing to show, a name is unknown, or a file cannot be written.

    Example:
        ``report("muse_mini", ["target", "retrain", "simnpo_gdr"]).path``
    """
    home = typed_path(results, "--results")
    page, folder = _file(out), _folder(figures)
    gate = None if baseline is None else typed_path(baseline, "--baseline")
    texts = None if data_dir is None else typed_path(data_dir, "--data-dir")
    chosen = choose(home, task, (models,) if isinstance(models, str) else tuple(models), warn, gate)
    under = probes(chosen)
    evidence = columns(chosen, texts, under.beside)
    # Drawing takes a second to load, which a refusal above need not wait for.
    from muse_eval.reports.courses import courses
    from muse_eval.reports.page import Content, render
    from muse_eval.reports.pictures import pictures
    from muse_eval.results.drawing import files

    distances = Distances(chosen)
    drawn = [*pictures(chosen, evidence, distances), *courses(chosen)]
    command = page_command(task or chosen.task, home, [] if not models else list(chosen.runs), data_dir, gate)
    curves = under.pictures(list(chosen.runs))
    html = render(Content(chosen, evidence, drawn, command, distances, under, curves))
    page = page or home / FOLDER / f"{chosen.task}.html"
    written: list[Path] = []
    for one in [*drawn, *curves]:
        if folder is None:
            break
        made = files(one.name, one.svg)
        write_files(folder, made)
        written += [folder / name for name in made]
    write_files(page.parent, {page.name: html})
    return Report(page, len(chosen.runs), len(encode(html)), written)


def _file(out: str | Path | None) -> Path | None:
    path = None if out is None else typed_path(out, "--out")
    if path is not None and (path.is_dir() or not path.name):
        raise UserError(f"{shown(str(out))} is a folder; --out must name a file")
    return path


def _folder(figures: str | Path | None) -> Path | None:
    path = None if figures is None else typed_path(figures, "--figures")
    if path is not None and path.exists() and not path.is_dir():
        raise UserError(f"{shown(str(figures))} is a file; --figures must name a folder")
    return path
