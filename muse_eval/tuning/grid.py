"""What a tune tries: ``--grid`` read into axes, every value checked before anything is trained."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from muse_eval import plugins
from muse_eval.config import TaskSpec, parse_params
from muse_eval.errors import UserError, unknown_name
from muse_eval.reading import MalformedYaml, parse_yaml, shown
from muse_eval.unlearning.recipe import TRAINING, UnlearnConfig, configure

OPTIONS = ("lr", "epochs", "batch_size", "lambda")
"""What can be tuned of any method, beside its own parameters."""

MOST_VALUES = 1_000
"""Of one axis."""
MOST_POINTS = 10_000
"""Of a grid that is tried whole: each is an unlearning."""

Value = bool | int | float | str
Point = Mapping[str, Value]
"""One setting to try: name to value."""


@dataclass(frozen=True)
class Axis:
    """One name of the grid and its values, of the kinds that the method knows them in."""

    name: str
    values: tuple[Value, ...]
    span: bool = False
    """Whether the two values are the ends of a range to sample from."""


def read_axes(texts: Sequence[str], task: TaskSpec, method: str) -> tuple[Axis, ...]:
    """Read ``NAME=V1:V2,NAME=LOW..HIGH`` into axes, in the order given.

    Raises:
        UserError: the grid is not written so, names something unknown or something twice, or a value
            is of a wrong kind or out of the method's bounds.
    """
    _, found, term = plugins.method(method)
    known = [*OPTIONS, *found.params.__dataclass_fields__]  # type: ignore[attr-defined]
    axes = []
    written = _written(texts)
    for name, text in written.items():
        # Before any value is read.
        if (count := text.count(":") + 1) > MOST_VALUES:
            raise UserError(f"--grid {name} has {count:,} values; at most {MOST_VALUES:,} are taken")
    for name, text in written.items():
        if name not in known:
            raise UserError(f"--grid {name}: {unknown_name('parameter', name, known)}")
        if name == "lambda" and term is None:
            hint = f"; try {method}_gdr" if f"{method}_gdr" in plugins.method_names() else ""
            raise UserError(f"--grid lambda weighs a retain term, and {method} has none{hint}")
        axes.append(_axis(name, text, task, method))
    return tuple(axes)


def _written(texts: Iterable[str]) -> dict[str, str]:
    """Split what was typed into name and values."""
    written: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, separator, values = (piece.strip() for piece in part.partition("="))
        if not separator or not name:
            raise UserError(
                f"--grid {part.strip()!r}: write NAME=V1:V2, with a colon between values and a comma "
                "before the next name"
            )
        if name in written:
            raise UserError(f"--grid {name} is given twice; give all its values at once, {name}=V1:V2")
        written[name] = values
    return written


def _axis(name: str, text: str, task: TaskSpec, method: str) -> Axis:
    low, dots, high = text.partition("..")
    parts = [low, high] if dots else text.split(":")
    values = tuple(_value(name, part, task, method) for part in parts)
    for index, value in enumerate(values):
        if value in values[:index]:
            raise UserError(f"--grid {name}={text}: {value} is given twice")
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if dots and (len(numbers) != 2 or numbers[0] >= numbers[1]):
        raise UserError(f"--grid {name}={text}: write a range of numbers as LOW..HIGH")
    return Axis(name, values, span=bool(dots))


def _value(name: str, text: str, task: TaskSpec, method: str) -> Value:
    """Read one value and return it in the kind that the method takes."""
    where = f"--grid {name}={shown(text.strip())}"
    if not text.strip():
        raise UserError(f"--grid {name}: a value is empty; write {name}=V1:V2, or {name}=LOW..HIGH")
    try:
        value = parse_yaml(text, where, typed=True)
    except MalformedYaml:
        raise UserError(f"{where}: that is no YAML value") from None
    if not isinstance(value, bool | int | float | str):
        raise UserError(f"{where}: give a number, true, false or a word")
    try:
        settings = resolve(task, method, {name: value})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    typed: Value = settings[name] if name in OPTIONS else settings["params"][name]
    if isinstance(value, bool) and not isinstance(typed, bool):
        raise UserError(f"{where}: give a number, not {str(value).lower()}")
    return typed


def resolve(task: TaskSpec, method: str, point: Point, **fixed: Any) -> dict[str, Any]:
    """Return everything of a point's recipe that can be set, with what task and method have as defaults.

    Args:
        task: the task, whose values stand under the given ones.
        method: the method's full name.
        point: what is tried; it goes before ``fixed``.
        fixed: options of ``api.unlearn`` that hold for every point.

    Raises:
        UserError: a value is of a wrong kind or out of bounds.
    """
    made = recipe(task, method, point, **fixed)
    _, found, _ = plugins.method(method)
    params = asdict(parse_params(found.params, made.params, f"method {method}"))
    return {**made.model_dump(include=TRAINING), "lambda": made.lambda_, "params": params}


def recipe(task: TaskSpec, method: str, point: Point, **fixed: Any) -> UnlearnConfig:
    """Return what a point is unlearned with, but for the model that it starts from.

    Raises:
        UserError: a value is of a wrong kind or out of bounds.
    """
    given = {"method": method, "model": "target", "seed": task.data.seed, **fixed, **options(point)}
    return configure(task.unlearn, **given)


def options(point: Point) -> dict[str, Any]:
    """Return a point as the options of ``api.unlearn``."""
    params = {name: value for name, value in point.items() if name not in OPTIONS}
    return {**{name: value for name, value in point.items() if name in OPTIONS}, "params": params}


def require_feasible(texts: Sequence[str]) -> None:
    """Refuse a grid that nobody can mean to try whole, before any of its values is read.

    Raises:
        UserError: it has too many points, or is not written as ``read_axes`` wants it.
    """
    if (count := math.prod(text.count(":") + 1 for text in _written(texts).values())) > MOST_POINTS:
        raise UserError(
            f"--grid has {count:,} settings, and each is an unlearning; give fewer values "
            f"(at most {MOST_POINTS:,} settings), or say with --trials how many to sample"
        )


def points(axes: Sequence[Axis]) -> list[Point]:
    """Return the whole grid, the last axis changing fastest."""
    names = [axis.name for axis in axes]
    return [
        dict(zip(names, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))
    ]


def label(point: Point) -> str:
    """Return a point as one reads it: ``beta=0.1, lr=2e-05``."""
    return ", ".join(f"{name}={short(value)}" for name, value in point.items())


def short(value: Value) -> str:
    """Return a value with no more digits than one reads."""
    return f"{value:g}" if isinstance(value, float) else str(value)
