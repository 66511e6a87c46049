"""The reference model's log-probabilities: taken once, before the first step, and kept on disk.

They are those of the target before unlearning, so no second model is held in memory, and a run that goes on
later reads back the very same numbers instead of computing them again.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from accelerate.utils import broadcast_object_list, gather_object
from transformers import Trainer, TrainerCallback

from muse_eval.errors import UserError
from muse_eval.unlearning import cards, rows
from muse_eval.unlearning.training import output


class Referring(Protocol):
    """A trainer that can score rows with the weights as they are now."""

    def reference(self, some: Sequence[rows.Row], prompts: Sequence[int] = ()) -> list[float]:
        """Return log π(y|x) of each row, in nats; ``prompts`` as in ``rows.pad``."""


class TakeReference(TrainerCallback):
    """Fills in ``Pairs.reference`` as training begins: then the model is where it will be trained.

    (Sharded over GPUs, it can be run no earlier.)
    """

    def __init__(self, trainer: Trainer, folder: Path):
        self.trainer, self.folder = trainer, folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Read the log-probabilities back, or take and keep them."""
        pairs = cast(rows.Pairs, self.trainer.train_dataset)
        pairs.reference = {
            name: kept_logps(self.trainer, self.folder, name, of, pairs.prompts)
            for name, of in {"forget": pairs.forget, "refusal": pairs.refusal}.items()
            if of
        }


def kept_logps(
    trainer: Trainer, folder: Path, name: str, of: Sequence[rows.Row], prompts: Sequence[int]
) -> list[float]:
    """Return log π(y|x) of rows under the target, from ``reference.json`` where it has them.

    Args:
        trainer: a ``Referring``, before its first step unless the file is there.
        folder: the partial folder; its recipe decides the rows, so a name is enough to tell them apart.
        name: what the rows are.
        of: the rows.
        prompts: how many of each row's first tokens are no targets; empty: none.

    Raises:
        UserError: the file does not have them, and the model is no longer the target.
    """
    main, path = trainer.args.process_index == 0, folder / output.REFERENCE
    known: list[Any] = [(cards.read_json(path) or {}) if main else None]
    broadcast_object_list(known)
    kept: dict[str, list[float]] = known[0]
    if not _are_logps(kept.get(name), len(of)):
        if trainer.state.global_step:
            raise UserError(
                f"{path} no longer holds the target's log-probabilities, and the model is half unlearned; "
                "--overwrite begins anew"
            )
        kept[name] = shared_logps(trainer, of, prompts)
        if main:
            cards.write_json(path, kept)
    return kept[name]


def _are_logps(kept: Any, count: int) -> bool:
    """Tell whether what was kept is a finite number for each row."""
    return (
        isinstance(kept, list)
        and len(kept) == count
        and all(isinstance(one, float) and math.isfinite(one) for one in kept)
    )


def shared_logps(trainer: Trainer, of: Sequence[rows.Row], prompts: Sequence[int]) -> list[float]:
    """Take the log-probabilities of rows, each process those of its share, and put them together.

    The shares are of one size: the processes of a sharded model have to run it equally often.
    """
    count, size = trainer.args.world_size, -(-len(of) // trainer.args.world_size)
    first = trainer.args.process_index * size
    share = [index % len(of) for index in range(first, first + size)]
    heads = [prompts[index] for index in share] if prompts else []
    found: list[float] = gather_object(
        cast(Referring, trainer).reference([of[index] for index in share], heads)
    )
    assert len(found) == count * size
    return found[: len(of)]
