"""What a training comes to on this machine: what is left open is settled, what cannot fit is refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from muse_eval.unlearning import cards
from muse_eval.unlearning.recipe import UnlearnConfig
from muse_eval.unlearning.training import disk, fitting, output, processes, release
from muse_eval.unlearning.training.feasible import check_feasible
from muse_eval.unlearning.training.fitting import Room
from muse_eval.unlearning.training.memory import Sizes
from muse_eval.unlearning.training.sizing import sizes_of, skeleton
from muse_eval.unlearning.training.start import Start


@dataclass(frozen=True)
class Plan:
    """A training as it will be carried out, and what it takes."""

    config: UnlearnConfig
    """Nothing left open; ``dtype`` is what it comes to here."""
    sizes: Sizes | None
    """Of the target; None where they cannot be told before it is loaded: then nothing is reckoned."""
    room: Room
    longest: int
    """Tokens of a row at the most."""
    folder: Path
    """The partial folder."""
    keep_checkpoints: bool

    @property
    def disk(self) -> int:
        """Bytes that the output folder takes at its fullest."""
        saves = len(self.config.stops) or self.config.epochs
        return disk.most(self.config, self.sizes, saves, self.keep_checkpoints) if self.sizes else 0

    def check(self, note: Callable[[str], None] | None) -> None:
        """Refuse what memory or disk cannot hold; say where memory may run out.

        Raises:
            UserError: the very least that it takes is not there, or what was chosen when it was begun no
                longer goes.
        """
        check_feasible(self.config)
        if self.sizes is None:
            return
        warning = fitting.check(self.config, self.sizes, self.room, self.longest)
        if note and warning:
            note(warning)
        disk.check(self.disk, self.folder)

    def keep(self) -> None:
        """Write down how memory is saved, so that a run that goes on does it in the same way."""
        if self.room.on_gpu:
            kept = {name: getattr(self.config, name) for name in fitting.SAVED}
            cards.write_json(self.folder / output.MEMORY, kept)

    def told(self) -> tuple[str, ...]:
        """Say what was chosen and what memory it is reckoned to take (on a GPU), and what disk."""
        said = fitting.said(self.config, self.sizes, self.room, self.longest), disk.told(self.disk)
        return tuple(one for one in said if one)


def room_of(args: TrainingArguments, model: PreTrainedModel | None) -> Room:
    """Return the memory for a training: that of the device that has the least. All processes have to ask."""
    release.empty_device()
    free = processes.least(fitting.free_memory(args.device, model))
    return Room(free, args.device.type == "cuda", args.world_size, processes.is_sharded())


def settle(
    config: UnlearnConfig, start: Start, room: Room, out: Path, texts: Sequence[str], keep: bool, anew: bool
) -> Plan:
    """Settle what a config leaves open: as it was when ``out`` was made or begun, else by what fits.

    Args:
        config: what was asked for, its ``dtype`` as it comes to here.
        start: the target.
        room: the memory there is.
        out: the folder to make.
        texts: all that is trained on.
        keep: whether each checkpoint leaves its model.
        anew: whether what is there is made again, so that nothing of it is kept to.
    """
    model, longest = skeleton(start, config), fitting.longest_row(config, texts)
    sizes = sizes_of(model, config) if model is not None else None
    if not anew:
        config = fitting.fill_in(config, fitting.former(out, config.batch_size // room.processes))
    chosen = fitting.choose(config, sizes, room, longest)
    return Plan(chosen, sizes, room, longest, output.partial(out), keep)
