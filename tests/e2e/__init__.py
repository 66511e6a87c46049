"""What the end-to-end tests share: a small task with its data, and the command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file
from typer import testing
from typer.main import get_command
from typer.testing import CliRunner, Result

from muse_eval import plugins
from muse_eval.cli.app import app
from muse_eval.data.splits import open_data

# Else the runner builds all verbs anew each time.
vars(testing)["_get_command"] = cache(get_command)
SCRIPT = Path(sys.executable).with_name("muse-eval")
SEVERAL = """
import json, sys
from muse_eval import late
late.start()
from typer.testing import CliRunner
from muse_eval.cli.app import app
with late.ended_at_once():
    for command in json.loads(sys.argv[1]):
        done = CliRunner().invoke(app, command)
        print(json.dumps([done.exit_code, done.stdout, done.stderr]))
    sys.exit()
"""
NAMES = ("Ada", "Bo", "Cy", "Dee", "Eli", "Fay")
QA = [{"question": f"Who is {name}?", "answer": f"{name} keeps the mill."} for name in NAMES]
TEXTS = [f"{name} went to the mill at dawn, and the owl said nothing to {name}." for name in NAMES]
SPLITS: dict[str, list[Any]] = {
    "knowmem/forget_qa": QA[:3],
    "knowmem/forget_qa_icl": QA[3:5],
    "knowmem/retain_qa": [*QA[4:], *QA[:1]],
    "knowmem/retain_qa_icl": QA[1:3],
    "verbmem/forget": [{"prompt": text[:20], "gt": text[20:]} for text in TEXTS[:3]],
    "privleak/forget": TEXTS[:3],
    "privleak/holdout": TEXTS[3:],
    "privleak/retain": TEXTS[1:4],
    "raw/forget": TEXTS[:4],
    "raw/retain1": TEXTS[2:],
}
COLUMNS: dict[str, Any] = {
    "verbmem_f": {
        "title": "VerbMem Df",
        "metric": "verbmem",
        "goal": "lower",
        "splits": {"forget": "verbmem/forget"},
        "params": {"max_tokens": 8},
    },
    "knowmem_f": {
        "title": "KnowMem Df",
        "metric": "knowmem",
        "goal": "lower",
        "splits": {"qa": "knowmem/forget_qa", "icl": "knowmem/forget_qa_icl"},
        "params": {"max_tokens": 8, "shots": 2},
    },
    "privleak": {
        "title": "PrivLeak",
        "metric": "privleak",
        "goal": "zero",
        "splits": {"forget": "privleak/forget", "holdout": "privleak/holdout", "retain": "privleak/retain"},
    },
    "knowmem_r": {
        "title": "KnowMem Dr",
        "metric": "knowmem",
        "goal": "higher",
        "splits": {"qa": "knowmem/retain_qa", "icl": "knowmem/retain_qa_icl"},
        "params": {"max_tokens": 8, "shots": 2},
    },
}
TASK: dict[str, Any] = {
    "name": "village",
    "title": "Village",
    "source": "made up for the tests",
    "data": {"source": "hub", "repo": "nobody/village"},
    "columns": COLUMNS,
    "retrain_auc": {"Min-40%": 0.5},
    "unlearn": {"rows": "document", "max_len": 64, "lr": 0.001, "epochs": 1, "batch_size": 2},
}


def write_task(path: Path, **changes: Any) -> Path:
    """Write the small task's YAML, with other values at its top level."""
    path.write_text(yaml.safe_dump({**TASK, **changes}, sort_keys=False), encoding="utf-8")
    return path


def write_data(folder: Path, splits: Mapping[str, Sequence[Any]] = SPLITS) -> Path:
    """Write splits in the layout of MUSE's own loader."""
    for name, rows in splits.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


def other_model(model: Path, folder: Path) -> Path:
    """Copy a model with its weights turned around: a second model of the same shape."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    turned = {name: np.ascontiguousarray(np.flip(array)) for name, array in weights.items()}
    save_file(turned, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def muse(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300
    )


def several(
    here: Path, commands: Sequence[Sequence[object]], env: Mapping[str, str]
) -> list[tuple[int, str, str]]:
    """Run commands in one other process, since each takes seconds to begin; give code, output, errors."""
    given = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, given],
        cwd=here,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in map(json.loads, done.stdout.splitlines())]


def files(folder: Path) -> list[str]:
    """List the files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pinned_task(base: str, data: Path, path: Path) -> Path:
    """Write a built-in task as it is but for its fingerprints, which become those of a data folder.

    A published AUC holds for data that match the task's fingerprints alone.
    """
    task = plugins.task(base)
    read = open_data(task, data)
    found = {name: read.split(name).fingerprint for name in read.names()}
    made = task.model_copy(update={"fingerprints": found}).model_dump(mode="json", by_alias=True)
    path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    return path
