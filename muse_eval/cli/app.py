"""The command line as a whole: its verbs in order, and signals."""

import logging
import os
import signal
import sys
from threading import Timer
from typing import Annotated, Any

import typer

import muse_eval
from muse_eval import late
from muse_eval.cli import (
    check,
    compare,
    data,
    finetune,
    leaderboard,
    lists,
    pipeline,
    probe,
    report,
    run,
    show,
    sweep,
    tune,
    unlearn,
)
from muse_eval.cli.ending import Verbs, say_no_more
from muse_eval.cli.unlearn import several
from muse_eval.errors import Terminated

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
    # transformers imports these where they are installed, and they tell of kernels for other machines.
    for name in ("torchao", "torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if version:
        print(muse_eval.__version__)
        raise typer.Exit


app.command()(run.run)
app.command()(leaderboard.leaderboard)
app.command()(compare.compare)
app.command()(check.check)
app.command()(finetune.finetune)
app.command()(unlearn.unlearn)
app.command()(pipeline.pipeline)
app.command()(probe.probe)
app.command()(sweep.sweep)
app.command()(tune.tune)
app.command()(show.show)
app.command()(report.report)
app.command("list")(lists.list_things)
app.add_typer(data.data_app, name="data")
app.add_typer(lists.cache_app, name="cache")


def main() -> None:
    """Be the command line, and end the process with its exit code."""
    late.start()
    # One of several processes is left to its launcher, which ends all of them when one has failed.
    if not several() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _stop_again
    with late.ended_at_once():
        try:
            app()
        finally:
            say_no_more()


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
