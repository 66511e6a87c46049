"""How far each model is from retrain, paired by example, and what the attack tells of it beside the AUC."""

from collections.abc import Iterator

from muse_eval.reports.chosen import Chosen
from muse_eval.results import RunRow
from muse_eval.results.compare import RATES, apart, rates
from muse_eval.results.scores import ScoreReader, Scores, minus
from muse_eval.statistics import Difference


class Distances:
    """Reads the runs' scores once, and holds each against retrain's of the same examples."""

    def __init__(self, chosen: Chosen) -> None:
        """Take the runs; nothing is read before it is asked for."""
        self._chosen, self._reader = chosen, ScoreReader()

    def of(self, row: RunRow, column: str) -> Difference | None:
        """Return what a row has more than retrain in a column; None where the two cannot be compared."""
        retrain = self._chosen.retrain_of(row, column)
        theirs = self._reader.against(retrain, row["stored"], column) if retrain else None
        mine = self._reader.of(row["stored"], column)
        return minus(mine, theirs) if theirs is not None and isinstance(mine, Scores) else None

    def attack_facts(self, column: str) -> list[list[str]]:
        """Return a table: what the attack finds at few false positives, and how unlike retrain each model is.

        The first line is the header; models whose scores cannot be read are left out.
        """
        found = [line for row in self._chosen.rows for line in self._attack_line(row, column)]
        shares = [f"TPR at {100 * rate:g} % FPR" for rate in RATES]
        return [["model", *shares, "KS, forget", "KS, holdout"], *found] if found else []

    def _attack_line(self, row: RunRow, column: str) -> Iterator[list[str]]:
        scores = self._reader.of(row["stored"], column)
        if isinstance(scores, str) or scores.classes is None:
            return
        told = rates(scores)
        retrain = self._chosen.retrain_of(row, column)
        theirs = self._reader.against(retrain, row["stored"], column) if retrain else None
        unlike = apart(scores, theirs) if theirs else {}
        yield [
            row["name"],
            *(f"{100 * told[f'{rate:g}']:.0f} %" for rate in RATES),
            *(_distance(*unlike[split]) if split in unlike else "" for split in ("forget", "holdout")),
        ]


def _distance(statistic: float, p: float) -> str:
    return f"{statistic:.2f} (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"
