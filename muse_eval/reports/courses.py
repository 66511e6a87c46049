"""How runs went: the epochs of each unlearning and the forget sets of a task, as they lie on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterator

from muse_eval.reports.chosen import Chosen
from muse_eval.reports.pictures import Picture
from muse_eval.results import REFERENCES, CorruptResult, StoredResult, Trajectory, collect, load, part
from muse_eval.results.figures import draw_forget_sets, draw_trajectories
from muse_eval.results.selection import Selection

EPOCHS = "epochs"


def courses(chosen: Chosen) -> Iterator[Picture]:
    """Yield a picture of the trajectories and one of the forget sets, where they were scored."""
    if not set(REFERENCES) <= chosen.runs.keys():
        return
    went = [one for name in chosen.unlearned if (one := trajectory(chosen, name)) is not None]
    if went:
        said = "Each column after every epoch, the target's at 0. A ring is the epoch that counts."
        yield Picture(
            "epochs", "Over the epochs", said, draw_trajectories(went, chosen.title, list(chosen.runs))
        )
    if (spec := chosen.spec) is not None and spec.forget_sets is not None:
        # Another training seed's runs have a table of their own.
        first = [one for name, one in chosen.runs.items() if not re.search(r"-seed\d+", name)]
        runs = collect(spec, first)
        if runs.methods:
            said = "Each column after forget sets that grow, or that are forgotten one after the other."
            yield Picture(runs.file, runs.file.capitalize(), said, draw_forget_sets(runs))


def trajectory(chosen: Chosen, name: str) -> Trajectory | None:
    """Return the scored epochs behind a run, from the target on; None where not all of them are there."""
    result = chosen.runs[name]
    made = part(result.config, "made")
    folder = result.folder
    if folder is None or "fold" in made or not (folder / EPOCHS).is_dir():
        return None
    epochs: list[StoredResult] = []
    try:
        while (found := load(folder / EPOCHS / str(len(epochs) + 1))) is not None:
            epochs.append(found)
    except CorruptResult:
        return None
    selected = part(made, "selection")
    if not epochs or any(found.columns.keys() != result.columns.keys() for found in epochs):
        return None
    selection = Selection(
        int(selected.get("epoch", len(epochs))), len(epochs), str(selected.get("rule", "last"))
    )
    start, retrain = chosen.runs["target"], chosen.runs["retrain"]
    return Trajectory(name, chosen.title, start, epochs, retrain, selection, "balance")
