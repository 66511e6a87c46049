"""What one process does: makes a model, or unlearns with a method and scores; what is there stays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from muse_eval import plugins
from muse_eval.api import finetune, unlearn
from muse_eval.config import RunConfig, build
from muse_eval.data.sources import LocalFolder
from muse_eval.results import StoredResult, load, run_folder
from muse_eval.scoring.run import run
from muse_eval.unlearning import cards

METHODS = tuple(f"{loss}{term}" for loss in ("ga", "npo", "simnpo") for term in ("", "_gdr", "_klr"))
METHODS += ("rmu", "task_vector")
"""MUSE's methods and SimNPO, each alone and with both retain terms, RMU and the task vector."""

MADE = "made.json"
"""In the folder of a model that the search left: its settings, steps and seconds."""


RETAIN = ("raw/retain1", "raw/retain2")
Role = Literal["target", "retrain"]


@dataclass(frozen=True)
class Work:
    """What all processes share."""

    task: str
    """Name of a task, or its YAML file."""
    model: str
    """The base model."""
    home: Path
    """Where everything goes."""
    data_dir: Path | None
    """The data, where they are not the task's own."""
    dtype: str
    """Of training."""
    methods: Mapping[str, Mapping[str, Any]]
    """Method to the options of ``api.unlearn`` that differ from the task's."""

    def made(self, name: str) -> Path:
        """Return the folder of a model."""
        return self.home / "models" / name

    def searched(self, name: str) -> Path:
        """Return the folder of the model that the search left of a method."""
        return self.home / "search" / "models" / name

    def unlearned(self, name: str) -> Path:
        """Return the folder of a method's model: what the search left, where the settings are the same."""
        found = self.searched(name)
        same = (cards.read_json(found / MADE) or {}).get("settings") == dict(self.methods.get(name, {}))
        return found if same else self.made(name)

    @property
    def results(self) -> Path:
        """The folder of results."""
        return self.home / "results"

    def stored(self, name: str) -> StoredResult:
        """Return the scores of a model."""
        found = load(run_folder(self.results, plugins.task(self.task).name, name))
        assert found is not None
        return found


def tell(line: str) -> None:
    """Print a line at once, in one piece whoever else prints."""
    print(f"{line}\n", end="", flush=True)


def reads(work: Work, role: Role) -> tuple[str, ...]:
    """Return the splits that a model reads: the task's, or the same texts where a folder has no ``train``."""
    found = plugins.task(work.task).reads(role)
    there = found if work.data_dir is None else LocalFolder(work.data_dir).names()
    if set(found) <= set(there):
        return tuple(found)
    return ("raw/forget", *RETAIN) if role == "target" else RETAIN


def make(work: Work, role: Role) -> None:
    """Fine-tune the target or the retrain model from the base model."""
    out = finetune(
        work.model,
        work.task,
        role,
        work.made(role),
        reads=reads(work, role),
        data_dir=work.data_dir,
        dtype=work.dtype,
    )
    card = cards.read_card(out)
    tell(f"{role}: {card['steps']} steps, {card['seconds'] / 60:.1f} minutes")


def score(
    work: Work, model: Path, name: str, columns: Sequence[str] = (), folder: Path | None = None
) -> StoredResult:
    """Score a model, unless the very same result is there; ``columns`` empty: all of the task's."""
    config: RunConfig = build(
        RunConfig,
        "reproduce-small",
        model=str(model),
        task=work.task,
        retrain=str(work.made("retrain")),
        name=name,
        data_dir=work.data_dir,
        metrics=tuple(columns),
        results=work.results,
        # The search's own folders; another search's scores may be there.
        overwrite=folder is not None,
    )
    found = load(run(config, reuse=True, folder=folder, warn=tell).folder)
    assert found is not None
    return found


def reference(work: Work, role: str) -> None:
    """Score target or retrain model."""
    _tell_scores(role, score(work, work.made(role), role))


def method(work: Work, name: str) -> None:
    """Unlearn the target with a method's settings, and score the result."""
    out = work.unlearned(name)
    if out != work.searched(name):
        unlearn(
            work.made("target"),
            work.task,
            name,
            out,
            data_dir=work.data_dir,
            dtype=work.dtype,
            **work.methods.get(name, {}),
        )
    _tell_scores(name, score(work, out, name))


def _tell_scores(name: str, found: StoredResult) -> None:
    values = (f"{key} {'n/a' if c.value is None else f'{c.value:.1f}'}" for key, c in found.columns.items())
    tell(f"{name}: {', '.join(values)}")
