"""Has a language model really unlearned? The scores of MUSE (arXiv 2407.06460), exact and with evidence."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "check",
    "compare",
    "evaluate",
    "finetune",
    "leaderboard",
    "load_run",
    "pipeline",
    "probe",
    "records_frame",
    "report",
    "results_frame",
    "sweep",
    "tune",
    "unlearn",
]

if TYPE_CHECKING:
    from muse_eval.api import (
        check,
        compare,
        evaluate,
        finetune,
        leaderboard,
        load_run,
        pipeline,
        probe,
        records_frame,
        report,
        results_frame,
        sweep,
        tune,
        unlearn,
    )


def __getattr__(name: str) -> Any:
    # Late, so that `muse-eval --help` does not wait for what only a run needs.
    if name in __all__:
        from muse_eval import api

        return getattr(api, name)
    raise AttributeError(f"module 'muse_eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Else completion would not know of what is found late.
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING"})
