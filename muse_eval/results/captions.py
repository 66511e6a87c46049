"""What heads a table that stands alone, in a paper or on a page: what was scored, on what, and by what."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.errors import counted
from muse_eval.results.lineage import part
from muse_eval.results.rows import Heading, RunRow, title
from muse_eval.results.runs import StoredResult

MANY = 4
"""Different values that a caption still names; the rows themselves have them all."""


def caption(task: str, columns: Mapping[str, Heading], rows: Sequence[RunRow]) -> str:
    """Return a table's caption: title, unit, data, number of examples, engine."""
    engines = (f"{row['engine']} {row['dtype']}".strip() for row in rows)
    parts = [
        f"{title(task, rows)}: scores in percent, ± half of the 95 % interval",
        f"data: {_joined(data(row['stored']) for row in rows) or 'not stored'}",
        f"n: {_examples(columns, rows)}",
        f"engine: {_joined(engines) or 'not stored'}",
    ]
    limits = [f"first {counted(row['limit'], 'example')}" for row in rows if row["limit"] is not None]
    if limits:
        parts.append(f"limited to the {_joined(limits)} of each split")
    return "; ".join(parts) + "."


def data(stored: StoredResult) -> str:
    """Return where a run's data came from, and a digest over its splits; empty where that is not stored."""
    found = part(stored.config, "data")
    if not found:
        return ""
    origin = {
        "builtin": f"built-in world, seed {found.get('seed')}",
        "hub": f"{found.get('repo')} at {str(found.get('revision'))[:12]}",
    }.get(str(found.get("source")), "files")
    return f"{origin} (SHA-256 {data_digest(found)[:12]})"


def data_digest(found: Mapping[str, Any]) -> str:
    """Return one digest over those of the splits that a run read."""
    return fingerprint(part(found, "sha256")).rpartition(":")[2]


def _examples(columns: Mapping[str, Heading], rows: Sequence[RunRow]) -> str:
    told = {}
    for name, heading in columns.items():
        counts = sorted({row["columns"][name].n for row in rows if name in row["columns"]})
        if counts:
            told[heading.title] = _joined(map(str, counts))
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{name} {count}" for name, count in told.items())


def _joined(values: Iterable[str]) -> str:
    """Return different values in their order, joined by ``or``; of many the first, and how many more."""
    found = list(dict.fromkeys(filter(None, values)))
    more = [f"{len(found) - MANY} others"] if len(found) > MANY else []
    return " or ".join([*found[:MANY], *more])
