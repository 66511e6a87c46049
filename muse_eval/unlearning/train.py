"""Unlearning on transformers' Trainer: forget loss + λ · retain term (MUSE, section 4.1)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainingArguments

from muse_eval import plugins, provenance
from muse_eval.config import HubRef, fingerprint, parse_params
from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_model, load_tokenizer, state_digest, tokenizer_digest
from muse_eval.errors import UserError
from muse_eval.unlearning import output, rows
from muse_eval.unlearning.learner import Journal, Progress, Unlearner
from muse_eval.unlearning.recipe import UnlearnConfig, write_recipe


def split_batch(config: UnlearnConfig, devices: int, on_gpu: bool) -> tuple[int, int]:
    """Return (micro-batch a device, micro-batches accumulated) that make up the batch.

    Raises:
        UserError: the batch cannot be divided so.
    """
    share, rest = divmod(config.batch_size, devices)
    if rest:
        raise UserError(f"--batch-size {config.batch_size} is no multiple of the {devices} processes")
    fits = max(size for size in range(1, min(share, 4) + 1) if share % size == 0)
    micro = config.micro_batch_size or (fits if on_gpu else share)
    if share % micro:
        raise UserError(f"--micro-batch-size {micro} does not divide the {share} rows a device and step")
    return micro, share // micro


def arguments(config: UnlearnConfig, folder: Path, dtype: str) -> TrainingArguments:
    """Translate for transformers' Trainer: AdamW without decay, constant lr, gradients clipped at 1."""
    on_gpu = torch.cuda.is_available()
    micro, accumulate = split_batch(config, int(os.environ.get("WORLD_SIZE", "1")), on_gpu)
    args = TrainingArguments(
        output_dir=str(folder / output.CHECKPOINTS),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        learning_rate=config.lr,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=dtype == "mixed",
        gradient_checkpointing=config.gradient_checkpointing,
        ddp_find_unused_parameters=False,
        seed=config.seed,
        data_seed=config.seed,
        save_strategy="epoch",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
    )
    # Trainer would spread one process over all visible GPUs (DataParallel), a pair's halves with it;
    # several GPUs are used by starting one process each (accelerate launch).
    args._n_gpu = min(args.n_gpu, 1)
    return args


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
    everything = [row for part in made.values() for row in part]
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
    return rows.Pairs(made["forget"], made.get("retain", ()))


def build(
    config: UnlearnConfig, args: TrainingArguments, model: PreTrainedModel, pairs: rows.Pairs
) -> Unlearner:
    """Put the trainer together, with the reference log-probabilities where the method wants them."""
    _, method, term = plugins.method(config.method)
    trainer = Unlearner(
        method=method,
        params=parse_params(method.params, config.params, f"method {config.method}"),
        term=term,
        lambda_=config.lambda_,
        model=model,
        args=args,
        train_dataset=pairs,
        data_collator=rows.collate,
    )
    trainer.remove_callback(PrinterCallback)
    if method.reference:
        pairs.reference = trainer.reference(pairs.forget)
    return trainer


def run(trainer: Unlearner, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint where there is one."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise UserError(
            "out of GPU memory; try a smaller --micro-batch-size, or --gradient-checkpointing"
        ) from error


def save(trainer: Unlearner, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save weights (safetensors), config and tokenizer.

    Raises:
        UserError: FSDP is set to keep the weights in shards.
    """
    trainer.save_model(str(folder))
    if trainer.args.should_save:
        if not any(folder.glob("*.safetensors")):
            raise UserError("no weights were saved; with FSDP, set fsdp_state_dict_type: FULL_STATE_DICT")
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
        },
        "device": torch.cuda.get_device_name() if args.device.type == "cuda" else args.device.type,
        "versions": provenance.versions(),
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
) -> Path:
    """Unlearn the forget texts and write the model to ``out``; return at once where that was done before.

    A run that was stopped goes on from its last complete checkpoint, of which there is one an epoch, to
    the same weights; see ``output`` for the folders. NPO's reference log-probabilities are taken once,
    before the first step: no second model is held. The retain term ``kl`` holds one, the frozen target.

    Args:
        config: the recipe.
        forget: texts to forget.
        retain: texts to keep; not looked at by a method without a retain term.
        out: the folder to make.
        model: the target where it is loaded already; it is trained in place. ``config.model`` names it.
        tokenizer: its tokenizer where it is loaded already.
        fallbacks: tokenizers to try, in order, where neither the config nor the target has one.
        overwrite: replace the result of another recipe, or make the same again.
        keep_checkpoints: leave each epoch's checkpoint, a loadable model, in ``out/checkpoints``.
        progress: told of every optimiser step.

    Raises:
        UserError: a value, the data or ``out`` will not do, the loss is no number, or the disk is full.
    """
    folder = output.partial(out)
    pickle, code = config.allow_pickle, config.trust_remote_code
    checkpoint = None
    if model is None:
        checkpoint = find_checkpoint(
            config.model, allow_pickle=pickle, trust_remote_code=code, progress=progress
        )
    tokenizer = tokenizer or load_tokenizer(checkpoint, config.tokenizer, fallbacks, code)
    target = {
        "revision": checkpoint.revision if checkpoint else None,
        "weights": checkpoint.digest if checkpoint else state_digest(cast(PreTrainedModel, model)),
        "tokenizer": tokenizer_digest(tokenizer),
    }
    dtype = config.dtype
    if dtype == "auto":
        dtype = "mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"
    recipe = write_recipe(config, forget, retain, target, dtype)
    term = recipe["method"]["retain"]
    if overwrite:
        output.check_replaceable(out, config.model)
    elif output.is_finished(out, recipe, keep_checkpoints):
        return out
    with output.writing(folder):
        if not output.is_ready(out, recipe):
            args = arguments(config, folder, dtype)
            if model is None:
                assert checkpoint is not None
                kept = "bfloat16" if dtype == "bfloat16" else "float32"
                model = load_model(checkpoint, LoadOptions(kept, "cpu", None, pickle, code))
            pairs = make_pairs(config, forget, retain if term else None, model, tokenizer)
            with output.claimed(folder, args.process_index == 0):
                with args.main_process_first(local=False):
                    newest = output.begin(folder, recipe, overwrite)
                trainer = build(config, args, model, pairs)
                trainer.add_callback(Journal(trainer, folder, tokenizer, keep_checkpoints, progress))
                run(trainer, newest)
                save(trainer, tokenizer, folder)
                if args.should_save:
                    card = write_card(config, recipe, trainer, folder)
                    output.write_json(folder / output.CARD, card)
        if int(os.environ.get("RANK", "0")) == 0:
            output.appear(out, keep_checkpoints)
    return out
