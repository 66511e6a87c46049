"""An unlearned model's card, ``README.md``: how it was made, and its scores as the hub reads them."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muse_eval import plugins
from muse_eval.errors import UserError, counted
from muse_eval.folders import write_whole, writing
from muse_eval.printable import one_line
from muse_eval.results import StoredResult, part
from muse_eval.results.captions import data, data_digest
from muse_eval.results.cells import markdown_text
from muse_eval.results.grid import remarks
from muse_eval.results.rows import headings, row, task_spec, title
from muse_eval.unlearning.cards import read_card
from muse_eval.unlearning.command import command, pairs, target

README = "README.md"
TAGS = ["machine-unlearning", "muse"]
COMPOSED = "composed.json"
_OWN = re.compile(r"(.*)<!-- Written by muse-eval; SHA-256 of all above: ([0-9a-f]{64}) -->\n", re.DOTALL)


def write_model_card(folder: Path, name: str, card: Mapping[str, Any]) -> None:
    """Write the model card of a model that has no scores yet.

    Args:
        folder: where the model is.
        name: what it will be called.
        card: the content of its ``unlearn.json``.
    """
    write_whole(folder / README, model_card(name, card, None, (folder / COMPOSED).exists()))


def add_scores(folder: Path, run: StoredResult) -> None:
    """Write a run's scores into a model's card; a card that is not muse-eval's own, or was edited, stays.

    Raises:
        UserError: the folder cannot be written.
    """
    path, card = folder / README, read_card(folder)
    try:
        before = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    found = _OWN.fullmatch(before)
    if card is None or found is None or _digest(found[1]) != found[2]:
        return
    after = model_card(folder.resolve().name, card, run, (folder / COMPOSED).exists())
    if after != before:
        with writing(folder):
            write_whole(path, after)


def model_card(name: str, card: Mapping[str, Any], run: StoredResult | None, composed: bool = False) -> str:
    """Return a model card's text.

    Args:
        name: the model's.
        card: the content of its ``unlearn.json``.
        run: its scores; None: there are none yet.
        composed: whether it is two models in one folder, which transformers alone cannot load.
    """
    head = _metadata(name, card, run, composed)
    body = "\n".join([*_made(name, card), *_scores(run), *_command(name, card, run)])
    text = f"---\n{head}\n---\n\n{body}\n"
    return f"{text}<!-- Written by muse-eval; SHA-256 of all above: {_digest(text)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _metadata(name: str, card: Mapping[str, Any], run: StoredResult | None, composed: bool) -> str:
    from huggingface_hub import ModelCardData

    origin = part(card, "config")
    on_hub = part(card, "target").get("revision") is not None
    found = ModelCardData(
        base_model=one_line(str(origin.get("model")).partition("@")[0]) if on_hub else None,
        datasets=_datasets(run),
        library_name=None if composed else "transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        model_name=one_line(name),
        eval_results=_results(run),
    )
    return str(found.to_yaml())


def _datasets(run: StoredResult | None) -> list[str] | None:
    """Return the hub's data set, of a task that it alone stands for: a model's task is read off it."""
    spec = task_spec(run.task) if run else None
    if run is None or spec is None or spec.base is not None:
        return None
    found = part(run.config, "data")
    return [str(found["repo"])] if found.get("source") == "hub" and found.get("repo") else None


def _results(run: StoredResult | None) -> list[Any] | None:
    """Return the defined scores as the hub's evaluation results; None where there is none."""
    from huggingface_hub import EvalResult

    if run is None:
        return None
    shown = row(run)
    known, asked_of = headings(run.task, [shown]), part(run.config, "data")
    metrics = part(part(run.config, "task"), "columns")
    found = [
        EvalResult(
            task_type="text-generation",
            task_name="Machine unlearning (MUSE)",
            dataset_type=one_line(str(asked_of.get("repo") or run.task)),
            dataset_name=title(run.task, [shown]),
            dataset_revision=asked_of.get("revision"),
            dataset_args={"sha256": data_digest(asked_of)} if asked_of else None,
            metric_type=one_line(str(part(metrics, name).get("metric", name))),
            metric_name=one_line(known[name].title),
            metric_config=one_line(name),
            metric_value=column.value,
            metric_args={
                "unit": "percent",
                **({"ci95": list(column.ci)} if column.ci else {}),
                "n": column.n,
                "flags": [one_line(flag) for flag in column.flags],
            },
        )
        for name, column in run.columns.items()
        if column.value is not None
    ]
    return found or None


