"""The end of a process: at once, without taking apart what it loaded."""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Spare a process that ends by the ``SystemExit`` raised within this what Python does last.

    Threads are waited for, what packages register from here on for the end is done, and what waits on
    standard output and error is written. Python would then take apart every module and collect garbage, a
    tenth of a small run's time with torch and transformers loaded, and give memory back that the system
    takes anyway. The process ends with that exit code; where there is none, or what waits cannot be written,
    as ever.
    """
    codes: list[int] = []

    def end() -> None:
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except (AttributeError, OSError, ValueError):  # None, full or closed: Python's own end has a word.
            return
        if codes:
            os._exit(codes[0])

    atexit.register(end)  # What is registered first is done last.
    try:
        yield
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            codes.append(left.code or 0)
        raise
