"""Unlearning on transformers' Trainer: forget loss + λ · retain term (MUSE, section 4.1)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import AutocastKwargs, broadcast_object_list
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainingArguments

from muse_eval import plugins
from muse_eval.config import HubRef, Workload, parse_params
from muse_eval.errors import LocalError, UserError
from muse_eval.folders import writing
from muse_eval.types import ActivationMethod, Log, Method, PreferenceMethod, Progress
from muse_eval.unlearning import cards, heads, rows
from muse_eval.unlearning.recipe import UnlearnConfig, write_recipe
from muse_eval.unlearning.training import adapters, output, processes, release, reports, resuming
from muse_eval.unlearning.training.arguments import arguments
from muse_eval.unlearning.training.assemble import assemble, check_weights
from muse_eval.unlearning.training.feasible import check_feasible
from muse_eval.unlearning.training.learner import Journal, Unlearner
from muse_eval.unlearning.training.plan import Plan, room_of, settle
from muse_eval.unlearning.training.record import write_card
from muse_eval.unlearning.training.reference import TakeReference
from muse_eval.unlearning.training.start import (
    Start,
    choose_weights,
    make_pairs,
    open_target,
    precision,
    workload,
)
from muse_eval.unlearning.training.stopping import LastWithoutStates, SaveAt


def build(
    config: UnlearnConfig, args: TrainingArguments, model: PreTrainedModel, pairs: rows.Pairs
) -> Unlearner:
    """Put the trainer together; where the method wants a reference, it is taken as training begins."""
    _, method, term = plugins.method(config.method)
    params = parse_params(method.params, config.params, f"method {config.method}")
    trainer = Unlearner(
        method=method,
        params=params,
        term=term,
        lambda_=config.lambda_,
        model=model,
        args=args,
        train_dataset=pairs,
        data_collator=rows.collate,
    )
    if args.gradient_checkpointing:
        # Casts of all weights would be kept through the forward pass, though none is used twice in it.
        trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    trainer.remove_callback(PrinterCallback)
    if isinstance(method, PreferenceMethod) or (isinstance(method, Method) and method.reference):
        trainer.add_callback(TakeReference(trainer, Path(cast(str, args.output_dir)).parent))
    return trainer


def run(config: UnlearnConfig, trainer: Unlearner, journal: Journal, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint where there is one."""
    processes.settle(trainer)
    if config.lora and journal.keep_checkpoints:
        trainer.add_callback(adapters.MergeOnSave(cast(nn.Module, trainer.model), journal.folder))
    trainer.add_callback(SaveAt(config.stops))
    trainer.add_callback(LastWithoutStates())
    trainer.add_callback(journal)
    models = [model for model in (trainer.model, trainer.frozen) if model is not None]
    with ExitStack() as held:
        for model in models:
            held.enter_context(heads.readable(model))
        held.enter_context(reports.reporting(trainer, config.report_to, journal, journal.folder))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def save(trainer: Unlearner, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save weights (safetensors, adapters merged), config and tokenizer, on the main process."""
    model = cast(nn.Module, trainer.model)
    if not adapters.has_adapters(model):
        trainer.save_model(str(folder))
    elif trainer.args.should_save:
        adapters.save_merged(model, folder)
    if trainer.args.should_save:
        (folder / "training_args.bin").unlink(missing_ok=True)
        tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class Listeners:
    """Who is told of a training."""

    progress: Progress | None = None
    log: Log | None = None
    note: Callable[[str], None] | None = None
    begin_with: Callable[[Workload], None] | None = None


@dataclass(frozen=True)
class Asked:
    """What ``unlearn`` was given beside its recipe."""

    forget: Sequence[str]
    retain: Sequence[str]
    out: Path
    model: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerBase | None
    fallbacks: Sequence[HubRef]
    overwrite: bool
    keep_checkpoints: bool
    listeners: Listeners


def unlearn(
    config: UnlearnConfig,
    forget: Sequence[str],
    retain: Sequence[str],
    out: Path,
    *,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    fallbacks: Sequence[HubRef] = (),
    overwrite: bool = False,
    keep_checkpoints: bool = False,
    progress: Progress | None = None,
    log: Log | None = None,
    note: Callable[[str], None] | None = None,
    begin_with: Callable[[Workload], None] | None = None,
) -> Path:
    """Unlearn the forget texts and write the model to ``out``; return at once where that was done before.

    A run that was stopped goes on from its last sound checkpoint, of which there is one an epoch or,
    where there are ``config.stops``, after each, to the same weights; see ``output`` for the folders,
    ``seals`` for what is sound. NPO's reference log-probabilities are taken once, before the first step, and
    kept on disk: no second model is held. The retain term ``kl`` needs one, the frozen target; with adapters
    (``config.lora``) that is the model itself with its adapters off.

    Under ``accelerate launch`` every process makes this call; see ``processes``.

    Args:
        config: the recipe.
        forget: texts to forget.
        retain: texts to keep; not looked at by a method without a retain term.
        out: the folder to make.
        model: the target where it is loaded already; it is trained in place, and adapters stay on it.
            ``config.model`` names it.
        tokenizer: its tokenizer where it is loaded already.
        fallbacks: tokenizers to try, in order, where neither the config nor the target has one.
        overwrite: replace the result of another recipe, or make the same again.
        keep_checkpoints: leave each epoch's model in ``out/checkpoints``, adapters merged.
        progress: told of every optimiser step, in the main process.
        log: told of every line of ``log.jsonl``, in the main process.
        note: told, in one line and in the main process, where a run that was stopped goes on, what of it
            was damaged, and where memory may run out.
        begin_with: told before the first step what is to be done, in the main process.

    Raises:
        UserError: a value, the data or ``out`` will not do, the loss is no number, or the disk is full.
    """
    check_feasible(config)
    folder = output.partial(out)
    if keep_checkpoints and not plugins.leaves_epochs(config.method):
        raise UserError(f"{config.method} makes its model after the last epoch; leave --keep-checkpoints out")
    listeners = Listeners(progress, log, note, begin_with)
    asked = Asked(forget, retain, out, model, tokenizer, fallbacks, overwrite, keep_checkpoints, listeners)
    try:
        with writing(folder):
            return _unlearn(config, asked)
    except torch.OutOfMemoryError as error:
        release.forget_frames(error)
        raise LocalError(
            "out of GPU memory; try a smaller --micro-batch-size, --gradient-checkpointing, --lora r=16, "
            "or several GPUs (docs/training.md)"
        ) from error
    except BaseException as error:
        release.forget_frames(error)
        raise
    finally:
        release.empty_device()


def _unlearn(config: UnlearnConfig, asked: Asked) -> Path:
    """Open the target, settle what the config leaves open, and train unless that was done before."""
    out, folder, dtype = asked.out, output.partial(asked.out), precision(config.dtype)
    args = arguments(config, folder, dtype)
    main = args.process_index == 0
    told = asked.listeners if main else Listeners()
    room = room_of(args, asked.model)
    with processes.together():
        start = open_target(config, asked.model, asked.tokenizer, asked.fallbacks, told.progress)
        plan = settle(
            config.model_copy(update={"dtype": dtype}),
            start,
            room,
            out,
            [*asked.forget, *asked.retain],
            asked.keep_checkpoints,
            asked.overwrite,
        )
        config = plan.config.model_copy(update={"dtype": config.dtype})
        # Before the target is hashed, unless it may turn out that nothing is left to do.
        maybe_done = out.exists() or cards.find_card(folder) is not None
        if not maybe_done:
            plan.check(told.note)
        recipe = write_recipe(config, asked.forget, asked.retain, start.identity(), dtype)
        if asked.overwrite:
            output.check_replaceable(out, config.model)
        elif output.is_finished(out, recipe, asked.keep_checkpoints, told.note):
            return out
        ready = output.is_ready(out, recipe)
        if maybe_done and not ready:
            plan.check(told.note)
    if not ready:
        args = arguments(config, folder, dtype)
        _train(config, asked, told, start, plan, recipe, args)
    if main:
        output.appear(out, asked.keep_checkpoints)
    PartialState().wait_for_everyone()
    return out


def _train(
    config: UnlearnConfig,
    asked: Asked,
    told: Listeners,
    start: Start,
    plan: Plan,
    recipe: dict[str, Any],
    args: TrainingArguments,
) -> None:
    """Train from the target or the last sound checkpoint, and write the model to the partial folder."""
    folder, dtype = plan.folder, plan.config.dtype
    _, method, _ = plugins.method(config.method)
    assembled_last = not plugins.leaves_epochs(config.method)
    with ExitStack() as held:
        with processes.together():
            target = start.load(config, dtype)
            if isinstance(method, ActivationMethod):
                choose_weights(config, target, method)
            used = asked.retain if recipe["method"]["retain"] else None
            pairs = make_pairs(config, asked.forget, used, target, start.tokenizer)
            merged = output.MERGED if asked.keep_checkpoints and config.lora else None
            newest = [begin(args, held, folder, recipe, asked.overwrite, merged, told.note)]
            if args.process_index == 0:
                plan.keep()
            if told.note and newest[0]:
                told.note(f"goes on from {resuming.reached(newest[0])}")
        broadcast_object_list(newest)
        # A loaded model is trained in place.
        kept = copy.deepcopy(target).cpu() if assembled_last and start.model is not None else None
        if config.lora:
            target = cast(PreTrainedModel, adapters.put_on(target, config.lora, config.seed))
        trainer = build(config, args, target, pairs)
        try:
            journal = Journal(
                trainer, folder, start.tokenizer, asked.keep_checkpoints, told.progress, told.log
            )
            if told.begin_with:
                told.begin_with(replace(workload(config, pairs, args), more=plan.told()))
            run(config, trainer, journal, newest[0])
            save(trainer, start.tokenizer, folder)
            if args.should_save:
                if assembled_last:
                    origin = start.load(config, dtype) if kept is None else kept
                    assemble(method, recipe["method"]["loss"], trainer.params, folder, origin)
                check_weights(folder)
                output.finish(folder, recipe, write_card(config, recipe, trainer, folder))
        finally:
            release.let_go(trainer)


def begin(
    args: TrainingArguments,
    held: ExitStack,
    folder: Path,
    recipe: Mapping[str, Any],
    overwrite: bool,
    needed: str | None,
    note: Callable[[str], None] | None,
) -> Path | None:
    """Take the partial folder, in the main process; return the checkpoint to resume from, if any."""
    if args.process_index != 0:
        return None
    held.enter_context(output.claimed(folder))
    return resuming.begin(folder, recipe, overwrite, needed, note)
