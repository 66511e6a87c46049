"""Finds metrics, methods, probes and tasks by their file names; nothing registers itself."""

import ast
import importlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from muse_eval.config import ColumnSpec, PresetSpec, TaskSpec, columns_of, parse_params, parse_task
from muse_eval.errors import UserError, first_line, unknown_name
from muse_eval.reading import expect, parse_yaml, read_kept, read_text, typed_path
from muse_eval.types import AnyMethod, AnyProbe, LogitMixture, Metric

RETAIN_TERMS = {"gdr": "nll", "klr": "kl"}
"""Suffix of a method's published name to its retain term (MUSE, section 4.1)."""
ASSEMBLED_LAST = {"WeightMethod", "LogitMixture"}
"""Forms whose model is made once training is over: no epoch before the last leaves one."""
ALONE = {"ActivationMethod", *ASSEMBLED_LAST}
"""Forms that take no retain term: what they do to retain text is part of the method."""
FINETUNE = "finetune"
"""What ``muse-eval finetune`` trains with; it is no method of unlearning, and not listed as one."""
PROBES = "muse_eval.probes"
YAML = (".yaml", ".yml")
"""How the name of a user's own task file ends."""
RELEASED = "_released"
"""How the file of a published code's own behaviour ends."""


def _modules(package: str, attribute: str) -> list[str]:
    """List the modules of a package that define ``attribute`` at their top level."""
    files = [Path(str(entry)) for entry in resources.files(package).iterdir()]
    return sorted(
        file.stem for file in files if file.suffix == ".py" and f"\n{attribute} = " in read_kept(file)
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
    kinds = [metric(host).roles for host in found.beside] or [found.roles]
    roles = next((kind for kind in kinds if kind.keys() == spec.splits.keys()), None)
    if roles is None:
        needs = " or ".join(", ".join(kind) for kind in kinds)
        raise UserError(f"task column {name}: {spec.metric} needs the splits {needs}")
    for role, needed in roles.items():
        given = columns_of(spec.splits[role])
        if not set(needed) <= set(given):
            raise UserError(
                f"task column {name}: {spec.metric} reads {', '.join(needed)} of {role}, "
                f"but {spec.splits[role]} has {', '.join(given)}"
            )
    return found, params


def _forms() -> dict[str, str]:
    """Return each method file's name and the form of its ``METHOD``, read without importing torch."""
    files = [Path(str(entry)) for entry in resources.files("muse_eval.unlearning.methods").iterdir()]
    texts = {file.stem: read_kept(file) for file in files if file.suffix == ".py"}
    forms = {stem: re.search(r"^METHOD = (\w+)\(", text, re.M) for stem, text in sorted(texts.items())}
    return {stem: form[1] for stem, form in forms.items() if form}


def _spellings(stem: str, form: str) -> dict[str, str | None]:
    """Return what can be typed for a method file, and the retain term each stands for.

    A file ``NAME_released`` is the published code's behaviour where it differs from the paper, typed
    ``NAME@released``; its KLR is no divergence (docs/methods.md) and is not offered.
    """
    base = stem.removesuffix(RELEASED)
    at = "@released" if base != stem else ""
    terms = {} if form in ALONE else {"gdr": "nll"} if at else RETAIN_TERMS
    return {base + at: None} | {f"{base}_{suffix}{at}": term for suffix, term in terms.items()}


def method_names() -> list[str]:
    """List the methods that can be typed: each alone and, where it takes one, with a retain term."""
    return [name for stem, form in _forms().items() for name in _spellings(stem, form)]


def split_method(name: str) -> tuple[str, str | None]:
    """Split a method's published name into its file and its retain term (None: alone).

    Raises:
        UserError: there is none of that name.
    """
    for stem, form in _forms().items():
        spellings = _spellings(stem, form)
        if name in spellings:
            return stem, spellings[name]
    raise _unknown_method(name)


def _unknown_method(name: str) -> UserError:
    loss, _, suffix = name.rpartition("_")
    if suffix in RETAIN_TERMS and loss in method_names():
        return UserError(f"method {loss} has no retain term to add; use {loss}")
    return unknown_name("method", name, method_names())


def method(name: str) -> tuple[str, AnyMethod, str | None]:
    """Resolve a method's published name into (file, method, retain term or None).

    Raises:
        UserError: there is none of that name.
    """
    if name == FINETUNE:
        return name, _load("muse_eval.unlearning", name).METHOD, None
    stem, term = split_method(name)
    found: AnyMethod = _load("muse_eval.unlearning.methods", stem).METHOD
    return stem, found, term


def leaves_epochs(name: str) -> bool:
    """Say whether each epoch of a method leaves a model that can be scored."""
    return name == FINETUNE or _forms()[split_method(name)[0]] not in ASSEMBLED_LAST


def can_go_on(name: str) -> bool:
    """Say whether what a method makes can be unlearned further: it is one model's weights."""
    return _forms()[split_method(name)[0]] != "LogitMixture"


def method_summary(name: str) -> str:
    """Return the first line of a method's docstring, read without importing torch."""
    return summary("muse_eval.unlearning.methods", split_method(name)[0])


def summary(package: str, stem: str) -> str:
    """Return the first line of a module's docstring, read without importing it."""
    file = Path(str(resources.files(package) / f"{stem}.py"))
    return (ast.get_docstring(ast.parse(read_kept(file))) or "").split("\n")[0]


def probe_names() -> list[str]:
    """List the probes: each file in ``probes/`` that defines ``PROBE``."""
    return _modules(PROBES, "PROBE")


def probe(name: str) -> AnyProbe:
    """Load a probe by name, or raise ``UserError``."""
    if name not in probe_names():
        raise unknown_name("probe", name, probe_names())
    found: AnyProbe = _load(PROBES, name).PROBE
    return found


@cache
def presets() -> dict[str, PresetSpec]:
    """Return the published hyper-parameters by name (``presets.yaml``)."""
    text = (resources.files("muse_eval") / "presets.yaml").read_text(encoding="utf-8")
    parsed = expect(parse_yaml(text, "presets.yaml"), dict, "presets.yaml")
    return {name: PresetSpec.model_validate(values) for name, values in parsed.items()}


def preset(name: str, method_name: str) -> PresetSpec:
    """Return a preset for a method.

    Raises:
        UserError: there is none of that name, or it is for other methods.
    """
    if name not in presets():
        raise unknown_name("preset", name, presets())
    found = presets()[name]
    if found.methods and method_name not in found.methods:
        raise UserError(f"preset {name} is for {', '.join(found.methods)}, not for {method_name}")
    return found


def task_names() -> list[str]:
    """List the built-in tasks: each YAML file in ``tasks/``."""
    files = [Path(str(entry)) for entry in resources.files("muse_eval.tasks").iterdir()]
    return sorted(file.stem for file in files if file.suffix == ".yaml")


def task(name: str) -> TaskSpec:
    """Load a task by its name, or from a YAML file of the user's.

    ``NAME-seedN`` or ``FILE.yaml-seedN`` is a task of the built-in world made from another seed, which pins
    no fingerprints.

    Raises:
        UserError: there is none of that name, or its YAML is wrong.
    """
    world = re.fullmatch(r"(?P<base>.+)-seed(?P<seed>\d+)", name)
    if world and (world["base"] in task_names() or world["base"].endswith(YAML)):
        return _reseeded(task(world["base"]), int(world["seed"]))
    return _read_task(name)


def _reseeded(base: TaskSpec, seed: int) -> TaskSpec:
    """Return a task of the built-in world as it is in the world of another seed."""
    if base.data.source != "builtin":
        raise UserError(
            f"task {base.name} has no seed: its data are given; use {base.name}, "
            "with pipeline --seeds for several unlearnings of it"
        )
    return base.model_copy(
        update={
            "name": f"{base.name}-seed{seed}",
            "title": f"{base.title}, seed {seed}",
            "base": f"{base.base}-seed{seed}" if base.base else None,
            "data": base.data.model_copy(update={"seed": seed}),
            "fingerprints": {},
        }
    )


def _read_task(name: str, is_base: bool = False) -> TaskSpec:
    """Read a task's YAML; a base named there as a file lies beside it, and is a whole task itself."""
    by_file = name.endswith(YAML)
    if not by_file and name not in task_names():
        raise unknown_name("task", name, task_names())

    def find(base: str) -> TaskSpec:
        beside = by_file and base.endswith(YAML)
        return _read_task(str(Path(name).parent / base) if beside else base, is_base=True)

    if by_file:
        task = parse_task(read_text(Path(name), "task file"), name, None if is_base else find)
        return _beside(task, Path(name).parent)
    file = resources.files("muse_eval.tasks") / f"{name}.yaml"
    return parse_task(file.read_text(encoding="utf-8"), f"tasks/{name}.yaml", None if is_base else find)


def mixture(name: str) -> LogitMixture:
    """Load a method that combines two models' logits as they answer, by its file's name.

    Raises:
        UserError: there is no method of that name, or it is of another form.
    """
    names = _modules("muse_eval.unlearning.methods", "METHOD")
    if name not in names:
        raise unknown_name("method", name, names)
    found: object = _load("muse_eval.unlearning.methods", name).METHOD
    if not isinstance(found, LogitMixture):
        raise UserError(f"method {name} makes one model's weights; it does not combine two models")
    return found


def _beside(task: TaskSpec, home: Path) -> TaskSpec:
    """Return the task with its data folder, where it names one, found from the folder of its YAML file.

    Raises:
        UserError: its data come from elsewhere.
    """
    if task.data.folder is None:
        return task
    if task.data.source != "folder":
        raise UserError(f"task {task.name}: data.folder goes with source: folder, not {task.data.source}")
    folder = home / typed_path(task.data.folder, f"task {task.name}: data.folder")
    return task.model_copy(update={"data": task.data.model_copy(update={"folder": folder})})
