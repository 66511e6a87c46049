"""Which models a sweep scores, and what their runs are called: lists, globs, folders and hub ids."""

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from muse_eval.engines.checkpoint import hub_ref, is_folder, model_folder
from muse_eval.errors import UserError
from muse_eval.reading import read_text, typed_path


def read_models(given: Sequence[str]) -> dict[str, str]:
    """Return the models of a sweep by the names of their runs, in the order given.

    Args:
        given: folders and hub ids, with or without ``NAME=`` in front; globs of folders; text files with one
            of these a line, in which ``#`` begins a comment. A relative folder in a file is relative to the
            working directory, as it is on the command line.

    Raises:
        UserError: a file or folder does not exist, a file or glob names nothing, a model is given twice, or
            two models would have the same name.
    """
    models: dict[str, str] = {}
    seen: set[str] = set()
    for name, model in (pair for text in given for pair in _read(text)):
        identity = str(typed_path(model).resolve()) if is_folder(model) else model
        if identity in seen:
            raise UserError(f"the model {model} is given twice; name it once")
        if name in models:
            raise UserError(
                f"{models[name]} and {model} would both be called {name!r}; write NAME=MODEL for one of them"
            )
        seen.add(identity)
        models[name] = model
    return models


def model_name(model: str) -> str:
    """Return what a run is called by default: the last part of the model's hub id, or its folder's name.

    Raises:
        UserError: the folder does not exist, or it is neither a folder nor a hub id.
    """
    if not is_folder(model):
        return hub_ref(model).repo.rsplit("/", 1)[-1]
    return model_folder(model).resolve().name


def _read(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and models that one argument stands for."""
    path = typed_path(text, "model")
    if not path.is_file() and (path.suffix != ".txt" or path.is_dir()):
        yield from _expand(text)
        return
    found = 0
    for number, line in enumerate(read_text(path, "list of models").splitlines(), start=1):
        entry = re.sub(r"(^|\s)#.*", "", line).strip()
        if not entry:
            continue
        try:
            pairs = list(_expand(entry))
        except UserError as error:
            raise UserError(f"{text}:{number}: {error}") from None
        found += len(pairs)
        yield from pairs
    if not found:
        raise UserError(f"{text} names no model; write one a line")


def _expand(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and models of a glob, or of one model."""
    if not any(mark in text for mark in "*?[") or typed_path(text).exists():
        yield _named(text)
        return
    pattern = str(typed_path(text))
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path's takes no absolute pattern
    folders = [match for match in matches if Path(match).is_dir()]
    if not folders:
        raise UserError(f"no folder matches {text}; give a glob of checkpoint folders")
    for folder in folders:
        yield model_name(folder), folder


def _named(text: str) -> tuple[str, str]:
    """Split ``NAME=MODEL``; a folder whose own name holds an equals sign is a folder."""
    name, equals, model = (part.strip() for part in text.partition("="))
    if not equals or "/" in name or typed_path(text).exists():
        return model_name(text), text
    if not name or not model:
        raise UserError(f"{text!r}: write it as NAME=MODEL, or give the model alone")
    model_name(model)
    return name, model
