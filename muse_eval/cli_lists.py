"""The verbs that show and manage what is there: list, data, cache."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_eval.cli_options import DataOption, JsonOption, ResultsOption, warn
from muse_eval.errors import UserError, unknown_name

data_app = typer.Typer(no_args_is_help=True, help="Look at a task's data, check it, copy it.")
cache_app = typer.Typer(no_args_is_help=True, help="Look at the stored answers, or delete them.")

TaskName = Annotated[str, typer.Option(help="Task name or YAML file.")]


def list_things(
    what: Annotated[str, typer.Argument(help="tasks, methods, metrics, engines or models.")],
    as_json: JsonOption = False,
) -> None:
    """List tasks, methods, metrics, engines or models.

    Example: `muse-eval list tasks`
    """
    lists = {
        "tasks": _tasks,
        "methods": _methods,
        "metrics": _metrics,
        "engines": _engines,
        "models": _models,
    }
    if what not in lists:
        raise unknown_name("list", what, lists)
    lines = lists[what]()
    if as_json:
        print(json.dumps(lines, indent=2, ensure_ascii=False))
        return
    _print_columns(lines)


def _print_columns(lines: list[dict[str, str]]) -> None:
    widths = {key: max(len(line[key]) for line in lines) for key in lines[0]}
    for line in lines:
        print("  ".join(line[key].ljust(width) for key, width in widths.items()).rstrip())


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
        {"name": name, "loss": loss, "retain term": terms[term]}
        for name in plugins.method_names()
        for loss, term in [plugins.split_method(name)]
    ]


def _metrics() -> list[dict[str, str]]:
    from muse_eval import plugins

    found = {name: plugins.metric(name) for name in plugins.metric_names()}
    return [
        {"name": name, "goal": metric.goal, "splits": " ".join(metric.roles)}
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


def _open(task: str, data_dir: Path | None) -> Any:
    from muse_eval import plugins
    from muse_eval.data import open_data

    spec = plugins.task(task)
    return spec, open_data(spec, data_dir)


def _names(data: Any, data_dir: Path | None) -> list[str]:
    names: list[str] = data.names()
    if not names:
        where = "the task's source" if data_dir is None else f"--data-dir {data_dir}"
        raise UserError(f"{where} has no split at all; give a folder in the layout of MUSE's loader")
    return names


@data_app.command()
def show(
    task: TaskName,
    data_dir: DataOption = None,
    split: Annotated[str | None, typer.Option(help="Print this split's rows as JSON lines.")] = None,
) -> None:
    """List a task's splits, or print one.

    Example: `muse-eval data show --task muse_mini --split knowmem/forget_qa`
    """
    spec, data = _open(task, data_dir)
    if split is not None:
        for row in data.split(split).rows:
            print(json.dumps(dict(row), ensure_ascii=False))
        return
    scored = {name for column in spec.columns.values() for name in column.splits.values()}
    folds = spec.folds.forget if spec.folds else []
    lines = []
    for name in _names(data, data_dir):
        found = data.split(name)
        lines.append(
            {
                "split": name,
                "rows": f"{len(found.rows)} rows",
                "bytes": f"{found.fingerprint.num_bytes} bytes",
                "sha256": found.sha256[:12],
                "use": "scored" if name in scored else "fold" if name in folds else "",
            }
        )
    _print_columns(lines)


@data_app.command()
def verify(task: TaskName, data_dir: DataOption = None) -> None:
    """Compare a task's data with its published fingerprints: exit 0 all there, 1 something differs.

    A split that is neither scored nor a fold to forget may be missing.

    Example: `muse-eval data verify --task muse_news --data-dir data/news`
    """
    from muse_eval.data import verify as compare

    spec, data = _open(task, data_dir)
    verdicts = compare(spec, data)
    for verdict in verdicts:
        found, expected = verdict.found, verdict.expected
        sizes = "" if found is None else f"{found.rows} rows, {found.num_bytes} bytes"
        wanted = ""
        if verdict.status == "differs" and expected is not None:
            wanted = f" (expected {expected.rows} rows, {expected.num_bytes} bytes)"
        print(f"{verdict.split}: {verdict.status} {sizes}{wanted}".rstrip())
    wrong = [
        v for v in verdicts if v.status == "differs" or (v.status == "missing" and v.split in spec.needed)
    ]
    if wrong:
        raise typer.Exit(1)


@data_app.command()
def export(
    task: TaskName,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    data_dir: DataOption = None,
) -> None:
    """Write a task's splits as JSON, in the layout that `--data-dir` reads.

    Example: `muse-eval data export --task muse_mini --out data/mini`
    """
    from muse_eval.data import export as write

    _, data = _open(task, data_dir)
    written = write(data, _names(data, data_dir), out)
    print(f"{out}: {len(written)} splits")


@cache_app.command()
def info(results: ResultsOption = Path("results")) -> None:
    """List the stored answers by engine.

    Example: `muse-eval cache info`
    """
    from muse_eval.store import cache_info

    entries = cache_info(results / "cache", warn)
    for entry in entries:
        print(f"{entry.folder}: {entry.answers} answers, {entry.num_bytes / 1e6:.1f} MB, {entry.engine}")
    print(f"{len(entries)} engines, {sum(entry.num_bytes for entry in entries) / 1e6:.1f} MB")


@cache_app.command()
def clear(results: ResultsOption = Path("results")) -> None:
    """Delete the stored answers; results stay.

    Example: `muse-eval cache clear`
    """
    from muse_eval.store import cache_clear

    print(f"freed {cache_clear(results / 'cache') / 1e6:.1f} MB")
