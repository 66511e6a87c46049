"""What a table that is written anew replaces, in a line."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from html import unescape

from muse_eval.errors import counted, listed
from muse_eval.results.cells import markdown_read, read_cell

MARKED: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
    (re.compile(r'<tr data-run="([^"]*)">'), unescape),
    (re.compile(r" % run: (.*)$", re.M), str),
)
"""Where a page and a LaTeX table say which run a row is."""


def replaced(before: str, after: str) -> str:
    """Say what a leaderboard's new text changes in the old one; empty where it changes nothing.

    Args:
        before: the file's text as it is, a leaderboard in any form, or anything else.
        after: the leaderboard that takes its place.
    """
    if before == after:
        return ""
    old, new = _runs(before), _runs(after)
    if not old:
        return f"replaced a file of {counted(len(before.splitlines()), 'line')} that was no leaderboard"
    gone = [name for name in old if name not in new]
    told = f"replaced: {counted(len(old), 'run')} before, {len(new)} now"
    return f"{told}; gone: {listed('run', gone)}" if gone else told


def _runs(text: str) -> Sequence[str]:
    """Return the measured runs of a leaderboard as ``task/name``, or under its heading in Markdown."""
    if text.startswith("task,name,"):
        lines = csv.DictReader(io.StringIO(text))
        measured = [line for line in lines if not line.get("source")]
        return [f"{read_cell(line['task'])}/{read_cell(line['name'])}" for line in measured]
    if text.startswith("{"):
        return _in_json(text)
    if marked := [run for pattern, read in MARKED for run in map(read, pattern.findall(text))]:
        return marked
    found, heading, own = [], "", False
    for line in text.splitlines():
        if line.startswith("## "):
            heading = markdown_read(line[3:])
        elif re.match(r"\| (model|---) \|", line):
            # The published numbers' table has a column more, their source.
            own = not line.endswith("| source |") if "model" in line else own
        elif own and line.startswith("| "):
            name = re.sub(r" \[[\d, ]+\]$", "", line[2:].split(" | ")[0])
            found.append(f"{heading}/{markdown_read(name)}")
        else:
            own = False
    return found


def _in_json(text: str) -> Sequence[str]:
    try:
        tasks = json.loads(text)["tasks"]
        return [f"{task['task']}/{row['name']}" for task in tasks for row in task["rows"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
