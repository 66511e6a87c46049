"""The search for each method's settings: as little unlearning as brings VerbMem down to retrain's.

A method's trials are tried one after the other, from weak to strong, each for all its epochs; VerbMem Df is
taken after every epoch. The first epoch at or below retrain's VerbMem Df is chosen, nothing more is tried;
where none comes so low, the one with the lowest. It is MUSE's published stopping rule (the first epoch whose
KnowMem Df is at or below retrain's) on the column in which a model this small differs. The prompts are those
that are scored later, so the chosen settings' VerbMem Df is optimistic.
"""

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.small.work import MADE, Work, score, tell
from muse_eval import plugins
from muse_eval.api import unlearn
from muse_eval.errors import UserError
from muse_eval.pipelines.epochs import models_by_epoch
from muse_eval.unlearning import cards
from muse_eval.unlearning.training import output

COLUMN = "verbmem_f"


@dataclass(frozen=True)
class Tried:
    """One setting and what came of it."""

    method: str
    trial: int
    """Counted from 1."""
    options: dict[str, Any]
    """Of ``api.unlearn``, beside the epochs."""
    epochs: int
    value: float | None
    """VerbMem Df; None where training failed."""
    retrain: float

    @property
    def enough(self) -> bool:
        """Whether it came down to retrain's."""
        return self.value is not None and self.value <= self.retrain


def trials(method: str, kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """Return what is tried for a method: what stands under its name, its retain term's, or ``default``."""
    _, _, term = method.partition("_")
    found = kinds.get(method) or kinds.get(term)
    return kinds["default"] if found is None else found


def choose(tried: Sequence[Tried]) -> Tried:
    """Return the first that came down to retrain's, else the lowest; the earlier of equals.

    Raises:
        UserError: every one of them failed.
    """
    scored = [one for one in tried if one.value is not None]
    if not scored:
        raise UserError(f"every trial of {tried[0].method} failed")
    first = next((one for one in scored if one.enough), None)
    return first or min(scored, key=lambda one: one.value or 0.0)


def search(work: Work, method: str, trials: Sequence[Mapping[str, Any]], epochs: int) -> list[Tried]:
    """Try a method's settings until one is enough; return all that was tried."""
    retrain = work.stored("retrain").columns[COLUMN].value
    assert retrain is not None
    found: list[Tried] = []
    for number, trial in enumerate(trials, 1):
        options = {name: value for name, value in trial.items() if name != "epochs"}
        found += _trial(work, method, number, options, trial.get("epochs", epochs), retrain)
        if any(one.enough for one in found):
            break
    return found


def _trial(
    work: Work, method: str, number: int, options: Mapping[str, Any], epochs: int, retrain: float
) -> list[Tried]:
    """Unlearn for all epochs and take VerbMem after each; what was tried before is read, not done again.

    The model of the chosen epoch is left where ``work.method`` finds it.
    """
    place = work.home / "search" / f"{method}-{number}"
    note = place.with_suffix(".json")
    asked = {"options": dict(options), "epochs": epochs, "retrain": retrain}
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    if known.get("asked") == asked:
        return [Tried(**one) for one in known["tried"]]
    each = plugins.leaves_epochs(method)
    _drop_other(place, json.dumps(asked))
    try:
        out = unlearn(
            work.made("target"),
            work.task,
            method,
            place,
            data_dir=work.data_dir,
            dtype=work.dtype,
            keep_checkpoints=each,
            **{**options, "epochs": epochs},
        )
    except UserError as error:
        tell(f"{method}, trial {number} failed: {error}")
        found = [Tried(method, number, dict(options), epochs, None, retrain)]
    else:
        found = _score_epochs(work, method, number, options, retrain, out)
        best = choose(found)
        _keep(work, best, models_by_epoch(out)[best.epochs - 1 if each else 0], out)
    note.write_text(json.dumps({"asked": asked, "tried": [asdict(one) for one in found]}), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    return found


def _drop_other(place: Path, asked: str) -> None:
    """Remove what a search with other settings left half done; note what is asked now."""
    note = place.with_suffix(".asked")
    if note.is_file() and note.read_text(encoding="utf-8") != asked:
        for left in (place, output.partial(place)):
            shutil.rmtree(left, ignore_errors=True)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(asked, encoding="utf-8")


def _score_epochs(
    work: Work, method: str, number: int, options: Mapping[str, Any], retrain: float, out: Path
) -> list[Tried]:
    """Take VerbMem after each epoch, until one is enough."""
    found = []
    models = models_by_epoch(out)
    first = 1 if plugins.leaves_epochs(method) else cards.read_card(out)["config"]["epochs"]
    for epoch, model in enumerate(models, first):
        folder = work.home / "search" / "scores" / f"{method}-{number}-{epoch}"
        value = score(work, model, folder.name, (COLUMN,), folder).columns[COLUMN].value
        found.append(Tried(method, number, dict(options), epoch, value, retrain))
        tell(f"{method}, trial {number}, epoch {epoch}: VerbMem Df {value:.1f} (retrain {retrain:.1f})")
        if found[-1].enough:
            break
    return found


def _keep(work: Work, best: Tried, model: Path, out: Path) -> None:
    """Leave a trial's best model as the method's, unless an earlier trial's is better."""
    kept = work.searched(best.method)
    before = cards.read_json(kept / MADE)
    if before and not best.enough and before["value"] <= best.value:
        return
    lines = [line for line in output.read_log(out / output.LOG) if line["epoch"] <= best.epochs]
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(model, kept, ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copy(out / cards.CARD, kept)
    made = {"settings": {**best.options, "epochs": best.epochs}, "value": best.value, "steps": len(lines)}
    cards.write_json(kept / MADE, {**made, "seconds": sum(line["seconds"] for line in lines)})


def to_csv(tried: Sequence[Tried]) -> str:
    """Return a line a setting tried, ``chosen`` marking each method's."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "trial", "lr", "params", "epochs", "verbmem_f", "retrain", "chosen"])
    for method in dict.fromkeys(one.method for one in tried):
        own = [one for one in tried if one.method == method]
        for one in own:
            params = ";".join(f"{name}={value}" for name, value in one.options.get("params", {}).items())
            value = "" if one.value is None else f"{one.value:.2f}"
            mark = "yes" if one is choose(own) else ""
            lr = one.options.get("lr", "")
            writer.writerow([method, one.trial, lr, params, one.epochs, value, f"{one.retrain:.2f}", mark])
    return text.getvalue()


def chosen(tried: Sequence[Tried]) -> dict[str, dict[str, Any]]:
    """Return each method's chosen options of ``api.unlearn``."""
    by_method: dict[str, list[Tried]] = {}
    for one in tried:
        by_method.setdefault(one.method, []).append(one)
    return {
        method: {**best.options, "epochs": best.epochs}
        for method, own in by_method.items()
        for best in [choose(own)]
    }
