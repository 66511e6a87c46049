"""What a task, a run and a recipe are made of: strict frozen specs, read from YAML and from options."""

from muse_eval.config.differences import joined
from muse_eval.config.groups import (
    ENGINE,
    check_groups,
    column_changes,
    is_scored,
    scored_groups,
    sort_settings,
)
from muse_eval.config.params import aside, deciding, departure, departures, filled, stated
from muse_eval.config.rising import Rising
from muse_eval.config.run import RunConfig
from muse_eval.config.settings import parse_pairs, parse_settings
from muse_eval.config.spec import (
    Positive,
    PositiveInt,
    Spec,
    build,
    canonical_json,
    explain,
    fingerprint,
    parse_params,
)
from muse_eval.config.split_names import OLDER_NAMES, check_split_name, columns_of
from muse_eval.config.task import (
    ColumnSpec,
    DataSpec,
    ForgetSetsSpec,
    HubRef,
    PresetSpec,
    SplitFingerprint,
    TaskSpec,
    UnlearnSpec,
    parse_task,
)
from muse_eval.config.workload import Workload, fitting_batch, learned

__all__ = [
    "ENGINE",
    "OLDER_NAMES",
    "ColumnSpec",
    "DataSpec",
    "ForgetSetsSpec",
    "HubRef",
    "Positive",
    "PositiveInt",
    "PresetSpec",
    "Rising",
    "RunConfig",
    "Spec",
    "SplitFingerprint",
    "TaskSpec",
    "UnlearnSpec",
    "Workload",
    "aside",
    "build",
    "canonical_json",
    "check_groups",
    "check_split_name",
    "column_changes",
    "columns_of",
    "deciding",
    "departure",
    "departures",
    "explain",
    "filled",
    "fingerprint",
    "fitting_batch",
    "is_scored",
    "joined",
    "learned",
    "parse_pairs",
    "parse_params",
    "parse_settings",
    "parse_task",
    "scored_groups",
    "sort_settings",
    "stated",
]
