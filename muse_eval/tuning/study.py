"""A tune's Optuna study: which setting is next, and what came of each, in a database that survives a kill.

SQLite commits each change whole and its locks die with the process, where Optuna's journal file leaves a lock
behind. Points of a grid are enqueued rather than left to ``GridSampler``, which takes a trial that failed for
done, shuffles the order, and cannot be asked and told one trial at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from muse_eval.config import fingerprint
from muse_eval.errors import UserError, first_line
from muse_eval.tuning.grid import Axis, Point, points

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial


class Study:
    """The trials of one grid, compared in one way."""

    def __init__(self, study: OptunaStudy, axes: Sequence[Axis], seed: int) -> None:
        self._study, self._axes, self._seed = study, axes, seed
        self._space = {axis.name: distribution(axis) for axis in axes}

    def ended(self) -> list[Point]:
        """Return the points of the trials that have ended, in their order; one tried again is there twice."""
        return [self._point(one) for one in self._ended()]

    def tell(self, number: int, value: float | None, failed: bool) -> None:
        """Record what came of a trial; one that has no value though it did not fail counts as pruned."""
        from optuna.trial import TrialState

        if value is not None:
            self._study.tell(number, value)
        else:
            self._study.tell(number, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def queue(self, settled: Callable[[Point], bool], trials: int | None) -> Iterator[tuple[int, Point]]:
        """Yield number and point of each trial to run; the one before must have been told of.

        First the trial that was running when its process died, then what is missing of the grid, or
        what failed and may be tried again; then as many sampled ones as are wanted.

        Args:
            settled: says whether a point's outcome stands.
            trials: how many to sample in all; None: none, the grid alone.
        """
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        tried: list[Point] = []
        for one in self._study.get_trials(states=(TrialState.RUNNING,)):
            if self._is_whole(one):
                tried.append(self._point(one))
                yield one.number, self._point(one)
            else:
                # Killed before its point was written down.
                self._study.tell(one.number, state=TrialState.FAIL)
        # At most one: a point was enqueued, and the process died before it asked for it.
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            number, point = self._ask()
            tried.append(point)
            yield number, point
        ended = self.ended()
        for point in points(self._axes) if trials is None else ended:
            # Another grid's outcome of a point stands too, but this study has yet to be told of it.
            if point not in tried and not (point in ended and settled(point)):
                self._study.enqueue_trial(dict(point))
                tried.append(point)
                yield self._ask()
        for count in range(self._counted(), trials or 0):
            # Seeded by the count, so that a resumed search samples what an uninterrupted one would.
            self._study.sampler = TPESampler(seed=_seed(self._seed, count))
            yield self._ask()

    def _ask(self) -> tuple[int, Point]:
        trial = self._study.ask(self._space)
        return trial.number, self._point(trial)

    def _ended(self) -> list[FrozenTrial]:
        found = self._study.get_trials(deepcopy=False)
        return [one for one in found if one.state.is_finished() and self._is_whole(one)]

    def _counted(self) -> int:
        """Return how many trials count as made: one that failed and was tried again counts once."""
        failed = [self._point(one) for one in self._ended() if one.state.name == "FAIL"]
        others = [self._point(one) for one in self._ended() if one.state.name != "FAIL"]
        lost = [point for index, point in enumerate(failed) if point not in [*failed[:index], *others]]
        return len(others) + len(lost)

    def _is_whole(self, trial: FrozenTrial) -> bool:
        return trial.params.keys() == self._space.keys()

    def _point(self, trial: Trial | FrozenTrial) -> Point:
        return {name: trial.params[name] for name in self._space}


def _seed(seed: int, count: int) -> int:
    """Return a trial's own 32-bit seed, which no trial of a neighbouring seed has."""
    return int(fingerprint([seed, count])[:8], 16)


def distribution(axis: Axis) -> BaseDistribution:
    """Return what Optuna samples an axis from: a range of learning rates evenly in their logarithm."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not axis.span:
        return CategoricalDistribution(axis.values)
    low, high = (value for value in axis.values if not isinstance(value, str))
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=axis.name == "lr")


@contextmanager
def open_study(path: Path, name: str, axes: Sequence[Axis], seed: int) -> Iterator[Study]:
    """Open the study of that name, made where it is not there yet, in a database that may hold others.

    Raises:
        UserError: the database cannot be read or written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        # Not by a URL of the path, whose ? and # would have meanings of their own.
        connect = partial(sqlite3.connect, path)
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        yield Study(study, axes, seed)
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise UserError(
            f"Optuna cannot use {path} ({first_line(error)}); free some space, or move the file away: "
            "what is finished is found without it"
        ) from None
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(before)
