"""Probing as Python calls it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from muse_eval.config import build
from muse_eval.probing.config import ProbeConfig
from muse_eval.probing.verb import Probed
from muse_eval.probing.verb import probe as _probe
from muse_eval.progress import shown
from muse_eval.types import Log, Note, Progress, Stage, Warn, ignore


def probe(
    model: str | Path,
    task: str | None = None,
    *,
    retrain: str | Path | None = None,
    target: str | Path | None = None,
    probes: Sequence[str] = (),
    budget: Literal["quick", "paper"] = "quick",
    progress: Progress | None = None,
    stage: Stage = ignore,
    log: Log = ignore,
    warn: Warn = ignore,
    note: Note = ignore,
    tell: Note = ignore,
    **options: Any,
) -> Probed:
    """Put an unlearned model and its controls to probes, and tell what comes back.

    Args:
        model: the model that is doubted: a hub id or a folder.
        task: name of a task or a YAML file; None: read off the model.
        retrain: the control that never saw the forget set; None: the task's own; ``none``: no model, and
            then nothing can be concluded.
        target: the control that was never unlearned; None: the task's own; ``none``: no model.
        probes: ``relearn``, ``quantize`` … (``plugins.probe_names()``); empty: all that can run here.
        budget: ``paper``: the published protocols; ``quick``: smaller ones.
        progress: told of every step and batch; None: bars on a terminal or in a notebook.
        stage: told of each stage as it begins.
        log: told of every optimiser step's line.
        warn: told, in one line, of what is odd but not fatal.
        note: told, in one line, what was decided.
        tell: told, in one line, what there is to do and how long it will take.
        options: any other field of ``probing.ProbeConfig``: ``texts``, ``metrics``, ``data_dir`` …

    Raises:
        UserError: something that the caller can mend, in one line; what is finished stays.

    Example:
        ``[(one.probe, one.verdict) for one in probe("unlearned", "muse_mini").courses]``
    """
    several = (probes,) if isinstance(probes, str) else tuple(probes)
    controls = {
        name: None if one is None else str(one) for name, one in (("retrain", retrain), ("target", target))
    }
    config = build(
        ProbeConfig,
        "probe",
        model=str(model),
        task=task,
        probes=several,
        budget=budget,
        **controls,
        **options,
    )
    with shown(progress) as told:
        return _probe(config, stage=stage, progress=told, log=log, warn=warn, note=note, tell=tell)
