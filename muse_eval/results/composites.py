"""One number for a whole run: named composites of the four scores, which rank checkpoints and trials.

They order what is otherwise not comparable and are never a score of MUSE's own.
"""

from collections.abc import Callable, Mapping

from muse_eval.errors import UserError, unknown_name

COLUMNS = ("verbmem_f", "knowmem_f", "privleak", "knowmem_r")
"""The scores that composites are made of, in percent."""


def balance(verbmem_f: float, knowmem_f: float, privleak: float, knowmem_r: float) -> float:
    """Return the mean of what is kept and what is gone, in percent, higher being better.

    (KnowMem Dr + [(100 − VerbMem) + (100 − KnowMem Df) + (100 − |PrivLeak|)] / 3) / 2, where a |PrivLeak|
    above 100 counts as 100.
    """
    gone = (100 - verbmem_f) + (100 - knowmem_f) + (100 - min(abs(privleak), 100))
    return (knowmem_r + gone / 3) / 2


def harmonic(verbmem_f: float, knowmem_f: float, privleak: float, knowmem_r: float) -> float:  # noqa: ARG001
    """Return the harmonic mean of 100 − VerbMem, 100 − KnowMem Df and KnowMem Dr, in percent.

    PrivLeak plays no part. A model that fails one of the three entirely gets 0.
    """
    parts = (100 - verbmem_f, 100 - knowmem_f, knowmem_r)
    return 3 / sum(1 / part for part in parts) if min(parts) > 0 else 0.0


COMPOSITES: dict[str, Callable[..., float]] = {"balance": balance, "harmonic": harmonic}


def composite(name: str, scores: Mapping[str, float | None]) -> float | None:
    """Return a composite of a run's scores, column to value in percent; None where one is undefined.

    Raises:
        UserError: there is no composite of that name, or a column that it needs was not scored.
    """
    if name not in COMPOSITES:
        raise unknown_name("composite", name, COMPOSITES)
    absent = [column for column in COLUMNS if column not in scores]
    if absent:
        raise UserError(f"composite {name} needs the columns {', '.join(absent)}; score all of the task's")
    values = {column: scores[column] for column in COLUMNS}
    return None if None in values.values() else COMPOSITES[name](**values)
