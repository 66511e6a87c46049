"""The command that makes an unlearned model again, every value that shapes the weights written out."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muse_eval.printable import one_line
from muse_eval.results import StoredResult, part
from muse_eval.results.rows import task_spec

SWITCHES = ("gradient_checkpointing", "allow_pickle", "trust_remote_code")


def command(card: Mapping[str, Any], run: StoredResult | None, out: str, **places: Any) -> str:
    """Return the command, on one line; empty where the texts were given from Python, which has none.

    A task with several forget sets unlearns each of them with ``pipeline``.

    Args:
        card: the content of the model's ``unlearn.json``.
        run: its scores, which tell the forget set; None: there are none.
        out: where the model goes.
        places: ``target``, the model to start from, where it is not called as in ``target``; ``results``,
            the folder of a pipeline.
    """
    config, training = part(card, "config"), part(card, "training")
    if config.get("task") is None:
        return ""
    task, full = str(config["task"]), str(config.get("method"))
    fold = part(part(run.config, "made"), "fold") if run else {}
    spec, start = task_spec(task), places.get("target") or target(card)
    several = bool(fold) or (spec is not None and spec.forget_sets is not None)
    given: list[tuple[str, Any]] = [("task", task if spec else f"{task}.yaml")]
    if several:
        # Where sets are forgotten one after the other, only the first starts from the target.
        first = fold.get("mode") != "sequential" or fold.get("number") == 1
        given += [("methods", full), ("target", start if first else None), ("results", places.get("results"))]
        if spec is None or spec.data.source != "builtin":
            given += [("seeds", training.get("seed"))]
    else:
        given += [("method", full), ("target", start), ("out", out), ("seed", training.get("seed"))]
    given += _settings(card, f"{part(card, 'method').get('loss')}." if several else "")
    words = ["muse-eval", "pipeline" if several else "unlearn"]
    words += [word for key, value in given if value is not None for word in (f"--{key}", str(value))]
    words += [f"--{name.replace('_', '-')}" for name in SWITCHES if config.get(name) is True]
    return one_line(shlex.join(words))


def _settings(card: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    """Return options and values of the training; ``before`` goes before a method's own parameters."""
    config, method, training = (part(card, key) for key in ("config", "method", "training"))
    given = [("tokenizer", config.get("tokenizer")), ("training-dtype", training.get("dtype"))]
    given += [(key.replace("_", "-"), training.get(key)) for key in ("lr", "epochs", "batch_size", "max_len")]
    given += [("micro-batch-size", config.get("micro_batch_size"))]
    given += [("lambda", method.get("lambda")), ("lora", pairs(part(card, "lora")).replace(" ", "") or None)]
    given += [("optim", config.get("optim"))]
    return given + [
        ("set", f"{before}{key}={json.dumps(value)}") for key, value in part(method, "params").items()
    ]


def target(card: Mapping[str, Any]) -> str:
    """Return the model that was unlearned: its hub id, or its folder's name."""
    model, revision = str(part(card, "config").get("model")), part(card, "target").get("revision")
    return Path(model).resolve().name if revision is None else f"{model.partition('@')[0]}@{revision}"


def pairs(values: Mapping[str, Any]) -> str:
    """Return values by name as one reads them, and as ``--lora`` takes them without its spaces."""
    return ", ".join(f"{key}={value}" for key, value in values.items())
