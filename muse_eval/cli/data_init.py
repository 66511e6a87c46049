"""The verb ``data init``: a corpus of one's own, from texts to everything that a task reads."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_eval.errors import UserError

TEXTS = "a .txt file (one text), a folder of them (one each), JSON or JSON lines"


def init(
    out: Annotated[Path, typer.Argument(help="Folder to make: the splits, and the task's YAML.")],
    forget: Annotated[Path, typer.Option(help=f"Texts to be forgotten: {TEXTS}.")],
    retain: Annotated[Path, typer.Option(help="Texts to be kept, likewise.")],
    holdout: Annotated[
        Path | None, typer.Option(help="Texts that no model has read; else drawn from the forget texts.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="CSV with the columns question, answer, side (forget or retain).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The task's name; else the folder's.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or hub id: lengths are its tokens, not words.")
    ] = None,
    prompt_length: Annotated[int | None, typer.Option(min=1, help="Of a VerbMem prompt.")] = None,
    truth_length: Annotated[
        int | None, typer.Option(min=1, help="Of a VerbMem truth, and the tokens a model answers with.")
    ] = None,
    piece_length: Annotated[int | None, typer.Option(min=1, help="Of a text of PrivLeak.")] = None,
    holdout_share: Annotated[float, typer.Option(help="Of the forget texts, drawn for holdout.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier `data init` made in OUT.")
    ] = False,
) -> None:
    """Make a corpus of your own: every split, and the YAML of a task over them.

    Cuts VerbMem examples and PrivLeak pieces from the texts, draws holdout and in-context pairs, and leaves
    out the columns that nothing is there for. The same texts and options give the same bytes.

    Example: `muse-eval data init my-town --forget articles --retain others --questions questions.csv`
    """
    from muse_eval import plugins
    from muse_eval.data import make_corpus, plan_rows, task_yaml
    from muse_eval.data.corpus import files

    files.check_free(out, overwrite)
    given = {"--forget": forget, "--retain": retain, "--holdout": holdout, "--questions": questions}
    for option, place in given.items():
        if place is not None:
            files.check_apart(place, option, out)
    task = _name(name or out.name, plugins.task_names())
    if not 0 < holdout_share < 1:
        raise UserError(f"--holdout-share {holdout_share}: give a share between 0 and 1")
    how = _making(tokenizer, prompt_length, truth_length, piece_length, holdout_share, seed)
    corpus = make_corpus(
        files.read_texts(forget, "--forget"),
        files.read_texts(retain, "--retain"),
        None if holdout is None else files.read_texts(holdout, "--holdout"),
        None if questions is None else files.read_questions(questions),
        how,
    )
    rows = plan_rows(corpus, how)
    source = f"{forget.name} (to be forgotten) and {retain.name} (to be kept)"
    files.write_corpus(out, corpus.splits, f"{task}.yaml", task_yaml(task, source, corpus, rows))
    print("\n".join([*corpus.told, *corpus.left_out, f"rows: {rows}", ""]))
    print(_next(out / f"{task}.yaml", len(corpus.splits)))


def _name(name: str, known: list[str]) -> str:
    """Return the task's name, or say why it cannot be one."""
    from muse_eval.results.runs import check_folder_name

    check_folder_name("task", name)
    if name in known:
        raise UserError(f"{name} is a built-in task; give yours another --name")
    return name


def _making(tokenizer: str | None, *lengths_share_seed: Any) -> Any:
    """Return how the corpus is made, in words or in a tokenizer's tokens."""
    from muse_eval.data import Making, by_tokens, by_words

    if tokenizer is None:
        return Making(by_words, "words", *lengths_share_seed)
    from muse_eval.engines.loading import load_tokenizer

    return Making(by_tokens(load_tokenizer(None, tokenizer, ())), "tokens", *lengths_share_seed)


def _next(task: Path, splits: int) -> str:
    """Return what was written, and the commands that come next."""
    name, home = shlex.quote(str(task)), f"models/{task.stem}"
    target, retrain = (shlex.quote(f"{home}/{role}") for role in ("target", "retrain"))
    made = "muse-eval finetune --role {} --model BASE --task {} --out {}"
    return "\n".join(
        [
            f"{task.parent}: {splits} splits and {task.name}. Next, with a causal model of yours as BASE:",
            f"  muse-eval data verify --task {name} --tokenizer BASE",
            f"  {made.format('target', name, target)}",
            f"  {made.format('retrain', name, retrain)}",
            f"  muse-eval pipeline --task {name} --target {target} --retrain {retrain} --methods simnpo_gdr",
            f"The lr in {task.name} suits some billion parameters; 135 million need about --lr 2e-4 to learn "
            "and 5e-5 to unlearn.",
        ]
    )
