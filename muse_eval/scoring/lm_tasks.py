"""Tasks of lm-eval, found and looked at before anything is scored, through lm-eval's own API."""

import difflib
import importlib.util
import json
import logging
import random
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from muse_eval.errors import UserError, first_line
from muse_eval.printable import one_line
from muse_eval.reading import read_text

PACKAGE = "lm_eval"
FEWSHOT_SEED = 1234
"""Chooses few-shot examples; lm-eval's own."""
PLACES = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata", "tag", "task_alias", "group")
"""Keys of a task that say where its data and its file lie, or how it is called; the data have a digest."""


@dataclass(frozen=True)
class LmTask:
    """A task or a group of lm-eval's whose score is a mean over questions."""

    name: str
    metric: str
    filter: str
    """Which of the task's readings of a response the metric is of; ``none`` where there is but one."""
    version: str
    asked: str
    """Digest of how it asks and of its data."""
    loaded: Mapping[str, Any]
    """As ``TaskManager.load`` returns it, with this task alone or the group's."""


def version() -> str:
    """Return the version of lm-eval installed here.

    Raises:
        UserError: there is none.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(
            "--utility needs lm-eval, not installed here: in the checkout, pip install '.[lm-eval]'"
        )
    return metadata.version(PACKAGE)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's log, bars and warnings from the terminal; seed as it does, and put back every seed."""
    import numpy as np
    import torch
    from tqdm import tqdm

    begin, silenced = tqdm.__init__, logging.root.manager.disable
    states = random.getstate(), np.random.get_state()

    def without_bar(bar: Any, *args: Any, **options: Any) -> None:
        begin(bar, *args, **{**options, "disable": True})

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        tqdm.__init__ = without_bar
        random.seed(0)
        np.random.seed(FEWSHOT_SEED)
        torch.manual_seed(FEWSHOT_SEED)
        try:
            yield
        finally:
            tqdm.__init__ = begin
            logging.disable(silenced)
            random.setstate(states[0])
            np.random.set_state(states[1])


def find(wanted: Iterable[str], limit: int | None) -> list[LmTask]:
    """Return lm-eval's tasks of these names, their data read.

    Args:
        wanted: names of its tasks, groups and tags; or YAML files and folders of one's own.
        limit: only so many questions of each task are asked.

    Raises:
        UserError: there is no such task, its data cannot be read, or its score is no mean over questions.
    """
    version()
    found: dict[str, LmTask] = {}
    with quiet():
        for name, manager in _managers(list(wanted)):
            for one in _split(_load(manager, name), name):
                task = _looked_at(one, limit)
                if task.name in found:
                    raise UserError(f"--utility names {one_line(task.name)} twice")
                found[task.name] = task
    return list(found.values())


def _managers(wanted: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield what is to be loaded and what knows it; only for a name all of lm-eval's tasks are listed."""
    from lm_eval.tasks import TaskManager

    for name in wanted:
        path = Path(name)
        if path.is_dir():
            manager = TaskManager(include_path=path, include_defaults=False)
            if not manager.all_subtasks:
                raise UserError(f"--utility {one_line(name)}: the folder holds no task of lm-eval (*.yaml)")
            yield from ((task, manager) for task in manager.all_subtasks)
        elif path.suffix == ".yaml":
            text = read_text(path, "--utility")
            group = re.search(r"^group:\s*['\"]?([^'\"\n]+?)['\"]?\s*$", text, re.MULTILINE)
            # A group's tasks are told by name, and lie beside it.
            beside = path.parent if group else None
            yield (
                group[1] if group else str(path),
                TaskManager(include_path=beside, include_defaults=False),
            )
        else:
            own = _lm_evals_own()
            if name not in own.all_tasks:
                raise _unknown(name, own.all_tasks)
            yield name, own


@cache
def _lm_evals_own() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _unknown(name: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(
        f"--utility {one_line(name)}: lm-eval has no such task; {hint}all of them: lm-eval ls tasks; "
        "a task of one's own is a YAML file or a folder of them"
    )


def _load(manager: Any, name: str) -> dict[str, Any]:
    try:
        return dict(manager.load([name]))
    except Exception as error:  # noqa: BLE001 - a task is foreign code that reads foreign data
        raise UserError(
            f"--utility {one_line(name)}: lm-eval cannot read it ({one_line(first_line(error))})"
        ) from None


def _split(loaded: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return each column's share of what was loaded: a group that has a score of its own, else each task."""
    tasks, groups = dict(loaded["tasks"]), dict(loaded.get("groups", {}))
    inner = {child for children in loaded.get("group_map", {}).values() for child in children}
    scored = [one for key, one in groups.items() if key not in inner and one.has_aggregation]
    if len(groups) == 0 or not scored:
        return [{"tasks": {key: task}, "groups": {}, "group_map": {}} for key, task in tasks.items()]
    if len(scored) > 1:
        raise UserError(f"--utility {one_line(name)}: several groups at once; name them one by one")
    return [{**loaded, "top": scored[0]}]


def _looked_at(loaded: dict[str, Any], limit: int | None) -> LmTask:
    group = loaded.pop("top", None)
    tasks = list(loaded["tasks"].values())
    for task in tasks:
        # As simple_evaluate does.
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    name = str(group.name if group else tasks[0].config.task)
    if not name.isprintable() or not name.strip():
        raise UserError(f"--utility: lm-eval's task {name!r} cannot name a column")
    metric, filtered = _of_group(group) if group else _metric(tasks[0])
    return LmTask(
        name,
        metric,
        filtered,
        str(group.version if group else tasks[0].VERSION),
        _digest(name, tasks, limit),
        loaded,
    )


def _metric(task: Any) -> tuple[str, str]:
    """Return the metric that a task is read by: ``acc``, else its first that is a mean and better higher."""
    from lm_eval.api.metrics import mean

    higher = task.higher_is_better()
    means = [name for name, how in task.aggregation().items() if how is mean and higher.get(name)]
    if not means:
        raise UserError(
            f"--utility {one_line(str(task.config.task))}: none of its scores is a mean over questions "
            "that is better higher"
        )
    filters = [one["name"] for one in task.get_config("filter_list") or ()]
    return "acc" if "acc" in means else means[0], str(filters[0]) if filters else "none"


def _of_group(group: Any) -> tuple[str, str]:
    known = [one for one in group.aggregate_metric_list if one.aggregation == "mean" and one.weight_by_size]
    if not known:
        raise UserError(
            f"--utility {one_line(group.name)}: the group's score is no mean over questions; name its tasks"
        )
    filters = known[0].filter_list or ["none"]
    return str(known[0].metric), str(filters[0])


def _digest(name: str, tasks: Iterable[Any], limit: int | None) -> str:
    """Return the SHA-256 over how tasks ask, wherever their files lie, and over the rows that they read."""
    digest = sha256()

    def add(what: Any) -> None:
        text = json.dumps(what, sort_keys=True, default=repr)
        digest.update(f"{re.sub(r' at 0x[0-9a-f]+', '', text)}\n".encode())

    try:
        for task in tasks:
            add({key: value for key, value in task.dump_config().items() if key not in PLACES})
            for row in islice(task.eval_docs, limit):
                add(row)
            for row in task.fewshot_docs() if task.get_config("num_fewshot") else ():
                add(row)
    except Exception as error:  # noqa: BLE001 - a task is foreign code that reads foreign data
        raise UserError(
            f"--utility {one_line(name)}: its data will not do ({one_line(first_line(error))})"
        ) from None
    return digest.hexdigest()
