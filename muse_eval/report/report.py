"""Makes the page of a task's runs, and its pictures as files of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muse_eval.errors import UserError
from muse_eval.report.chosen import choose
from muse_eval.report.examples import columns
from muse_eval.report.provenance import page_command
from muse_eval.results import write_files
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
    results: Path,
    task: str | None = None,
    models: Sequence[str] = (),
    *,
    out: Path | None = None,
    figures: Path | None = None,
    data_dir: Path | None = None,
    warn: Warn = ignore,
) -> Report:
    """Write the page of a task's runs; no model is asked and nothing is fetched.

    Args:
        results: the results folder.
        task: the task's name; None: the one that has runs.
        models: names of runs; empty: all of the task.
        out: the page's file; None: ``reports/TASK.html`` in the results folder.
        figures: folder for each picture as SVG, PNG and PDF; None: none.
        data_dir: the task's data, for texts of which records keep only the ends.
        warn: told, in one line, of what is left out.

    Raises:
        UserError: there is nothing to show, a name is unknown, or the file cannot be written.
    """
    if out is not None and out.is_dir():
        raise UserError(f"{out} is a folder; --out must name a file")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise UserError(f"{figures} is a file; --figures must name a folder")
    chosen = choose(results, task, models, warn)
    evidence = columns(chosen, data_dir)
    # Drawing takes a second to load, which a refusal above need not wait for.
    from muse_eval.report.courses import courses
    from muse_eval.report.page import Content, render
    from muse_eval.report.pictures import pictures
    from muse_eval.results.drawing import files

    drawn = [*pictures(chosen, evidence), *courses(chosen)]
    page = render(Content(chosen, evidence, drawn, page_command(chosen.task, results, models)))
    path = out or results / FOLDER / f"{chosen.task}.html"
    written: list[Path] = []
    if figures is not None:
        for one in drawn:
            made = files(one.name, one.chart)
            write_files(figures, made)
            written += [figures / name for name in made]
    write_files(path.parent, {path.name: page})
    return Report(path, len(chosen.runs), len(page.encode("utf-8", "backslashreplace")), written)
