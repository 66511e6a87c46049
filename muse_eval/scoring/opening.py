"""Opens the engine that a run is scored by: the one that was chosen, or that its stored run was scored by."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from muse_eval.config import RunConfig
from muse_eval.engines import ModelSource, like, open_engine
from muse_eval.results import part, runs
from muse_eval.scoring import identity
from muse_eval.scoring.plan import Plan
from muse_eval.types import Engine, Note, Progress, Warn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


class Opened(NamedTuple):
    """An open engine, and the run that it is for."""

    engine: Engine
    name: str
    folder: Path
    there: runs.StoredResult | None
    """What is stored of that run already."""


def open_model(
    config: RunConfig,
    planned: Plan,
    folder: Path | None,
    *,
    loaded: "Loaded | None",
    progress: Progress,
    note: Note,
    warn: Warn,
) -> Opened:
    """Open the model of a run.

    Args:
        config: what to score, and how.
        planned: what will be asked, and the engine that was chosen.
        folder: where the result goes; None: ``runs/<task>/<name>`` in the results folder.
        loaded: a model and its tokenizer in memory, instead of ``config.model``.
        progress: told of every finished batch.
        note: told, in one line, what the engine decided.
        warn: told of a stored run that cannot be read.

    Raises:
        UserError: there is no such model, or it cannot be scored, or its name is no folder's.
    """
    if config.name is not None:
        runs.run_folder(config.results, planned.task.name, config.name)
    opened = partial(
        open_engine,
        source=source(config, planned),
        asks=planned.requests(),
        loaded=loaded,
        progress=progress,
    )
    told = _Held(note)
    engine = opened(planned.engine, note=told)
    name = config.name or str(engine.provenance["model"]).rsplit("/", 1)[-1]
    folder = folder or runs.run_folder(config.results, planned.task.name, name)
    there = identity.stored(folder, warn)
    before = part(there.provenance, "engine").get("engine") if there and not config.overwrite else None
    choice = like(planned.engine, str(before))
    if before != engine.provenance["engine"] and choice is not planned.engine:
        engine = opened(choice, note=note)
    else:
        told.let_go()
    return Opened(engine, name, folder, there)


def source(config: RunConfig, planned: Plan) -> ModelSource:
    """Return where a run's model comes from."""
    return ModelSource(
        model=config.model,
        tokenizer=config.tokenizer,
        fallbacks=planned.task.tokenizers,
        dtype=config.dtype,
        allow_pickle=config.allow_pickle,
        trust_remote_code=config.trust_remote_code,
        base_url=config.base_url,
        api_key_env=config.api_key_env,
        revision=config.model_revision,
        memory=config.cache_folder,
    )


class _Held:
    """Keeps an engine's lines back until it is settled that the engine stays."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._lines: list[str] | None = []

    def __call__(self, line: str) -> None:
        if self._lines is None:
            self._note(line)
        else:
            self._lines.append(line)

    def let_go(self) -> None:
        """Tell what was said so far, and from now on all at once."""
        lines, self._lines = self._lines or [], None
        for line in lines:
            self._note(line)
