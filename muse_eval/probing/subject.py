"""A model under a probe: the task's texts, training with the project's own trainer, changed weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from muse_eval.config import TaskSpec, fingerprint
from muse_eval.data import Data
from muse_eval.errors import UserError
from muse_eval.folders import sync, sync_tree, write_whole, writing
from muse_eval.own_code import code_digest
from muse_eval.plugins import FINETUNE
from muse_eval.reading import read_text
from muse_eval.types import Log, Note, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from muse_eval.unlearning.recipe import UnlearnConfig

KEY = 12
"""Digits of a fingerprint in a folder's name."""
MADE = "reweighed.json"
"""Written last: with it a folder of changed weights is whole."""


@dataclass(frozen=True)
class TaskSubject:
    """A model under a probe, on a task."""

    model: str
    """Folder or hub id."""
    digest: str
    """What tells its weights and tokenizer from any other's."""
    task: TaskSpec
    data: Data
    given: Path | None
    """Texts of the user's, separated by blank lines."""
    home: Path
    """Where altered models lie, each in a folder named after the probe and all that it is made from."""
    probe: str
    means: Mapping[str, Any]
    """How every model is opened and trained, beyond what shapes its weights."""
    progress: Progress
    log: Log
    note: Note

    def texts(self, of: Literal["forget", "retain", "given"]) -> list[str]:
        """Return the task's texts to forget or to keep, or those given."""
        if of == "given" and self.given is not None:
            found = [part for part in read_text(self.given, "file of texts").split("\n\n") if part.strip()]
            if not found:
                raise UserError(f"--texts {self.given} holds no text; give texts, separated by blank lines")
            return found
        names = self.task.forgets if of == "forget" else [self.task.unlearn.retain]
        return [text for name in names for text in self.data.split(name).texts]

    def train(
        self, texts: Sequence[str], stops: Sequence[int], *, lr: float | None, batch_size: int
    ) -> dict[int, Path]:
        """Fine-tune on texts in one training; return the checkpoint after each of some steps."""
        from muse_eval.unlearning.training import output
        from muse_eval.unlearning.training.train import unlearn

        config, shaping = self.training(texts, stops, lr, batch_size)
        made = self._folder(FINETUNE, shaping)
        unlearn(
            config,
            texts,
            [],
            made,
            fallbacks=self.task.tokenizers,
            keep_checkpoints=True,
            progress=self.progress,
            log=self.log,
            note=self.note,
        )
        return {stop: output.checkpoint(made, stop) for stop in stops}

    def training(
        self, texts: Sequence[str], stops: Sequence[int], lr: float | None, batch_size: int
    ) -> tuple[UnlearnConfig, list[Any]]:
        """Return a training's config, and all that shapes its models but the model it starts from."""
        from muse_eval.unlearning.recipe import configure
        from muse_eval.unlearning.training.start import precision

        asked = {
            "lr": lr or self.task.unlearn.lr,
            "batch_size": batch_size,
            "rows": self.task.unlearn.rows,
            "max_len": self.task.unlearn.max_len,
            "seed": self.task.data.seed,
            "stops": tuple(stops),
        }
        config = configure(
            method=FINETUNE, model=self.model, task=self.task.name, epochs=1, **asked, **self.means
        )
        chosen = config.model_dump(mode="json", include=set(asked))
        return config, [list(texts), chosen, precision(config.dtype), code_digest("unlearning")]

    def reweigh(self, label: str, change: Callable[[Tensor], Tensor]) -> Path:
        """Change the weight of every linear layer but the output head; return the model's folder."""
        out = self._folder(label, [])
        if (out / MADE).exists():
            return out
        partial = out.with_name(f"{out.name}.partial")
        with writing(partial):
            for left in (partial, out):
                if left.exists():
                    shutil.rmtree(left)
            partial.mkdir(parents=True)
            self._save_changed(partial, change)
            sync_tree(partial)
            partial.replace(out)
            sync(out.parent)
            write_whole(out / MADE, "{}\n")
        return out

    def _save_changed(self, folder: Path, change: Callable[[Tensor], Tensor]) -> None:
        import torch

        from muse_eval.engines.checkpoint import find_checkpoint
        from muse_eval.engines.loading import LoadOptions, load_model, load_tokenizer

        code = bool(self.means.get("trust_remote_code"))
        pickle = bool(self.means.get("allow_pickle"))
        found = find_checkpoint(self.model, allow_pickle=pickle, trust_remote_code=code)
        model = load_model(found, LoadOptions("float32", "cpu", None, pickle, code))
        head = model.get_output_embeddings()
        layers = [
            layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head
        ]
        with torch.no_grad():
            for number, layer in enumerate(layers, 1):
                layer.weight.copy_(change(layer.weight.detach()))
                self.progress(self.probe, number, len(layers))
        model.save_pretrained(folder)
        given = self.means.get("tokenizer")
        load_tokenizer(found, given, self.task.tokenizers, code).save_pretrained(folder)

    def _folder(self, label: str, more: Any) -> Path:
        key = fingerprint([self.probe, label, self.digest, more])[:KEY]
        return self.home / f"{self.probe}-{label}-{key}"


@dataclass(frozen=True)
class Rehearsal:
    """A subject that makes no model and keeps what it was asked to do."""

    subject: TaskSubject
    asked: list[Any] = field(default_factory=list)

    def texts(self, of: Literal["forget", "retain", "given"]) -> list[str]:
        """Return the task's texts to forget or to keep, or those given."""
        return self.subject.texts(of)

    def train(
        self, texts: Sequence[str], stops: Sequence[int], *, lr: float | None, batch_size: int
    ) -> dict[int, Path]:
        """Keep what would be trained."""
        self.asked.append(self.subject.training(texts, stops, lr, batch_size)[1])
        return dict.fromkeys(stops, self.subject.home)

    def reweigh(self, label: str, change: Callable[[Tensor], Tensor]) -> Path:  # noqa: ARG002
        """Keep which change would be made."""
        self.asked.append(label)
        return self.subject.home
