"""Options that several verbs share, and how a verb warns."""

import sys
from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option(help="Hub id (`owner/name`, `@revision` pins) or folder.")]
TaskOption = Annotated[str | None, typer.Option(help="Task name or YAML file; else read off the model.")]
DataOption = Annotated[Path | None, typer.Option(help="Data in the layout of MUSE's own loader.")]
ResultsOption = Annotated[Path, typer.Option(help="Results folder.")]
TokenizerOption = Annotated[
    str | None, typer.Option(help="Folder or hub id; else the model's own, else the task's.")
]
BaseUrlOption = Annotated[
    str | None, typer.Option("--base-url", help="Server that answers for the model: `http://host:8000/v1`.")
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key-env", help="Environment variable that holds the server's key.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="`engine.NAME=VALUE` or `COLUMN.PARAMETER=VALUE`; repeatable."),
]
TruncateOption = Annotated[
    bool, typer.Option("--truncate", help="Cut what the context cannot hold; flagged.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a result that other settings made.")
]
PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Load pickled weights, which can run code.")
]
CodeOption = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the code that a model repository carries.")
]


def note(message: str) -> None:
    """Print a decision on standard error."""
    print(f"muse-eval: {message}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    print(f"muse-eval: warning: {message}", file=sys.stderr)
