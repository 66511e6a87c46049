"""The whole check: which stages are missing, each run and written down, and what it comes to."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu import sheet as sheets
from benchmarks.gpu.sheet import Sheet
from benchmarks.gpu.stages import LIMITS, USUAL, Stage, apart, perform, start
from benchmarks.shapes import SHAPES
from muse_eval import provenance
from muse_eval.errors import UserError, unknown_name

PACKAGES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes")
"""Their versions stand on the sheet."""


def check(given: argparse.Namespace) -> int:
    """Run what is missing, print the page, and return the exit code.

    Raises:
        UserError: an option will not do, the shape does not fit the card, or the folder holds another check.
    """
    limits = read_limits(given.limit)
    device = choose_device(given.device)
    settings = read_settings(given, device)
    wanted = list(given.only or USUAL)
    sheet = open_sheet(given, settings, wanted)
    missing = [name for name in LIMITS if name in wanted and not is_done(sheet, name)]
    if missing and not is_done(sheet, "machine"):
        missing = ["machine", *(name for name in missing if name != "machine")]
    alone = given.apart or device == "cuda"
    # However many stages are missing, the usual ones take no longer than all of them may.
    until = time.monotonic() + sum(limits[name] for name in USUAL) - limits["small"]
    with models_on_the_way(given.out, "small" in missing and device == "cuda") as models:
        for name in missing:
            if name == "small" and models is not None:
                wait(models, until - time.monotonic())
            bound = f" (at most {limits[name]:.0f} s)" if alone else ""
            print(f"{name}{bound} …", file=sys.stderr, flush=True)
            told = tell(given, device, limits[name], sheet)
            stage = run_stage(name, told, alone)
            if name == "machine":
                check_fits(given.shape, stage)
            ended = {**sheet["stages"], name: stage}
            sheet["stages"] = {key: ended[key] for key in LIMITS if key in ended}
            sheets.write(given.out, sheet)
            print(f"{name}: {summary(stage)}", file=sys.stderr, flush=True)
    print(sheets.markdown(sheet), end="")
    print(f"written to {given.out / sheets.FILE} and {sheets.PAGE} beside it", file=sys.stderr)
    return exit_code(sheet, wanted)


# ── options ──────────────────────────────────────────────────────────────────────────────────────
def read_limits(given: list[str]) -> dict[str, float]:
    """Return each stage's limit in seconds, those given over the usual ones.

    Raises:
        UserError: one is none.
    """
    limits = {name: float(seconds) for name, seconds in LIMITS.items()}
    for one in given:
        name, _, seconds = one.partition("=")
        if name not in limits:
            raise UserError(f"--limit {one}: {unknown_name('stage', name, limits)}")
        try:
            limits[name] = float(seconds)
        except ValueError:
            raise UserError(f"--limit {one}: give it seconds: {name}=300") from None
    return limits


def choose_device(device: str) -> str:
    """Return ``cuda`` or ``cpu``.

    Raises:
        UserError: a GPU is wanted and there is none.
    """
    if device == "cpu":
        return device
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "no GPU that torch can use; with --shape tiny --device cpu the check proves that it runs, no more"
        )
    return "cuda"


def read_settings(given: argparse.Namespace, device: str) -> dict[str, Any]:
    """Return what a sheet's stages have in common.

    Raises:
        UserError: there is no such shape or folder.
    """
    if given.shape not in SHAPES:
        raise unknown_name("shape", given.shape, SHAPES)
    if given.data_dir is not None and not given.data_dir.is_dir():
        raise UserError(f"--data-dir {given.data_dir} is no folder; give one in the layout of MUSE's loader")
    known = provenance.versions("peft", "bitsandbytes")
    return {
        "shape": given.shape,
        "device": device,
        "data": f"{given.task}, --data-dir" if given.data_dir else "made-up texts",
        "commit": provenance.git_commit(),
        "versions": {name: known[name] for name in ("python", *PACKAGES) if name in known},
    }


def open_sheet(given: argparse.Namespace, settings: Mapping[str, Any], wanted: list[str]) -> Sheet:
    """Return the sheet to go on with, or a new one.

    Raises:
        UserError: the folder holds a check with other settings.
    """
    sheet = sheets.read(given.out)
    if sheet is None or (given.again and not given.only):
        return sheets.new(settings)
    sheets.check_same(sheet, settings, given.out)
    if given.again:
        sheet["stages"] = {name: one for name, one in sheet["stages"].items() if name not in wanted}
    return sheet


def is_done(sheet: Sheet, name: str) -> bool:
    """Tell whether a stage has ended, with a result or without one on purpose; one that failed has not."""
    return status(sheet, name) in ("done", "skipped")


def status(sheet: Sheet, name: str) -> str:
    """Return how a stage ended; empty where it has not been run."""
    return str(sheet["stages"].get(name, {}).get("status", ""))


# ── stages ───────────────────────────────────────────────────────────────────────────────────────
def tell(given: argparse.Namespace, device: str, seconds: float, sheet: Sheet) -> dict[str, Any]:
    """Return what a stage is told."""
    return {
        "shape": given.shape,
        "device": device,
        "out": str(given.out),
        "data_dir": str(given.data_dir) if given.data_dir else None,
        "task": given.task,
        "seconds": seconds,
        "floor": sheet["stages"].get("machine", {}).get("facts", {}),
    }


def run_stage(name: str, told: Mapping[str, Any], alone: bool) -> Stage:
    """Run a stage, in a process of its own where it is to be ``alone``."""
    out = Path(told["out"])
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as scratch:
            return (apart if alone else perform)(name, told, Path(scratch) / "rows.jsonl")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from None


@contextmanager
def models_on_the_way(out: Path, wanted: bool) -> Iterator["subprocess.Popen[bytes] | None"]:
    """Train the built-in world's models on the CPU while the card works, where a core is free for that."""
    if not wanted or (os.cpu_count() or 1) < 4:
        yield None
        return
    process = start("--device", "cpu", "--make-small", str(out))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait(models: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for the process that makes the models, then end it: a stage or a later call makes the rest."""
    try:
        models.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        models.kill()
        models.wait()


def check_fits(shape: str, machine: Stage) -> None:
    """Refuse a shape that the card cannot score.

    Raises:
        UserError: it does not fit; names the largest one that does.
    """
    memory = machine["facts"].get("memory_gib")
    if memory is None:
        return
    need = {name: needed_gib(name) for name in SHAPES}
    if need[shape] > memory:
        fitting = [name for name in need if need[name] <= memory]
        raise UserError(
            f"shape {shape} takes about {need[shape]:.0f} GiB to score, {machine['facts']['card']} has "
            f"{memory}; --shape {max(fitting, key=lambda name: need[name])} fits"
        )


def needed_gib(shape: str) -> float:
    """Return about what scoring takes in 16 bits: a shape's weights, a quarter more, and 3 GiB to work in."""
    return 1.25 * 2 * SHAPES[shape].weights / 2**30 + 3


# ── what it came to ──────────────────────────────────────────────────────────────────────────────
def summary(stage: Stage) -> str:
    """Say in one line how a stage ended."""
    if stage["status"] == "failed":
        return f"failed after {stage['seconds']:.0f} s: {stage['reason']}"
    if stage["status"] == "skipped":
        return f"skipped: {stage['rows'][0]['skipped']}"
    exact = {True: ", exact", False: ", NOT exact"}.get(stage["facts"].get("exact", ""), "")
    lost = sum("failed" in row for row in stage["rows"])
    return f"done in {stage['seconds']:.0f} s{exact}{f', {lost} rows failed' if lost else ''}"


def exit_code(sheet: Sheet, wanted: list[str]) -> int:
    """Return 1 where exactness failed, 2 where no stage has a result, else 0."""
    if not any(status(sheet, name) == "done" for name in wanted):
        return 2
    if "exactness" in wanted and not sheet["stages"]["exactness"]["facts"].get("exact"):
        return 1
    return 0
