"""Checks a card: exactness, scoring and training against the floor, memory. Needs no download, no pytest.

Stage by stage, at most nine minutes in all; a second call does only what is missing. The result is
``gpu-check.json`` and the same as Markdown, to be pasted into docs/performance.md.
"""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu.stages import LIMITS, child

NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "tokenizers": "tokenizers",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "psutil": "psutil",
    "safetensors": "safetensors",
}
"""Module to package."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    made.add_argument("--shape", default="7b", help="sizes of the random model: tiny, 1m … 1b, 3b, 7b")
    made.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    made.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of the result")
    made.add_argument("--data-dir", type=Path, help="MUSE's data; else made-up texts of the same lengths")
    made.add_argument("--task", default="muse_news", help="whose data that is")
    made.add_argument("--only", action="append", choices=LIMITS, metavar="STAGE", help=", ".join(LIMITS))
    made.add_argument("--again", action="store_true", help="do the stages again that are done")
    made.add_argument(
        "--limit", action="append", default=[], metavar="STAGE=SECONDS", help="what a stage may take"
    )
    made.add_argument("--apart", action="store_true", help="a process for each stage on a CPU too")
    made.add_argument("--stage", help=argparse.SUPPRESS)
    made.add_argument("--make-small", type=Path, help=argparse.SUPPRESS)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the check; return 0, 1 where exactness failed, 2 where nothing could be measured."""
    given = parser().parse_args(arguments)
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    if given.device == "cpu":
        # transformers' Trainer would take a GPU that it sees; heeded only before torch looks for one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if given.stage:
        child(given.stage)
        return 0
    if given.make_small:
        from benchmarks.gpu.small import make_models

        make_models(given.make_small)
        return 0
    from benchmarks.gpu.check import check
    from muse_eval.errors import UserError

    try:
        return check(given)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
