"""Unlearning on transformers' Trainer: forget loss + λ · retain term (MUSE, section 4.1)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainingArguments

from muse_eval import plugins, provenance
from muse_eval.config import HubRef, Workload, fingerprint, parse_params
from muse_eval.errors import LocalError, UserError
from muse_eval.folders import writing
from muse_eval.types import ActivationMethod, Log, Method, PreferenceMethod, Progress
from muse_eval.unlearning import heads, rows
from muse_eval.unlearning.recipe import UnlearnConfig, write_recipe
from muse_eval.unlearning.training import adapters, output, processes, reports, resuming
from muse_eval.unlearning.training.arguments import arguments
from muse_eval.unlearning.training.assemble import assemble, check_weights
from muse_eval.unlearning.training.feasible import check_feasible
from muse_eval.unlearning.training.learner import Journal, Unlearner
from muse_eval.unlearning.training.reference import TakeReference
from muse_eval.unlearning.training.start import device_name, open_target, precision, workload
from muse_eval.unlearning.training.stopping import SaveAt

EXTRAS = ("peft", "bitsandbytes")
"""Packages that shape the weights where they are used."""


def make_pairs(
    config: UnlearnConfig,
    forget: Sequence[str],
    retain: Sequence[str] | None,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> rows.Pairs:
    """Make the rows, forget rows alone where ``retain`` is None, and check that the model can read them.

    Raises:
        UserError: no data, or rows longer than the model's context or outside its vocabulary.
    """
    splits = {"forget": forget} if retain is None else {"forget": forget, "retain": retain}
    made = {
        split: rows.make(config.rows, split, texts, tokenizer, config.max_len)
        for split, texts in splits.items()
    }
    pairs = rows.Pairs(made["forget"], made.get("retain", ()))
    _, method, _ = plugins.method(config.method)
    if isinstance(method, PreferenceMethod):
        share = parse_params(method.params, config.params, f"method {config.method}").prompt
        pairs.refusal, pairs.prompts = rows.refusals(
            pairs.forget, method.refusals, share, tokenizer, config.max_len
        )
    everything = [*pairs.forget, *pairs.retain, *pairs.refusal]
    longest, context = max(map(len, everything)), getattr(model.config, "max_position_embeddings", None)
    if context and longest > context:
        raise UserError(f"rows of {longest} tokens exceed the model's context of {context}; lower --max-len")
    largest, vocabulary = (
        max(map(max, everything)),
        cast(nn.Embedding, model.get_input_embeddings()).num_embeddings,
    )
    if largest >= vocabulary:
        raise UserError(
            f"token {largest} is outside the model's vocabulary of {vocabulary}; name its own --tokenizer"
        )
    return pairs


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
    trainer.remove_callback(PrinterCallback)
    if isinstance(method, PreferenceMethod) or (isinstance(method, Method) and method.reference):
        trainer.add_callback(TakeReference(trainer, Path(cast(str, args.output_dir)).parent))
    return trainer


def choose_weights(config: UnlearnConfig, model: PreTrainedModel, method: ActivationMethod) -> None:
    """Leave gradients to the weights that the method trains.

    Raises:
        UserError: the model has no such layer, or none of these weights.
    """
    name = config.method
    params = parse_params(method.params, config.params, f"method {name}")
    layers = model.config.get_text_config().num_hidden_layers
    layer = method.layer(layers, params)
    # What transformers gives out as the last layer's states has gone through the final norm.
    if layer >= layers - 1:
        raise UserError(
            f"method {name}: layer {layer} is not below the last of the model's {layers} layers; "
            "--set layer=… takes one, from 0"
        )
    trained = [key for key, _ in model.named_parameters() if method.trains(key, layer)]
    if not trained:
        raise UserError(
            f"method {name} knows no weight of a {type(model).__name__} to train; use another method"
        )
    for key, weight in model.named_parameters():
        weight.requires_grad_(key in trained)


def run(config: UnlearnConfig, trainer: Unlearner, journal: Journal, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint where there is one."""
    processes.settle(trainer)
    if config.lora and journal.keep_checkpoints:
        trainer.add_callback(adapters.MergeOnSave(cast(nn.Module, trainer.model), journal.folder))
    trainer.add_callback(SaveAt(config.stops))
    trainer.add_callback(journal)
    models = [model for model in (trainer.model, trainer.frozen) if model is not None]
    try:
        with ExitStack() as held:
            for model in models:
                held.enter_context(heads.readable(model))
            held.enter_context(reports.reporting(trainer, config.report_to, journal, journal.folder))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise LocalError(
            "out of GPU memory; try a smaller --micro-batch-size, --gradient-checkpointing, --lora r=16, "
            "or several GPUs (docs/training.md)"
        ) from error


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


