"""The Python interface: score a model, make an unlearned one, or the models to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muse_eval.config import RunConfig, build
from muse_eval.errors import UserError
from muse_eval.scoring.run import run
from muse_eval.types import Progress, Result, Warn, ignore
from muse_eval.unlearning.on_task import finetune, unlearn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def evaluate(
    model: str | Path | PreTrainedModel,
    task: str | None = None,
    *,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    retrain: str | Path | None = None,
    metrics: Sequence[str] = (),
    progress: Progress = ignore,
    warn: Warn = ignore,
    **options: Any,
) -> Result:
    """Score a model on a task and return the result, which is also written to the results folder.

    Args:
        model: a hub id, a folder, or a loaded transformers model (which needs ``tokenizer`` and ``task``;
            its identity is a digest of its parameters).
        task: name of a task or a YAML file; None: read off the model's card, recipe or name.
        tokenizer: a folder or hub id, or beside a loaded model a loaded tokenizer; None: the model's own,
            else the task's.
        retrain: the model whose AUC PrivLeak is relative to; None: the pipeline's where it belongs to the
            model, else the task's published AUC; ``none``: no model.
        metrics: columns to score; empty: all.
        progress: told of every finished batch.
        warn: told, in one line, of what is odd but not fatal.
        options: any other field of ``config.RunConfig``: ``data_dir``, ``dtype``, ``limit``, ``results`` …

    Raises:
        UserError: something that the caller can mend, in one line.
    """
    loaded = None
    if not isinstance(model, str | Path):
        if isinstance(tokenizer, str | Path):
            raise UserError(
                f"a loaded model needs a loaded tokenizer beside it, not the name {str(tokenizer)!r}"
            )
        if tokenizer is None or task is None:
            raise UserError("a loaded model needs a task and a loaded tokenizer beside it")
        loaded = (model, tokenizer)
        options.setdefault("name", Path(model.config.name_or_path or type(model).__name__).name)
    elif tokenizer is not None and not isinstance(tokenizer, str | Path):
        raise UserError("a loaded tokenizer goes with a loaded model; give the folder or hub id of one")
    config: RunConfig = build(
        RunConfig,
        "evaluate",
        model=str(model) if loaded is None else "loaded model",
        task=task,
        tokenizer=str(tokenizer) if isinstance(tokenizer, str | Path) else None,
        retrain=None if retrain is None else str(retrain),
        metrics=tuple(metrics),
        **options,
    )
    result = run(config, loaded=loaded, progress=progress, warn=warn).result
    assert result is not None
    return result


__all__ = ["evaluate", "finetune", "unlearn"]
