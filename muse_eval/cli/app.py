"""The command line: options, printing and exit codes; what is done is done elsewhere."""

import json
import os
import signal
import sys
from pathlib import Path
from threading import Timer
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import muse_eval
from muse_eval.cli import data, finetune, lists, pipeline, show, sweep, tune, unlearn
from muse_eval.cli.options import (
    BaseUrlOption,
    CodeOption,
    DataOption,
    JsonOption,
    KeyOption,
    ModelOption,
    OverwriteOption,
    PickleOption,
    QuietOption,
    ResultsOption,
    RetrainOption,
    SetOption,
    TaskOption,
    TokenizerOption,
    TruncateOption,
    note,
    split,
    warn,
)
from muse_eval.cli.table import print_table
from muse_eval.cli.unlearn import several
from muse_eval.errors import Terminated, UserError, unknown_name


class Verbs(TyperGroup):
    """Turns what the user can mend into one line and exit code 2, Ctrl-C into 130 and SIGTERM into 143."""

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            print(f"muse-eval: error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stopped:
            print("muse-eval: stopped; the same command goes on from here", file=sys.stderr)
            raise typer.Exit(143 if isinstance(stopped, Terminated) else 130) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Has a language model really unlearned? The scores of MUSE (arXiv 2407.06460).",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Do what every verb shares."""
    # Waiting OpenMP threads otherwise spin, and on busy cores torch then crawls.
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    # torch's own warnings of a machine's memory layout, which vLLM sets off, say nothing to a user.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if version:
        print(muse_eval.__version__)
        raise typer.Exit


@app.command()
def run(
    model: ModelOption,
    task: TaskOption = None,
    engine: Annotated[str, typer.Option(help="`auto` or one of `muse-eval list engines`.")] = "auto",
    retrain: RetrainOption = None,
    data_dir: DataOption = None,
    tokenizer: TokenizerOption = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    model_revision: Annotated[
        str | None, typer.Option(help="What pins a served model; else the row says unpinned.")
    ] = None,
    retrain_base_url: Annotated[
        str | None, typer.Option(help="Server of the retrain model; else --base-url.")
    ] = None,
    retrain_revision: Annotated[str | None, typer.Option(help="What pins a served retrain model.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Columns, comma-separated (`verbmem_f,privleak`); else all.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name; else the model's.")] = None,
    results: ResultsOption = Path("results"),
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    limit: Annotated[int | None, typer.Option(help="Only the first N examples; flagged.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the intervals.")] = 0,
    truncate: TruncateOption = False,
    settings: SetOption = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no answers on disk.")] = False,
    overwrite: OverwriteOption = False,
    allow_pickle: PickleOption = False,
    trust_remote_code: CodeOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score a model on a task.

    Example: `muse-eval run --model OPTML-Group/SimNPO-MUSE-Books-iclm-7b`
    """
    from muse_eval.config.run import RunConfig
    from muse_eval.config.settings import parse_settings
    from muse_eval.config.spec import build
    from muse_eval.progress import display
    from muse_eval.scoring.run import run as score
    from muse_eval.types import ignore

    config = build(
        RunConfig,
        "run",
        model=model,
        task=task,
        engine=engine,
        retrain=retrain,
        data_dir=data_dir,
        tokenizer=tokenizer,
        base_url=base_url,
        api_key_env=api_key_env,
        model_revision=model_revision,
        retrain_base_url=retrain_base_url,
        retrain_revision=retrain_revision,
        metrics=split(metrics, "--metrics"),
        name=name,
        results=results,
        dtype=dtype,
        limit=limit,
        seed=seed,
        truncate=truncate,
        settings=parse_settings(settings or []),
        cache=not no_cache,
        overwrite=overwrite,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    with display(quiet) as progress:
        outcome = score(
            config, progress=progress, warn=warn, note=ignore if quiet else note, tell=progress.tell
        )
    folder = outcome.folder
    if as_json:
        print((folder / "result.json").read_text(encoding="utf-8"), end="")
    else:
        print_table([folder])
        print(f"engine: {outcome.engine}")
        print(f"evidence: {folder}/result.json and records.jsonl")


@app.command()
def leaderboard(
    results: ResultsOption = Path("results"),
    out: Annotated[
        Path | None, typer.Option(help="File to write, `-` for standard output; else RESULTS/leaderboard.*")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv or md.")] = "csv",
    published: Annotated[
        Path | None, typer.Option(help="CSV of published numbers to add as a block, with their source.")
    ] = None,
) -> None:
    """Regenerate the leaderboard from the results folder: the same runs give the same bytes.

    What a file that is there loses by it is told.

    Example: `muse-eval leaderboard --format md --published results/project/published.csv --out -`
    """
    from muse_eval.results.replaced import replaced
    from muse_eval.results.rows import rows
    from muse_eval.results.runs import load_all, load_published, write_files
    from muse_eval.results.tables import to_csv, to_markdown

    if form not in ("csv", "md"):
        raise unknown_name("format", form, ("csv", "md"))
    target = out or results / f"leaderboard.{form}"
    if target.is_dir():
        raise UserError(f"{target} is a folder; --out must name a file")
    found = rows(load_all(results, warn))
    if not found:
        raise UserError(f"{results} holds no run; score a model first: muse-eval run --model …")
    elsewhere = load_published(_located(published)) if published else []
    text = to_csv(found, elsewhere) if form == "csv" else to_markdown(found, elsewhere)
    if str(target) == "-":
        print(text, end="")
    else:
        before = target.read_text(encoding="utf-8", errors="replace") if target.exists() else text
        write_files(target.parent, {target.name: text})
        print(f"{target}: {len(found)} runs")
        if lost := replaced(before, text):
            print(lost)


def _located(path: Path) -> Path:
    """Return where a file lies that the project has one of as well, and say so where it is the project's."""
    from muse_eval.results.project_files import locate

    found = locate(path)
    if found != path:
        note(f"{path} is not there; reading the project's own, {found}")
    return found


@app.command()
def check(
    baseline: Annotated[Path, typer.Option(help="File of expected values.")] = Path("results/baseline.json"),
    results: ResultsOption = Path("results"),
    only: Annotated[
        str | None,
        typer.Option(
            help="Runs of the baseline to compare, comma-separated: `muse_mini/target,muse_mini/npo*`."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Every run of the baseline must be there, else exit 2.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Take what was measured as expected.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fail when a metric regressed: exit 0 fine, 1 regression, 2 cannot tell.

    What of the baseline was not scored here is named and left out; with --only or --all it must be there.

    Example: `muse-eval check --baseline results/project/baseline.json`
    """
    from muse_eval.results import gate as checking
    from muse_eval.results import gate_lines as reading
    from muse_eval.results.project_files import locate
    from muse_eval.results.runs import load_all, write_files

    found = load_all(results, warn)
    if update:
        if only is not None or whole:
            given = "--all" if only is None else "--only"
            raise UserError(f"{given} compares, --update takes over what was measured; leave one of them out")
        known, theirs = checking.load_baseline(baseline) if baseline.exists() else None, locate(baseline)
        made = checking.make_baseline(found, known=known)
        write_files(baseline.parent, {baseline.name: checking.baseline_text(made)})
        print(f"{baseline}: {len(made.runs)} runs")
        if theirs != baseline:
            note(f"from now on that is what is compared with, not the project's own, {theirs}")
        return
    expected = checking.load_baseline(_located(baseline))
    if only is not None:
        expected = checking.only(expected, split(only, "--only"))
        found = [result for result in found if result.key in expected.runs]
    report = checking.compare(found, expected, whole=whole or only is not None)
    if as_json:
        print(json.dumps(reading.to_json(report), indent=2, ensure_ascii=False))
    else:
        print("\n".join([*reading.lines(report), reading.summary(report)]))
    raise typer.Exit(report.exit_code)


app.command()(finetune.finetune)
app.command()(unlearn.unlearn)
app.command()(pipeline.pipeline)
app.command()(sweep.sweep)
app.command()(tune.tune)
app.command()(show.show)
app.command("list")(lists.list_things)
app.add_typer(data.data_app, name="data")
app.add_typer(lists.cache_app, name="cache")


def main() -> None:
    """Start the command line."""
    # One of several processes is left to its launcher, which ends all of them when one has failed.
    if not several() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _stop_again
    app()


def _terminate(*_: object) -> None:
    # A second one ends the process at once, whatever the tidying up does.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def _stop_again(ignored: Any) -> None:
    """Stop at the next chance where Python dropped the request, as it does within a ``__del__``."""
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    number = signal.SIGINT
    if issubclass(ignored.exc_type, Terminated):
        number = signal.SIGTERM
        signal.signal(number, _terminate)
    # Raised here it would be dropped once more; a moment later the main thread is elsewhere.
    Timer(0.05, os.kill, [os.getpid(), number]).start()
