"""What is told of stored runs: rows, tables, the gate, trajectories, figures; no model is opened here.

This is code; the folder ``results/`` at the project's root holds data, the runs themselves.
"""

from muse_eval.results.comparable import asked_notes, params_kind
from muse_eval.results.composites import composite
from muse_eval.results.evidence import find_run, given
from muse_eval.results.forget_sets import ForgetSetRuns, collect, table
from muse_eval.results.grid import Cell, Grid, plain_cell, remarks
from muse_eval.results.lineage import Epoch, ForgetSet, Lineage, but_the_checkpoint, part, reselected
from muse_eval.results.project_files import locate
from muse_eval.results.published import load_published
from muse_eval.results.rows import ARROWS, RunRow, headings, title
from muse_eval.results.runs import (
    REFERENCES,
    CorruptResult,
    StoredResult,
    load,
    load_all,
    load_records,
    run_folder,
)
from muse_eval.results.seeds import of_one_seed, over_seeds
from muse_eval.results.selection import check_retrain, check_rule, select, selectable
from muse_eval.results.tables import draw, to_markdown
from muse_eval.results.trajectory import Trajectory, scores
from muse_eval.results.writing import write_files

__all__ = [
    "ARROWS",
    "REFERENCES",
    "Cell",
    "CorruptResult",
    "Epoch",
    "ForgetSet",
    "ForgetSetRuns",
    "Grid",
    "Lineage",
    "RunRow",
    "StoredResult",
    "Trajectory",
    "asked_notes",
    "but_the_checkpoint",
    "check_retrain",
    "check_rule",
    "collect",
    "composite",
    "draw",
    "find_run",
    "given",
    "headings",
    "load",
    "load_all",
    "load_published",
    "load_records",
    "locate",
    "of_one_seed",
    "over_seeds",
    "params_kind",
    "part",
    "plain_cell",
    "remarks",
    "reselected",
    "run_folder",
    "scores",
    "select",
    "selectable",
    "table",
    "title",
    "to_markdown",
    "write_files",
]
