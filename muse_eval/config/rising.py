"""Numbers of steps in rising order, as they are typed and checked."""

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator

from muse_eval.config.spec import PositiveInt


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError("they must rise, as [10,25,50] do")
    return steps


Rising = Annotated[tuple[PositiveInt, ...], AfterValidator(_rising)]
"""Numbers of optimiser steps, each larger than the one before."""
