"""The verbs that show and manage what is there: list, cache."""

import textwrap
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_eval.cli.options import JsonOption, ResultsOption, warn
from muse_eval.errors import counted, unknown_name
from muse_eval.printable import print_json

if TYPE_CHECKING:
    from muse_eval.config import PresetSpec

WIDTH = 80
"""Characters of a line, on whatever terminal or none: the same words fall into the same lines everywhere."""
GAP = "  "
BELOW = "    "

cache_app = typer.Typer(no_args_is_help=True, help="Look at the stored answers, or delete them.")


def list_things(
    what: Annotated[
        str, typer.Argument(help="tasks, methods, presets, probes, metrics, engines, models or launch.")
    ],
    name: Annotated[
        str | None, typer.Argument(help="Only this one; with `launch`, its path alone.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List tasks, methods, presets, probes, metrics, engines, models, settings for `accelerate launch`.

    Example: `muse-eval list tasks`
    """
    lists = {
        "tasks": _tasks,
        "methods": _methods,
        "presets": _presets,
        "probes": _probes,
        "metrics": _metrics,
        "engines": _engines,
        "models": _models,
        "launch": _launch,
    }
    if what not in lists:
        raise unknown_name("list", what, lists)
    lines = lists[what]()
    if name is not None:
        lines = _only(what, name, lines)
    if as_json:
        print_json(lines)
        return
    if name is not None and what == "launch":
        print(lines[0]["path"])
    else:
        print_columns(lines)


def _only(what: str, name: str, lines: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the lines of one thing, by what stands in their first column."""
    found = [line for line in lines if next(iter(line.values())) == name]
    if not found:
        kind = "launch setting" if what == "launch" else what.removesuffix("s")
        raise unknown_name(kind, name, {next(iter(line.values())) for line in lines})
    return found


def print_columns(lines: list[dict[str, str]]) -> None:
    """Print rows of equal keys in aligned columns; the columns that ``WIDTH`` does not hold stand below.

    No line is longer, but for a word that is: a path is left whole.
    """
    widths = {key: max(len(line[key]) for line in lines) for key in lines[0]}
    ends = accumulate(widths.values(), lambda end, width: end + len(GAP) + width)
    beside = [key for key, end in zip(widths, ends, strict=True) if end <= WIDTH]
    below = list(widths)[len(beside) :]
    for line in lines:
        print(GAP.join(line[key].ljust(widths[key]) for key in beside).rstrip())
        for key in below:
            for part in _wrapped(line[key], f"{key}: " if len(below) > 1 else ""):
                print(part)


def _wrapped(text: str, label: str) -> list[str]:
    """Return a text in indented lines, its label in front; none for an empty text."""
    return textwrap.wrap(
        f"{label}{text}" if text else "",
        WIDTH,
        initial_indent=BELOW,
        subsequent_indent=BELOW,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _tasks() -> list[dict[str, str]]:
    from muse_eval import plugins

    tasks = [plugins.task(name) for name in plugins.task_names()]
    return [
        {
            "name": task.name,
            "title": task.title,
            "data": task.data.repo or "built in",
            "columns": " ".join(task.columns),
        }
        for task in tasks
    ]


def _methods() -> list[dict[str, str]]:
    from muse_eval import plugins

    terms = {"nll": "with NLL on retain", "kl": "with KL to the target on retain", None: "alone"}
    return [
        {"name": name, "retain term": terms[term], "what": plugins.method_summary(name)}
        for name in plugins.method_names()
        for _, term in [plugins.split_method(name)]
    ]


def _presets() -> list[dict[str, str]]:
    from muse_eval import plugins

    return [
        {
            "name": name,
            "methods": " ".join(preset.methods) or "any",
            "values": _preset_values(preset),
            "source": preset.source,
            "note": preset.note,
        }
        for name, preset in plugins.presets().items()
    ]


def _probes() -> list[dict[str, str]]:
    from muse_eval import plugins

    found = {name: plugins.probe(name) for name in plugins.probe_names()}
    return [
        {
            "name": name,
            "paper": " ".join(probe.strengths(probe.params())),
            "quick": " ".join(probe.strengths(probe.params(**probe.quick))),
            "what": plugins.summary(plugins.PROBES, name),
            "here": probe.lacks(probe.params()) or "usable",
        }
        for name, probe in found.items()
    ]


def _preset_values(preset: "PresetSpec") -> str:
    """Return a preset's values as they would be typed."""
    known = preset.model_dump(
        by_alias=True, exclude={"source", "methods", "params", "note"}, exclude_none=True
    )
    loose = [f"{name} {value}" for name, value in known.items()]
    params = [
        f"{stem}.{name} {value}" for stem, group in preset.params.items() for name, value in group.items()
    ]
    return ", ".join([*loose, *params])


def _metrics() -> list[dict[str, str]]:
    from muse_eval import plugins

    found = {name: plugins.metric(name) for name in plugins.metric_names()}
    return [
        {
            "name": name,
            "goal": metric.goal,
            "splits": f"those of {' or '.join(metric.beside)}" if metric.beside else " ".join(metric.roles),
            "scored": f"--metrics +{name}" if metric.beside else "as the task says",
        }
        for name, metric in found.items()
    ]


def _engines() -> list[dict[str, str]]:
    from muse_eval.engines import ENGINES

    return [
        {
            "name": name,
            "state": kind.state,
            "what": kind.summary,
        }
        for name, kind in ENGINES.items()
    ]


def _models() -> list[dict[str, str]]:
    from muse_eval import plugins

    tasks = [task for name in plugins.task_names() if (task := plugins.task(name)).base is None]
    return [
        {"task": task.name, "role": role, "model": ref.repo, "revision": ref.revision or ""}
        for task in tasks
        for role, ref in task.models.items()
    ]


def _launch() -> list[dict[str, str]]:
    folder = Path(str(resources.files("muse_eval.unlearning") / "launch"))
    return [
        {"name": path.stem, "path": str(path), "what": path.read_text(encoding="utf-8").splitlines()[0][2:]}
        for path in sorted(folder.glob("*.yaml"))
    ]


@cache_app.command()
def info(results: ResultsOption = Path("results")) -> None:
    """List the stored answers by engine.

    Example: `muse-eval cache info`
    """
    from muse_eval.scoring import cache_info

    entries = cache_info(results / "cache", warn)
    for entry in entries:
        answers = counted(entry.answers, "answer")
        print(f"{entry.folder}: {answers}, {entry.num_bytes / 1e6:.1f} MB, {entry.engine}")
    print(f"{counted(len(entries), 'engine')}, {sum(entry.num_bytes for entry in entries) / 1e6:.1f} MB")


@cache_app.command()
def clear(results: ResultsOption = Path("results")) -> None:
    """Delete the stored answers; results stay.

    Example: `muse-eval cache clear`
    """
    from muse_eval.scoring import cache_clear

    print(f"freed {cache_clear(results / 'cache') / 1e6:.1f} MB")
