"""A transformers Trainer with a forget loss plus λ times a retain term, and the journal of its steps."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from muse_eval.errors import UserError
from muse_eval.types import Method, SeqLogps
from muse_eval.unlearning import adapters, output, processes, retain, rows, steps
from muse_eval.unlearning.logps import IGNORE, sequence_logps, targets

Progress = Callable[[str, int, int], None]
"""Called after each optimiser step with ``unlearn``, the steps done and the steps in all."""


class Unlearner(Trainer):
    """A Trainer whose loss is a forget loss plus λ times a retain term."""

    def __init__(self, *, method: Method, params: Any, term: str | None, lambda_: float, **trainer: Any):
        super().__init__(**trainer)
        self.method, self.params, self.term, self.lambda_ = method, params, term, lambda_
        # The loss below is the mean over the step's rows: Trainer must not divide it again.
        self.model_accepts_loss_kwargs = True
        self.frozen: nn.Module | None = None
        if term == "kl":
            self.frozen = adapters.frozen_copy(cast(nn.Module, self.model))
        self.step_sums = torch.zeros(4)
        """The step's loss, forget loss, retain loss and target tokens so far, on this device."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return an optimiser step's micro-batches, each with its share, and the forget rows a process."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_sums = torch.zeros(4, device=device)
        return batches, steps.share_out(self, batches)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: ARG002
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002
    ) -> Any:
        """Return the micro-batch's share of the step's loss: its mean times its share of the step's rows."""
        labels = inputs["forget"]["labels"]
        policy = sequence_logps(logits(model, inputs["forget"]), labels)
        reference = SeqLogps(inputs["reference"], policy.tokens) if "reference" in inputs else None
        forget_loss = self.method.loss(policy, reference, self.params)
        retain_loss, tokens = torch.zeros_like(forget_loss), policy.tokens.sum()
        if self.term:
            retain_loss = self.retain_loss(model, inputs["retain"])
            tokens = tokens + (targets(inputs["retain"]["labels"]) != IGNORE).sum()
        share = inputs["share"]
        loss = (forget_loss + self.lambda_ * retain_loss) * share
        parts = [loss, forget_loss * share, retain_loss * share, tokens]
        self.step_sums += torch.stack([part.detach().float() for part in parts])
        return loss

    def retain_loss(self, model: nn.Module, batch: rows.Batch) -> Tensor:
        """Return the retain term of a retain batch: a scalar."""
        ours = logits(model, batch)
        if self.term == "nll":
            return retain.nll(sequence_logps(ours, batch["labels"]))
        with (
            torch.no_grad(),
            self.accelerator.autocast(),
            adapters.frozen_view(model, self.frozen) as target,
        ):
            theirs = logits(target, batch)
        return retain.kl(ours, theirs, targets(batch["labels"]) != IGNORE)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, gathered on the main process where it is sharded."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        state = processes.full_state(self)
        if self.args.should_save:
            self._save(output_dir, state_dict=state)

    def reference(self, forget: Sequence[rows.Row]) -> list[float]:
        """Return log π(y|x) of each row under the weights as they are now."""
        model = cast(nn.Module, self.model).eval()
        size, sums = self.args.per_device_train_batch_size, []
        with torch.no_grad(), self.accelerator.autocast():
            for start in range(0, len(forget), size):
                batch = {k: v.to(self.args.device) for k, v in rows.pad(forget[start : start + size]).items()}
                sums += sequence_logps(logits(model, batch), batch["labels"]).total.tolist()
        return sums


def logits(model: nn.Module, batch: rows.Batch) -> Tensor:
    """Run the model on a padded batch: logits (batch, length, vocabulary)."""
    result = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).logits
    return cast(Tensor, result)


class Journal(TrainerCallback):
    """Writes a line of ``log.jsonl`` a step, stops at a loss that is no number, and completes checkpoints."""

    def __init__(
        self,
        trainer: Unlearner,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        keep_checkpoints: bool,
        progress: Progress | None,
    ):
        self.trainer, self.folder, self.tokenizer = trainer, folder, tokenizer
        self.keep_checkpoints, self.progress = keep_checkpoints, progress
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
            "retain_loss": self.retain_loss if self.trainer.term else None,
            "lr": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "seconds": seconds,
            "tokens_per_second": self.tokens / seconds,
        }
        if args.should_save:
            output.append_line(self.folder / output.LOG, line)
        if self.progress:
            self.progress("unlearn", state.global_step, state.max_steps)

    def check(self, value: float, what: str, step: int) -> None:
        """Raise ``UserError`` where a value is not finite."""
        if not math.isfinite(value):
            kept = self.folder / output.CHECKPOINTS
            hint = "try a smaller --lr; complete checkpoints are kept in"
            raise UserError(f"the {what} is {value} at step {step}; {hint} {kept}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Add the tokenizer, mark the checkpoint as complete and drop the older ones."""
        self.trainer.accelerator.wait_for_everyone()
        if not args.should_save:
            return
        newest = self.folder / output.CHECKPOINTS / f"checkpoint-{state.global_step}"
        self.tokenizer.save_pretrained(newest)
        output.complete(newest, drop_older=not self.keep_checkpoints)
