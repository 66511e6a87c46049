"""Strict, frozen descriptions of tasks and runs (pydantic), canonical JSON and fingerprints."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from muse_eval.config.keys import Fields, unknown_key
from muse_eval.errors import UserError, unknown_name

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]


class Spec(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HubRef(Spec):
    """A repository on the hub at a pinned revision."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return it as it is typed: ``repo``, or ``repo@revision``."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


class DataSpec(Spec):
    """Where a task's splits come from: the hub, a folder, or the built-in world."""

    source: Literal["hub", "folder", "builtin"]
    repo: str | None = None
    revision: str | None = None
    folder: Annotated[Path | None, Field(exclude=True)] = None
    """In the layout of MUSE's loader; a relative one stands beside the task's YAML file.

    Never dumped: what a result says of its data is their content, wherever they lay.
    """
    seed: int = 0
    """Which built-in world; its corpus is made from this seed."""


class SplitFingerprint(Spec):
    """What a split must look like: its rows, and the UTF-8 bytes of its cells + 4 per cell."""

    rows: PositiveInt
    num_bytes: PositiveInt | None = None


class ColumnSpec(Spec):
    """One column of the results table: a metric on named splits."""

    title: str
    metric: str
    goal: Literal["lower", "higher", "zero"]
    splits: dict[str, str]
    """Role in the metric to split name, e.g. ``qa: knowmem/forget_qa``."""
    params: dict[str, Any] = {}


class UnlearnSpec(Spec):
    """How MUSE unlearns on this task; each value can be overridden by hand."""

    forget: str = "raw/forget"
    retain: str = "raw/retain1"
    rows: Literal["chunk", "document"] = "chunk"
    """``chunk``: one long text cut into full windows; ``document``: a text a row, padded."""
    max_len: PositiveInt = 2048
    lr: Positive = 1e-5
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 32
    lambda_: Annotated[float, Field(ge=0, alias="lambda")] = 1.0
    methods: dict[str, dict[str, Any]] = {}
    """Parameters of a method that differ from its own defaults."""


class FinetuneSpec(Spec):
    """How target and retrain model are made from a base model (MUSE, appendix B)."""

    target: list[str] = []
    """Splits that the target reads; empty: what is unlearned and what is retained."""
    retrain: list[str] = []
    """Splits that the retrain model reads; empty: what is retained."""
    lr: Positive = 1e-5
    epochs: PositiveInt = 5
    batch_size: PositiveInt | None = None
    """None: one that leaves at least a dozen steps an epoch (``workload.fitting_batch``)."""


class PresetSpec(Spec):
    """Published hyper-parameters of unlearning, by name; what is None is not published."""

    source: str
    """Where they are published."""
    methods: tuple[str, ...] = ()
    """Full names of the methods they are for; empty: any."""
    lr: Positive | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    max_len: PositiveInt | None = None
    lambda_: Annotated[float | None, Field(ge=0, alias="lambda")] = None
    params: dict[str, dict[str, Any]] = {}
    """A method file's name to the parameters of it."""
    note: str = ""
    """What to know before comparing with the published numbers."""


class FoldsSpec(Spec):
    """Several forget sets instead of one (MUSE, section 3: scalability, sustainability)."""

    mode: Literal["nested", "sequential"]
    """``nested``: each is forgotten from the target, the next holding the one before (scalability).
    ``sequential``: one after the other, each from the model that forgot the one before (sustainability)."""
    forget: Annotated[list[str], Field(min_length=1)]
    """The splits to forget, in order."""
    note: str = ""
    """How they relate to the splits that are scored; printed below the table."""


class TaskSpec(Spec):
    """A task: its data, the columns scored on it, its published models and numbers."""

    name: str
    title: str
    source: str
    """Paper and section that define it."""
    base: str | None = None
    """The task whose target and retrain model it shares, and whatever else it does not say itself."""
    data: DataSpec
    columns: Annotated[dict[str, ColumnSpec], Field(min_length=1)]
    models: dict[Literal["target", "retrain"], HubRef] = {}
    tokenizers: list[HubRef] = []
    """For checkpoints that carry none; tried in order."""
    retrain_auc: dict[str, Fraction] = {}
    """The retrain model's published AUC, forget against holdout, by attack."""
    unlearn: UnlearnSpec = UnlearnSpec()
    finetune: FinetuneSpec = FinetuneSpec()
    folds: FoldsSpec | None = None
    """Forget sets that the pipeline unlearns in the place of ``unlearn.forget``."""
    fingerprints: dict[str, SplitFingerprint] = {}

    @property
    def needed(self) -> set[str]:
        """The splits without which it cannot be run: those scored, and the forget sets of its folds."""
        scored = {name for column in self.columns.values() for name in column.splits.values()}
        return scored | set(self.folds.forget if self.folds else ())

    @property
    def forgets(self) -> list[str]:
        """The splits to unlearn: its folds' forget sets, else ``unlearn.forget``."""
        return self.folds.forget if self.folds else [self.unlearn.forget]

    def reads(self, role: Literal["target", "retrain"]) -> list[str]:
        """Return the splits that the target or the retrain model is fine-tuned on."""
        # The last of nested forget sets holds all others.
        nested = self.folds is not None and self.folds.mode == "nested"
        forget = self.forgets[-1:] if nested else self.forgets
        by_role = {
            "target": self.finetune.target or [*forget, self.unlearn.retain],
            "retrain": self.finetune.retrain or [self.unlearn.retain],
        }
        return by_role[role]

    @property
    def trained(self) -> set[str]:
        """The splits that unlearning reads."""
        return {self.unlearn.retain, *self.forgets}


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def explain(error: ValidationError, where: str, known: Fields | None = None) -> UserError:
    """Turn a pydantic error into one line: where, which key, what is wrong."""
    if (unknown := unknown_key(error, where, known)) is not None:
        return unknown
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"][0].lower() + first["msg"][1:]
    return UserError(f"{where}: {key or 'value'}: {message} (got {first['input']!r})")


