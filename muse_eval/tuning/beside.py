"""Target's and retrain's stored runs, which a tune's trials are judged by as any other run is."""

from collections.abc import Mapping
from pathlib import Path

from muse_eval.results import CorruptResult, StoredResult, load, part, run_folder
from muse_eval.results.whole import fault


def stored_references(results: Path, task: str, weights: Mapping[str, str]) -> dict[str, StoredResult]:
    """Return the stored runs of target and retrain model, those that are there and of all examples.

    Args:
        results: the results folder.
        task: the task's name.
        weights: ``target`` and ``retrain`` to the digest of the weights that the tune has for them; a run of
            others is left out.
    """
    found = {}
    for name, digest in weights.items():
        try:
            run = load(run_folder(results, task, name))
        except CorruptResult:
            continue
        if run is None or fault(run) or run.config.get("limit") is not None:
            continue
        if part(run.config, "model").get("weights") == digest:
            found[name] = run
    return found
