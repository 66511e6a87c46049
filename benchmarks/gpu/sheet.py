"""The check's two files: ``gpu-check.json``, written anew as each stage ends, and the same as Markdown."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from muse_eval.errors import UserError
from muse_eval.results import write_files

FILE, PAGE = "gpu-check.json", "gpu-check.md"
SCHEMA = 1
SETTINGS = ("shape", "device", "data", "commit", "versions")
"""What all stages of a file have in common."""
Sheet = dict[str, Any]


def new(settings: Mapping[str, Any]) -> Sheet:
    """Begin a sheet."""
    return {"schema_version": SCHEMA, **settings, "stages": {}}


def read(folder: Path) -> Sheet | None:
    """Read the sheet in a folder; None where there is none.

    Raises:
        UserError: it is not one.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, or choose another --out") from None
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA or "stages" not in found:
        raise UserError(f"{path} is no sheet of this check; remove it, or choose another --out")
    return found


def check_same(sheet: Sheet, settings: Mapping[str, Any], folder: Path) -> None:
    """Refuse to put stages of different settings into one sheet.

    Raises:
        UserError: something differs.
    """
    for name in SETTINGS:
        if sheet.get(name) != settings[name]:
            then, now = (_short(name, one) for one in (sheet.get(name), settings[name]))
            raise UserError(
                f"{folder / FILE} holds a check with another {name} ({then}; now {now}); "
                "--again starts it anew, or choose another --out"
            )


def _short(name: str, value: Any) -> str:
    if name == "versions" and isinstance(value, dict):
        return ", ".join(f"{package} {version}" for package, version in value.items())
    return str(value)


def write(folder: Path, sheet: Sheet) -> None:
    """Write both files, each whole or not at all."""
    text = json.dumps(sheet, indent=2, ensure_ascii=False) + "\n"
    write_files(folder, {FILE: text, PAGE: markdown(sheet)})


def today() -> str:
    """Return the date, as a sheet has it."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


# ── the page ─────────────────────────────────────────────────────────────────────────────────────
HEADINGS = {
    "machine": "Rates",
    "exactness": "Exactness",
    "scoring": "Scoring",
    "training": "Training",
    "small": "Small and real",
    "vllm": "Transformers and vLLM",
}


def markdown(sheet: Sheet) -> str:
    """Return the sheet as Markdown, to be pasted into docs/performance.md."""
    stages = sheet["stages"]
    floor = stages.get("machine", {}).get("facts", {})
    title = f"### {floor.get('card', 'unknown device')}, shape {sheet['shape']}"
    known = [
        f"{floor['memory_gib']} GiB" if "memory_gib" in floor else None,
        f"driver {floor['driver']}" if floor.get("driver") else None,
        f"CUDA {floor['cuda']}" if floor.get("cuda") else None,
        *(f"{name} {version}" for name, version in sheet["versions"].items()),
        f"commit {sheet['commit'] or 'unknown'}",
        ", ".join(sorted({stage["date"] for stage in stages.values()})),
        f"data: {sheet['data']}",
    ]
    parts = [title, "; ".join(one for one in known if one) + "."]
    for name, stage in stages.items():
        parts += [f"#### {HEADINGS[name]} ({stage['seconds']:.0f} s)", *_stage(name, stage)]
    return "\n\n".join(parts) + "\n"


def _stage(name: str, stage: Mapping[str, Any]) -> list[str]:
    parts = []
    if stage["status"] == "failed":
        parts.append(f"**Failed**: {stage['reason']}.")
    elif name == "exactness" and "exact" in stage["facts"]:
        parts.append("**Exact.**" if stage["facts"]["exact"] else "**Not exact.**")
    measured = [row for row in stage["rows"] if "skipped" not in row and "failed" not in row]
    if measured:
        parts.append(_table(import_module(f"benchmarks.gpu.{name}").COLUMNS, measured))
    left = [
        f"- {row['what']}: {kind} ({row[key]})"
        for row in stage["rows"]
        for key, kind in (("skipped", "not run"), ("failed", "**failed**"))
        if key in row
    ]
    return [*parts, "\n".join(left)] if left else parts


def _table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay rows out, without the columns that none of them has."""
    used = {key: title for key, title in columns.items() if any(_cell(row.get(key)) for row in rows)}
    texts = [key for key in used if any(isinstance(row.get(key), str) for row in rows)]
    lines = [
        list(used.values()),
        ["---" if key in texts else "---:" for key in used],
        *([_cell(row.get(key)) for key in used] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
