"""What to score, and how."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from muse_eval.config.spec import PositiveInt, Spec


class RunConfig(Spec):
    """What to score, and how; everything that can change a number is in the run's fingerprint."""

    model: str
    """Folder, or hub id with or without ``@revision``."""
    task: str | None = None
    """Name of a built-in task, or a YAML file; None: read off the model."""
    engine: str = "auto"
    retrain: str | None = None
    """The model whose AUC PrivLeak is relative to; None: the pipeline's where it belongs to the model, else
    the task's published AUC; ``none``: no model."""
    data_dir: Path | None = None
    tokenizer: str | None = None
    base_url: str | None = None
    """Where a server answers for the model (engine ``server``)."""
    api_key_env: str | None = None
    """The environment variable that holds the server's key."""
    model_revision: str | None = None
    """What pins a served model."""
    retrain_base_url: str | None = None
    """Where a server answers for the retrain model; None: at ``base_url``."""
    retrain_revision: str | None = None
    """What pins a served retrain model."""
    metrics: tuple[str, ...] = ()
    """Columns to score; empty: all of the task's; ``+NAME`` adds an optional one (``scoring.columns``)."""
    utility: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Tasks of lm-eval, each a column more: names, YAML files, folders of them."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """The run's name in the results folder; None: the model's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    limit: PositiveInt | None = None
    """Score only the first examples of each split."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the intervals' resampling."""
    truncate: bool = False
    """Score what fits of a text longer than the context, flagged, instead of refusing it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """``--set``: ``engine.NAME``, ``COLUMN.PARAMETER`` or ``METRIC.PARAMETER`` to value."""
    results: Path = Path("results")
    cache: bool = True
    overwrite: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False

    @property
    def cache_folder(self) -> Path | None:
        """Where answers are kept; None: nowhere."""
        return self.results / "cache" if self.cache else None
