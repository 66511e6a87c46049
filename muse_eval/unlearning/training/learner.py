"""A transformers Trainer with a forget loss plus λ times a retain term, and the journal of its steps."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from muse_eval.errors import DivergedError
from muse_eval.types import AnyMethod, Log, Progress
from muse_eval.unlearning import finetune, objectives, rows
from muse_eval.unlearning.logps import IGNORE, targets
from muse_eval.unlearning.training import adapters, output, processes, seals, steps


class Unlearner(Trainer):
    """A Trainer whose loss is a forget loss plus λ times a retain term."""

    def __init__(self, *, method: AnyMethod, params: Any, term: str | None, lambda_: float, **trainer: Any):
        super().__init__(**trainer)
        self.method, self.params, self.term = method, params, term
        # A method's own retain loss carries its own weight.
        self.lambda_ = lambda_ if term else 1.0
        # The loss below is the mean over the step's rows: Trainer must not divide it again.
        self.model_accepts_loss_kwargs = True
        self.frozen: nn.Module | None = None
        if objectives.uses_target(method, term):
            self.frozen = adapters.frozen_copy(cast(nn.Module, self.model))
        self.step_sums = torch.zeros(4)
        """The step's loss, forget loss, retain loss and target tokens so far, on this device."""
        self.step_rows: list[int] = []
        """The forget rows of the step, on this device."""

    @property
    def retains(self) -> bool:
        """Whether there is a retain loss."""
        return objectives.uses_retain(self.method, self.term)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return an optimiser step's micro-batches, each with its share, and the forget rows a process."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_sums = torch.zeros(4, device=device)
        share = steps.share_out(self, batches)
        self.step_rows = [row for batch in batches for row in batch["index"].tolist()]
        return batches, share

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: ARG002
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002
    ) -> Any:
        """Return the micro-batch's share of the step's loss: its mean times its share of the step's rows."""
        step = objectives.Step(model, partial(self.target, model), inputs, self.params, self.args.seed)
        forget_loss = objectives.forget_loss(self.method, step)
        retain_loss = torch.zeros_like(forget_loss)
        if self.retains:
            retain_loss = objectives.retain_loss(self.method, self.term, step)
        share = inputs["share"]
        loss = (forget_loss + self.lambda_ * retain_loss) * share
        batches = [inputs[name] for name in ("forget", "retain", "refusal") if name in inputs]
        tokens = sum((targets(batch["labels"]) != IGNORE).sum() for batch in batches)
        parts = [loss, forget_loss * share, retain_loss * share, tokens]
        self.step_sums += torch.stack([torch.as_tensor(part).detach().float() for part in parts])
        return loss

    @contextmanager
    def target(self, model: nn.Module) -> Iterator[nn.Module]:
        """Lend the target as it was before unlearning; ``model`` is the one that is trained, as it is run."""
        with self.accelerator.autocast(), adapters.frozen_view(model, self.frozen) as target:
            yield target

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, gathered on the main process where it is sharded."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        state = processes.full_state(self)
        if self.args.should_save:
            self._save(output_dir, state_dict=state)

    def reference(self, some: Sequence[rows.Row], prompts: Sequence[int] = ()) -> list[float]:
        """Return log π(y|x) of each row under the weights as they are now; ``prompts`` as in ``rows.pad``."""
        model = cast(nn.Module, self.model).eval()
        size, sums = self.args.per_device_train_batch_size, []
        with torch.no_grad(), self.accelerator.autocast():
            for start in range(0, len(some), size):
                end = start + size
                padded = rows.pad(some[start:end], prompts[start:end])
                batch = {key: value.to(self.args.device) for key, value in padded.items()}
                sums += objectives.logps(model, batch).total.tolist()
        return sums


class Journal(TrainerCallback):
    """Writes a line of ``log.jsonl`` a step, stops at a loss that is no number, and completes checkpoints."""

    def __init__(
        self,
        trainer: Unlearner,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        keep_checkpoints: bool,
        progress: Progress | None,
        log: Log | None = None,
    ):
        self.trainer, self.folder, self.tokenizer = trainer, folder, tokenizer
        self.keep_checkpoints, self.progress, self.log = keep_checkpoints, progress, log
        self.stage = "finetune" if trainer.method is finetune.METHOD else "unlearn"
        self.began = 0.0
        self.loss = self.forget_loss = self.retain_loss = self.tokens = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the step's clock."""
        self.began = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Gather the step's sums over the devices; refuse to step on a loss that is no number."""
        sums = self.trainer.step_sums
        mean, total = (self.trainer.accelerator.reduce(sums, reduction=kind) for kind in ("mean", "sum"))
        self.loss, self.forget_loss, self.retain_loss = mean[:3].tolist()
        self.tokens = float(total[3])
        self.check(self.loss, "loss", state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Write the step's line and report progress."""
        logs: Mapping[str, float] = given["logs"]
        if "loss" not in logs:  # the summary at the end of training
            return
        self.check(logs["grad_norm"], "gradient", state.global_step)
        seconds = time.perf_counter() - self.began
        line = {
            "step": state.global_step,
            "epoch": state.epoch,
            "loss": self.loss,
            "forget_loss": self.forget_loss,
            "retain_loss": self.retain_loss if self.trainer.retains else None,
            "lr": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "seconds": seconds,
            "tokens_per_second": self.tokens / seconds,
        }
        if args.should_save:
            output.append_line(self.folder / output.LOG, line)
        if self.log:
            self.log(line)
        if self.progress:
            self.progress(self.stage, state.global_step, state.max_steps)

    def check(self, value: float, what: str, step: int) -> None:
        """Raise ``DivergedError`` where a value is not finite."""
        if not math.isfinite(value):
            batch = ", ".join(map(str, sorted(self.trainer.step_rows)))
            remedy = "try a smaller --lr; complete checkpoints are kept in"
            raise DivergedError(
                f"the {what} is {value} at step {step} (forget rows {batch})",
                f"{remedy} {self.folder / output.CHECKPOINTS}",
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Add the tokenizer, seal the checkpoint as complete and drop the older ones."""
        self.trainer.accelerator.wait_for_everyone()
        if not args.should_save:
            return
        newest = output.checkpoint(self.folder, state.global_step)
        self.tokenizer.save_pretrained(newest)
        seals.complete(newest, drop_older=not self.keep_checkpoints)
