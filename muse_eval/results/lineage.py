"""How a model was made: by which recipe, to which epoch, from which forget set, by which probe."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from muse_eval.config import fingerprint
from muse_eval.results.selection import Selection, explain


@dataclass(frozen=True)
class ForgetSet:
    """One of a task's several forget sets, forgotten by a method."""

    method: str
    split: str
    number: int
    """Counted from 1."""
    of: int
    mode: str
    """``nested`` or ``sequential``, as in ``config.ForgetSetsSpec``."""
    texts: int
    """Rows of the split."""
    tokens: int | None
    """Tokens of the rows trained on, an epoch; None where the method's recipe does not count them."""


@dataclass(frozen=True)
class Epoch:
    """The place of a checkpoint in its trajectory."""

    number: int
    """Counted from 1."""
    of: int


NOW = "now"
"""The strength of a model that a probe compares with: as it was before."""


@dataclass(frozen=True)
class Probing:
    """What a probe did, to a model or to its questions."""

    name: str
    """The probe's; empty of the model as it was before all probes."""
    strength: str
    """As the probe names it: ``25``, ``int8``; ``now`` of the model as it was before."""
    place: int
    """From the weakest on, counted from 1; 0 before."""
    says: str
    """The strength in words: ``after 25 steps``."""
    of: str
    """The probed model's name; the controls are ``target`` and ``retrain``."""
    params: Mapping[str, Any]
    """The probe's parameters."""
    done: str = ""
    """Fingerprint of all that the probe did: texts, rates, precision, code, not the model; empty before."""
    start: str = ""
    """``start_of`` the model before all probes; empty of itself."""
    strengths: Sequence[str] = ()
    """All strengths that were to be scored; none before."""


@dataclass(frozen=True)
class Lineage:
    """How a model was made, beyond the method that its run is named after."""

    recipe: str
    """Fingerprint of the unlearning's recipe (``unlearn.json``)."""
    forget_set: ForgetSet | None = None
    epoch: Epoch | None = None
    """Of a checkpoint that is scored for the trajectory."""
    selection: Selection | None = None
    """Of the run named after the method; None where no trajectory was scored to select from."""
    probing: Probing | None = None
    """Of a model under a probe."""

    def settings(self) -> dict[str, Any]:
        """Return what of it is part of a run's settings."""
        parts = {
            "fold": self.forget_set,
            "epoch": self.epoch,
            "selection": self.selection,
            "probing": self.probing,
        }
        known: dict[str, Any] = {name: asdict(part) for name, part in parts.items() if part is not None}
        return {**known, "recipe": self.recipe}

    def notes(self) -> dict[str, str]:
        """Return what the run's row has to be read with: its forget set, the epoch selected."""
        found = {}
        if self.forget_set is not None:
            forget_set = self.forget_set
            alone = forget_set.mode == "nested" or forget_set.number == 1
            start = "from the target" if alone else "from the model that forgot the fold before"
            found["fold"] = (
                f"forgets {forget_set.split}, fold {forget_set.number} of {forget_set.of}, {start}"
            )
        if self.selection is not None and self.selection.rule != "last":
            found["selection"] = explain(self.selection)
        if self.probing is not None and self.probing.name:
            found["probing"] = f"{self.probing.of} under the probe {self.probing.name}, {self.probing.says}"
        return found


def reselected(stored: Mapping[str, Any], settings: Mapping[str, Any], recipe: str) -> bool:
    """Tell whether a run only scores another checkpoint of the unlearning behind a stored one.

    Args:
        stored: the settings of the run that is there.
        settings: those of the run that is to take its place.
        recipe: the fingerprint of the unlearning behind the new run.
    """
    same_recipe = part(stored, "made").get("recipe") == recipe
    return same_recipe and but_the_checkpoint(stored) == but_the_checkpoint(settings)


def but_the_checkpoint(config: Mapping[str, Any]) -> str:
    """Return the fingerprint of a run's settings but for what tells an unlearning's checkpoints apart."""
    rest = {key: value for key, value in config.items() if key != "fingerprint"}
    model = {key: value for key, value in part(config, "model").items() if key != "weights"}
    return fingerprint({**rest, "model": model, "made": {"fold": part(config, "made").get("fold")}})


def start_of(config: Mapping[str, Any]) -> str:
    """Return the fingerprint of the weights and tokenizer behind a run."""
    model = part(config, "model")
    return fingerprint([model.get("weights"), model.get("tokenizer")])


def part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a mapping inside another; empty where there is none."""
    found = config.get(key)
    return found if isinstance(found, dict) else {}