def write_card(
    config: UnlearnConfig, recipe: Mapping[str, Any], trainer: Unlearner, folder: Path
) -> dict[str, Any]:
    """Describe how the recipe was carried out: ``unlearn.json``."""
    log = output.read_log(folder / output.LOG)
    args = trainer.args
    pairs = cast(rows.Pairs, trainer.train_dataset)
    return {
        "schema_version": 1,
        "fingerprint": fingerprint(recipe),
        **recipe,
        "config": config.model_dump(mode="json", by_alias=True),
        "rows": {"forget": len(pairs.forget), "retain": len(pairs.retain)},
        "tokens": {"forget": sum(map(len, pairs.forget)), "retain": sum(map(len, pairs.retain))},
        "steps": trainer.state.global_step,
        "batches": {
            "micro": args.per_device_train_batch_size,
            "accumulated": args.gradient_accumulation_steps,
            "devices": args.world_size,
            "sharded": trainer.is_fsdp_enabled,
        },
        "device": device_name(args),
        "versions": provenance.versions(*EXTRAS),
        "commit": provenance.git_commit(),
        "seconds": sum(line["seconds"] for line in log),
    }


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
        note: told, in one line and in the main process, where a run that was stopped goes on, and
            what of it was damaged.
        begin_with: told before the first step what is to be done, in the main process.

    Raises:
        UserError: a value, the data or ``out`` will not do, the loss is no number, or the disk is full.
    """
    check_feasible(config)
    folder, dtype = output.partial(out), precision(config.dtype)
    args = arguments(config, folder, dtype)
    main = args.process_index == 0
    told = progress if main else None
    _, method, _ = plugins.method(config.method)
    assembled_last = not plugins.leaves_epochs(config.method)
    if keep_checkpoints and assembled_last:
        raise UserError(f"{config.method} makes its model after the last epoch; leave --keep-checkpoints out")
    with writing(folder):
        with processes.together():
            start = open_target(config, model, tokenizer, fallbacks, told)
            recipe = write_recipe(config, forget, retain, start.identity(), dtype)
            if overwrite:
                output.check_replaceable(out, config.model)
            elif output.is_finished(out, recipe, keep_checkpoints, note if main else None):
                return out
            ready = output.is_ready(out, recipe)
        if not ready:
            with ExitStack() as held:
                with processes.together():
                    target = start.load(config, dtype)
                    if isinstance(method, ActivationMethod):
                        choose_weights(config, target, method)
                    used = retain if recipe["method"]["retain"] else None
                    pairs = make_pairs(config, forget, used, target, start.tokenizer)
                    merged = output.MERGED if keep_checkpoints and config.lora else None
                    newest = [begin(args, held, folder, recipe, overwrite, merged, note)]
                    if note and newest[0]:
                        note(f"goes on from {resuming.reached(newest[0])}")
                broadcast_object_list(newest)
                # A loaded model is trained in place.
                kept = copy.deepcopy(target).cpu() if assembled_last and start.model is not None else None
                if config.lora:
                    target = cast(PreTrainedModel, adapters.put_on(target, config.lora, config.seed))
                trainer = build(config, args, target, pairs)
                journal = Journal(
                    trainer, folder, start.tokenizer, keep_checkpoints, told, log if main else None
                )
                if main and begin_with:
                    begin_with(workload(config, pairs, args))
                run(config, trainer, journal, newest[0])
                save(trainer, start.tokenizer, folder)
                if args.should_save:
                    if assembled_last:
                        origin = start.load(config, dtype) if kept is None else kept
                        assemble(method, recipe["method"]["loss"], trainer.params, folder, origin)
                    check_weights(folder)
                    output.finish(folder, recipe, write_card(config, recipe, trainer, folder))
        if main:
            output.appear(out, keep_checkpoints)
        PartialState().wait_for_everyone()
    return out


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