def parse_task(text: str, where: str, find: Callable[[str], TaskSpec] | None = None) -> TaskSpec:
    """Parse a task's YAML; what it does not say itself it has from its ``base``.

    Mappings of the base (``columns``, ``unlearn`` …) are taken over key by key.

    Args:
        text: the YAML.
        where: what errors call it.
        find: looks up the task that ``base`` names; None: it may name none.

    Raises:
        UserError: the YAML is broken (with its line), or a key is unknown, missing or of a wrong kind.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{where}: a task must be a mapping of keys to values")
    if raw.get("base") is not None:
        if find is None:
            raise UserError(f"{where} has a base itself; name a whole task as base")
        raw = _inherit(find(str(raw["base"])), raw)
    try:
        return TaskSpec.model_validate(raw)
    except ValidationError as error:
        raise explain(error, where, TaskSpec.model_fields) from None


def _inherit(base: TaskSpec, raw: dict[str, Any]) -> dict[str, Any]:
    """Return a task's values over those of its base, mappings merged one level deep."""
    whole = base.model_dump(by_alias=True, exclude_unset=True)
    for key, value in raw.items():
        known = whole.get(key)
        whole[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
    data = whole.get("data")
    if isinstance(data, dict) and data.get("source") == "folder" and base.data.folder is not None:
        # Left out of every dump, and found already from where the base's own file stands.
        data.setdefault("folder", base.data.folder.absolute())
    return {**whole, "base": base.name}


def parse_params(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """Build a frozen parameter dataclass from loose values, checking names, kinds and bounds.

    Raises:
        UserError: a name is unknown ("did you mean …"), or a value is of a wrong kind or out of bounds.
    """
    known = dict.fromkeys(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in values:
        if name not in known:
            raise UserError(f"{where}: {unknown_name('parameter', name, known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise explain(error, where) from None


def read_text(path: Path, what: str) -> str:
    """Read a UTF-8 file, or say in one line why that cannot be done."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path} cannot be read: {error}") from None


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
    """Columns to score; empty: all of the task's."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """The run's name in the results folder; None: the model's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    limit: PositiveInt | None = None
    """Score only the first examples of each split."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the intervals' resampling."""
    truncate: bool = False
    """Score what fits of a text longer than the context, flagged, instead of refusing it."""
    settings: dict[str, Any] = {}
    """``--set``: ``engine.NAME``, ``COLUMN.PARAMETER`` or ``METRIC.PARAMETER`` to value."""
    results: Path = Path("results")
    cache: bool = True
    overwrite: bool = False
    allow_pickle: bool = False
    trust_remote_code: bool = False


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Parse ``--set`` pairs ``key=value``; a value is read as YAML, so numbers and booleans are such.

    Raises:
        UserError: a pair has no ``=``, its key no group, or a key is given twice.
    """
    form = "engine.NAME=VALUE, COLUMN.PARAMETER=VALUE or METRIC.PARAMETER=VALUE"
    for pair in pairs:
        if "." not in pair.partition("=")[0]:
            raise UserError(f"--set {pair}: write it as {form}")
    return parse_pairs(pairs, form)


def parse_pairs(pairs: list[str], form: str) -> dict[str, Any]:
    """Parse ``--set`` pairs; ``form`` is how the errors say they are written.

    Raises:
        UserError: a pair has no ``=``, or a key is given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"--set {pair}: write it as {form}")
        if key in found:
            raise UserError(f"--set {key} is given twice")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[key] = value
    return found


def build(kind: type[Any], where: str, **values: Any) -> Any:
    """Build a frozen spec, or say in one line which option is wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise explain(error, where, kind.model_fields) from None
