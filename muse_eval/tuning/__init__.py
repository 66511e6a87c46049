"""Many settings of one method, unlearned, scored and ranked."""

from muse_eval.tuning.grid import label
from muse_eval.tuning.plan import TuneConfig
from muse_eval.tuning.ranking import Tuned, table
from muse_eval.tuning.trials import tune

__all__ = ["TuneConfig", "Tuned", "label", "table", "tune"]
