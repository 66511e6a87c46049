"""Finds metrics, methods and tasks by their file names; nothing registers itself."""

import importlib
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from muse_eval.config import ColumnSpec, TaskSpec, parse_params, parse_task, read_text
from muse_eval.errors import UserError, first_line, unknown_name
from muse_eval.sources import columns_of
from muse_eval.types import Method, Metric

RETAIN_TERMS = {"gdr": "nll", "klr": "kl"}
"""Suffix of a method's published name to its retain term (MUSE, section 4.1)."""


def _modules(package: str, attribute: str) -> list[str]:
    """List the modules of a package that define ``attribute`` at their top level."""
    files = [Path(str(entry)) for entry in resources.files(package).iterdir()]
    return sorted(
        file.stem
        for file in files
        if file.suffix == ".py" and f"\n{attribute} = " in file.read_text(encoding="utf-8")
    )


def _load(package: str, name: str) -> ModuleType:
    """Import a module that someone wrote here, or say in one line what is wrong with it.

    Raises:
        UserError: it does not load.
    """
    try:
        return importlib.import_module(f"{package}.{name}")
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError) as error:
        room = package.removeprefix("muse_eval.").replace(".", "/")
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{room}/{name}.py does not load ({what}); mend it") from error


def metric_names() -> list[str]:
    """List the metrics: each file in ``metrics/`` that defines ``METRIC``."""
    return _modules("muse_eval.metrics", "METRIC")


def metric(name: str) -> Metric:
    """Load a metric by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in metric_names():
        raise unknown_name("metric", name, metric_names())
    found: Metric = _load("muse_eval.metrics", name).METRIC
    return found


def column(name: str, spec: ColumnSpec, values: Mapping[str, Any]) -> tuple[Metric, Any]:
    """Load a column's metric and its parameters, with ``values`` in place of its defaults.

    Raises:
        UserError: a name is unknown, a value is out of bounds, or its splits are not those the metric reads.
    """
    found = metric(spec.metric)
    params = parse_params(found.params, values, f"column {name}")
    unknown = set(spec.splits) ^ set(found.roles)
    if unknown:
        raise UserError(f"task column {name}: {spec.metric} needs the splits {', '.join(found.roles)}")
    for role, needed in found.roles.items():
        given = columns_of(spec.splits[role])
        if not set(needed) <= set(given):
            raise UserError(
                f"task column {name}: {spec.metric} reads {', '.join(needed)} of {role}, "
                f"but {spec.splits[role]} has {', '.join(given)}"
            )
    return found, params


def method_names() -> list[str]:
    """List the methods that can be typed: each forget loss alone, with ``_gdr`` and with ``_klr``."""
    losses = _modules("muse_eval.unlearning.methods", "METHOD")
    return [name for loss in losses for name in (loss, *(f"{loss}_{s}" for s in RETAIN_TERMS))]


def split_method(name: str) -> tuple[str, str | None]:
    """Split a method's published name into its loss and its retain term (None: alone)."""
    loss, _, suffix = name.rpartition("_")
    return (loss, RETAIN_TERMS[suffix]) if suffix in RETAIN_TERMS else (name, None)


def method(name: str) -> tuple[str, Method, str | None]:
    """Resolve a method's published name into (loss name, forget loss, retain term or None).

    Raises:
        UserError: there is none of that name.
    """
    if name not in method_names():
        raise unknown_name("method", name, method_names())
    loss, retain = split_method(name)
    found: Method = _load("muse_eval.unlearning.methods", loss).METHOD
    return loss, found, retain


def task_names() -> list[str]:
    """List the built-in tasks: each YAML file in ``tasks/``."""
    files = [Path(str(entry)) for entry in resources.files("muse_eval.tasks").iterdir()]
    return sorted(file.stem for file in files if file.suffix == ".yaml")


def task(name: str) -> TaskSpec:
    """Load a task by its name, or from a YAML file of the user's.

    ``NAME-seedN`` is a task of the built-in world made from another seed, which pins no fingerprints.

    Raises:
        UserError: there is none of that name, or its YAML is wrong.
    """
    world = re.fullmatch(r"(?P<base>.+)-seed(?P<seed>\d+)", name)
    if world and world["base"] in task_names():
        base, seed = task(world["base"]), int(world["seed"])
        if base.data.source != "builtin":
            raise UserError(f"task {base.name} has no seed: its data are given; use {base.name}")
        return base.model_copy(
            update={
                "name": name,
                "title": f"{base.title}, seed {seed}",
                "data": base.data.model_copy(update={"seed": seed}),
                "fingerprints": {},
            }
        )
    if name.endswith((".yaml", ".yml")):
        return _beside(parse_task(read_text(Path(name), "task file"), name), Path(name).parent)
    if name not in task_names():
        raise unknown_name("task", name, task_names())
    file = resources.files("muse_eval.tasks") / f"{name}.yaml"
    return parse_task(file.read_text(encoding="utf-8"), f"tasks/{name}.yaml")


def _beside(task: TaskSpec, home: Path) -> TaskSpec:
    """Return the task with its data folder, where it names one, found from the folder of its YAML file.

    Raises:
        UserError: its data come from elsewhere.
    """
    if task.data.folder is None:
        return task
    if task.data.source != "folder":
        raise UserError(f"task {task.name}: data.folder goes with source: folder, not {task.data.source}")
    folder = home / task.data.folder.expanduser()
    return task.model_copy(update={"data": task.data.model_copy(update={"folder": folder})})
