"""Whether unlearning cost a model what it should have kept: the flag ``utility-gate``, beside the target."""

from collections.abc import Iterable, Sequence

from muse_eval.results.comparable import MISFITS, asked, data_of
from muse_eval.results.lineage import part
from muse_eval.results.runs import REFERENCES, StoredColumn, StoredResult

METRIC = "lm-eval"
"""The metric of a utility column, as a run's settings name it."""
FLAG = "utility-gate"
KEPT = 0.8
"""Of the target's KnowMem Dr; a model below that is flagged."""


def gated(results: Iterable[StoredResult]) -> list[StoredResult]:
    """Return stored results, those flagged ``utility-gate`` that are too far below their task's target."""
    found = list(results)
    targets = [one for one in found if one.name == "target"]
    return [one if one.name in REFERENCES else _gated(one, targets) for one in found]


def _gated(result: StoredResult, targets: Sequence[StoredResult]) -> StoredResult:
    columns = dict(result.columns)
    for name, cell in result.columns.items():
        flags = tuple(flag for flag in cell.flags if flag != FLAG)
        usual = _usual(result, name, targets) if _is_kept(result, name) else None
        if usual is not None and cell.value is not None and cell.value < KEPT * usual:
            flags = (*flags, FLAG)
        columns[name] = cell.model_copy(update={"flags": flags})
    return result if columns == result.columns else result.model_copy(update={"columns": columns})


def _is_kept(result: StoredResult, column: str) -> bool:
    """Tell whether a column is of answers that a model should keep: KnowMem Dr."""
    spec = part(part(part(result.config, "task"), "columns"), column)
    return spec.get("metric") == "knowmem" and spec.get("goal") == "higher"


def _usual(result: StoredResult, column: str, targets: Sequence[StoredResult]) -> float | None:
    """Return the target's value, where it was asked the same in the same way and can answer."""
    for target in targets:
        cell = target.columns.get(column)
        same = (
            target.task == result.task
            and asked(target).get(column) == asked(result).get(column)
            and data_of(target, column) == data_of(result, column)
            and target.config.get("limit") == result.config.get("limit")
        )
        if same and cell is not None and _shows(cell):
            return cell.value
    return None


def _shows(cell: StoredColumn) -> bool:
    return cell.value is not None and not {*cell.flags} & {*MISFITS}
