"""The verbs about a task's data: data show, verify, export."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_eval.cli.data_init import init
from muse_eval.cli.lists import print_columns
from muse_eval.cli.options import DataOption, JsonOption, TaskNameOption, warn
from muse_eval.config import Spec
from muse_eval.errors import UserError
from muse_eval.printable import print_json

data_app = typer.Typer(no_args_is_help=True, help="Look at a task's data, check it, copy it, make it.")
data_app.command()(init)


def _open(task: str, data_dir: Path | None) -> Any:
    from muse_eval import plugins
    from muse_eval.data import open_data

    spec = plugins.task(task)
    return spec, open_data(spec, data_dir)


def _names(data: Any, data_dir: Path | None) -> list[str]:
    names: list[str] = data.names()
    if not names:
        where = "the task's source" if data_dir is None else f"--data-dir {data_dir}"
        raise UserError(f"{where} has no split at all; give a folder in the layout of MUSE's loader")
    return names


@data_app.command()
def show(
    task: TaskNameOption,
    data_dir: DataOption = None,
    split: Annotated[str | None, typer.Option(help="Print this split's rows as JSON lines.")] = None,
) -> None:
    """List a task's splits, or print one.

    Example: `muse-eval data show --task muse_mini --split knowmem/forget_qa`
    """
    spec, data = _open(task, data_dir)
    if split is not None:
        for row in data.split(split).rows:
            print_json(dict(row), indent=None)
        return
    scored = {name for column in spec.columns.values() for name in column.splits.values()}
    forget_sets = spec.forget_sets.forget if spec.forget_sets else []
    lines = []
    for name in _names(data, data_dir):
        found = data.split(name)
        lines.append(
            {
                "split": name,
                "rows": f"{len(found.rows)} row{'' if len(found.rows) == 1 else 's'}",
                "bytes": f"{found.fingerprint.num_bytes} bytes",
                "sha256": found.sha256[:12],
                "use": "scored" if name in scored else "forget set" if name in forget_sets else "",
                "blank": f"{len(found.blank)} blank" if found.blank else "",
            }
        )
    print_columns(lines)


@data_app.command()
def verify(
    task: TaskNameOption,
    data_dir: DataOption = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder or hub id: also count tokens, and say what fits its model's context."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where anything is suspicious.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a task's data before models are trained or scored on them.

    Compares every split with the task's fingerprints, warns of what is missing or suspicious (texts on both
    sides, questions among their own examples, truths too short …), and says how far forget and holdout
    differ without any model. With a tokenizer, says how many tokens prompts, truths, answers, texts and
    training rows have, and which do not fit. Exit 0 all there, 1 a scored split is missing or differs.

    Example: `muse-eval data verify --task muse_news --data-dir data/news --tokenizer models/target`
    """
    from muse_eval.data import verify
    from muse_eval.data.splits import verify as compare
    from muse_eval.scoring import lengths

    spec, data = _open(task, data_dir)
    tokens = None if tokenizer is None else lengths.load(tokenizer)
    verdicts = compare(spec, data)
    splits = verify.read(spec, data)
    model_free_aucs = verify.differences(spec, splits)
    found = verify.examine(spec, splits, model_free_aucs)
    counted: tuple[lengths.Length, ...] = ()
    if tokens is not None:
        counted, unfit = lengths.measure(spec, splits, tokens)
        found = (*lengths.replaced(found, counted), *unfit)
    if as_json:
        told = {"splits": verdicts, "shifts": model_free_aucs, "lengths": counted, "suspicions": found}
        lines = {what: [_plain(one) for one in each] for what, each in told.items()}
        print_json(lines)
    else:
        read = (data.split(one.split) for one in verdicts if one.status != "missing")
        blank = [said for split in read if (said := split.say_blank())]
        print(
            "\n".join([*map(_verdict_line, verdicts), *blank, *map(str, model_free_aucs), *map(str, counted)])
        )
        for finding in found:
            warn(str(finding))
    wrong = [
        v for v in verdicts if v.status == "differs" or (v.status == "missing" and v.split in spec.needed)
    ]
    if wrong or (strict and found):
        raise typer.Exit(1)


def _verdict_line(verdict: Any) -> str:
    found, expected = verdict.found, verdict.expected
    sizes = "" if found is None else f"{found.rows} rows, {found.num_bytes} bytes"
    wanted = ""
    if verdict.status == "differs" and expected is not None:
        wanted = f" (expected {expected.rows} rows, {expected.num_bytes} bytes)"
    return f"{verdict.split}: {verdict.status} {sizes}{wanted}".rstrip()


def _plain(found: Any) -> dict[str, Any]:
    """Return a verdict, a model-free AUC, a length or a finding for JSON."""
    specs = {key: value.model_dump() for key, value in vars(found).items() if isinstance(value, Spec)}
    return {**asdict(found), **specs}


@data_app.command()
def export(
    task: TaskNameOption,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    data_dir: DataOption = None,
) -> None:
    """Write a task's splits as JSON, in the layout that `--data-dir` reads.

    Example: `muse-eval data export --task muse_mini --out data/mini`
    """
    from muse_eval.data import export as write

    _, data = _open(task, data_dir)
    written = write(data, _names(data, data_dir), out)
    print(f"{out}: {len(written)} splits")
