"""What tells forget from holdout texts without any model, as a stored run has it beside its PrivLeak."""

from typing import Any

from muse_eval.printable import one_line
from muse_eval.results.lineage import part
from muse_eval.results.rows import stored_headings
from muse_eval.results.runs import StoredResult


def lines(run: StoredResult) -> list[str]:
    """Return a line for each column that compares forget with holdout texts; none where nothing is stored."""
    headings, found = stored_headings(run), []
    for name in run.columns:
        told = part(part(run.extras, name), "model_free")
        shown = [f"{_auc(part(told, what))} by {what}" for what in ("words", "length") if part(told, what)]
        if shown:
            title = headings[name].title if name in headings else name
            found.append(
                f"{one_line(title)}: without any model, holdout is told from forget texts with an AUC of "
                f"{', '.join(shown)}; 0.5 is no difference"
            )
    return found


def _auc(told: Any) -> str:
    low, high = told["ci"]
    return f"{told['auc']:.2f} ({low:.2f} to {high:.2f})"
