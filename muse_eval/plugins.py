"""Finds metrics, methods and tasks by their file names; nothing registers itself."""

import importlib
import re
from importlib import resources
from pathlib import Path
from types import ModuleType

from muse_eval.config import TaskSpec, parse_task, read_text
from muse_eval.errors import UserError, first_line, unknown_name
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
        return _reseeded(task(world["base"]), int(world["seed"]), name)
    return _read_task(name)


def _reseeded(base: TaskSpec, seed: int, name: str) -> TaskSpec:
    """Return a task of the built-in world as it is in the world of another seed."""
    if base.data.source != "builtin":
        raise UserError(f"task {base.name} has no seed: its data are given; use {base.name}")
    return base.model_copy(
        update={
            "name": name,
            "title": f"{base.title}, seed {seed}",
            "base": f"{base.base}-seed{seed}" if base.base else None,
            "data": base.data.model_copy(update={"seed": seed}),
            "fingerprints": {},
        }
    )


def _read_task(name: str, is_base: bool = False) -> TaskSpec:
    """Read a task's YAML; a base named there as a file lies beside it, and is a whole task itself."""
    by_file = name.endswith((".yaml", ".yml"))
    if not by_file and name not in task_names():
        raise unknown_name("task", name, task_names())

    def find(base: str) -> TaskSpec:
        beside = by_file and base.endswith((".yaml", ".yml"))
        return _read_task(str(Path(name).parent / base) if beside else base, is_base=True)

    if by_file:
        return parse_task(read_text(Path(name), "task file"), name, None if is_base else find)
    file = resources.files("muse_eval.tasks") / f"{name}.yaml"
    return parse_task(file.read_text(encoding="utf-8"), f"tasks/{name}.yaml", None if is_base else find)