# ── the text ─────────────────────────────────────────────────────────────────────────────────────
def _made(name: str, card: Mapping[str, Any]) -> Iterable[str]:
    config, method, start = (part(card, key) for key in ("config", "method", "target"))
    full = str(config.get("method", method.get("loss")))
    texts = {kind: part(part(card, "data"), kind) for kind in ("forget", "retain")}
    yield f"# {markdown_text(name)}\n"
    yield (
        "An unlearned model: its base model, made to forget part of what it was trained on by the method "
        f"{markdown_text(full)}. Made with muse-eval.\n"
    )
    lines = {
        "base model": f"{target(card)}, weights SHA-256 {start.get('weights')}",
        "task": config.get("task"),
        "method": f"{full}: {_summary(full)}",
        "parameters": pairs(part(method, "params")),
        "retain term": {
            "nll": "NLL on retain",
            "kl": "KL to the target on retain",
            "own": "the method's own",
        }.get(str(method.get("retain"))),
        "λ": method.get("lambda"),
        "training": pairs(part(card, "training")),
        "adapters": pairs(part(card, "lora")),
        "optimizer": pairs(part(card, "optimizer")),
        **{
            f"{kind} texts": f"{found.get('texts')}, SHA-256 {found.get('sha256')}"
            for kind, found in texts.items()
            if found
        },
        "recipe": card.get("fingerprint"),
    }
    yield "| | |\n| --- | --- |"
    yield from (
        f"| {what} | {markdown_text(str(said))} |" for what, said in lines.items() if said not in (None, "")
    )


def _scores(run: StoredResult | None) -> Iterable[str]:
    yield "\n## Scores\n"
    if run is None:
        yield "Not scored yet."
        return
    shown = row(run)
    known = headings(run.task, [shown])
    yield "| column | score, percent | 95 % interval | n | flags |\n| --- | ---: | ---: | ---: | --- |"
    notes: dict[str, None] = {}
    for name, column in run.columns.items():
        notes |= dict.fromkeys(remarks(column))
        value = "n/a" if column.value is None else f"{round(column.value, 2) + 0.0:.2f}"
        interval = f"{column.ci[0]:.2f} to {column.ci[1]:.2f}" if column.ci else ""
        cells = (known[name].title, value, interval, str(column.n), ", ".join(column.flags))
        yield f"| {' | '.join(map(markdown_text, cells))} |"
    yield ""
    engine = f"{shown['engine']} {shown['dtype']}".strip() or "not stored"
    limit = "" if shown["limit"] is None else f"; first {counted(shown['limit'], 'example')} of each split"
    told = [*notes, *shown["notes"].values(), f"data: {data(run) or 'not stored'}; engine: {engine}{limit}"]
    yield from (f"- {markdown_text(note)}" for note in told)


def _command(name: str, card: Mapping[str, Any], run: StoredResult | None) -> Iterable[str]:
    """Yield how the model is made again."""
    said = command(card, run, name)
    if not said:
        return
    yield "\n## Made again by\n"
    yield f"```\n{said}\n```\n"
    yield (
        "A model or a task on disk is named by its folder or file alone; data that are neither on the hub "
        "nor built in are given with `--data-dir`. With the same version of muse-eval and the same texts, "
        "`fingerprint` in the new model's `unlearn.json` is the recipe above."
    )


def _summary(method: str) -> str:
    try:
        return plugins.method_summary(method)
    except (UserError, OSError):
        return ""
