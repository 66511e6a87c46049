"""What a task is: its data, its columns, how it is unlearned; read from YAML."""

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from muse_eval.config.spec import Fraction, Positive, PositiveInt, Spec, explain
from muse_eval.config.split_names import SplitName
from muse_eval.errors import UserError
from muse_eval.reading import parse_yaml


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
    splits: dict[str, SplitName]
    """Role in the metric to split name, e.g. ``qa: knowmem/forget_qa``."""
    params: dict[str, Any] = Field(default_factory=dict)


class MethodSpec(Spec, extra="allow"):
    """How one method unlearns, where not as the others do; keys beside these are its parameters."""

    lr: Positive | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    lambda_: Annotated[float | None, Field(ge=0, alias="lambda")] = None

    @property
    def given(self) -> dict[str, Any]:
        """All that it says, as it is typed."""
        return self.model_dump(by_alias=True, exclude_none=True)

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of the training, under the names of the fields."""
        return self.model_dump(include=set(MethodSpec.model_fields), exclude_none=True)

    @property
    def params(self) -> dict[str, Any]:
        """The method's parameters that differ from its own defaults."""
        return dict(self.model_extra or {})


class UnlearnSpec(Spec):
    """How MUSE unlearns on this task; each value can be overridden by hand."""

    forget: SplitName = "raw/forget"
    retain: SplitName = "raw/retain1"
    rows: Literal["chunk", "document"] = "chunk"
    """``chunk``: one long text cut into full windows; ``document``: a text a row, padded."""
    max_len: PositiveInt = 2048
    lr: Positive = 1e-5
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 32
    lambda_: Annotated[float, Field(ge=0, alias="lambda")] = 1.0
    methods: dict[str, MethodSpec] = Field(default_factory=dict)
    """What holds for one method alone, by the name of its file (``simnpo``) or its own (``simnpo_gdr``)."""

    def of(self, *names: str) -> MethodSpec:
        """Return what holds for a method alone, a later one of its names going before an earlier."""
        found = [self.methods[name] for name in names if name in self.methods]
        values = [one.settings | one.params for one in found]
        return MethodSpec.model_construct(
            None, **{key: value for one in values for key, value in one.items()}
        )


class FinetuneSpec(Spec):
    """How target and retrain model are made from a base model (MUSE, appendix B)."""

    target: list[SplitName] = Field(default_factory=list)
    """Splits that the target reads; empty: what is unlearned and what is retained."""
    retrain: list[SplitName] = Field(default_factory=list)
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
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """A method file's name to the parameters of it."""
    note: str = ""
    """What to know before comparing with the published numbers."""


class ForgetSetsSpec(Spec):
    """Several forget sets instead of one (MUSE, section 3: scalability, sustainability)."""

    mode: Literal["nested", "sequential"]
    """``nested``: each is forgotten from the target, the next holding the one before (scalability).
    ``sequential``: one after the other, each from the model that forgot the one before (sustainability)."""
    forget: Annotated[list[SplitName], Field(min_length=1)]
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
    models: dict[Literal["target", "retrain"], HubRef] = Field(default_factory=dict)
    tokenizers: list[HubRef] = Field(default_factory=list)
    """For checkpoints that carry none; tried in order."""
    retrain_auc: dict[str, Fraction] = Field(default_factory=dict)
    """The retrain model's published AUC, forget against holdout, by attack."""
    unlearn: UnlearnSpec = Field(default_factory=UnlearnSpec)
    finetune: FinetuneSpec = Field(default_factory=FinetuneSpec)
    forget_sets: Annotated[ForgetSetsSpec | None, Field(alias="folds")] = None
    """Forget sets that the pipeline unlearns in the place of ``unlearn.forget``."""
    fingerprints: dict[SplitName, SplitFingerprint] = Field(default_factory=dict)

    @property
    def needed(self) -> set[str]:
        """The splits without which it cannot be run: those scored, and the forget sets."""
        scored = {name for column in self.columns.values() for name in column.splits.values()}
        return scored | set(self.forget_sets.forget if self.forget_sets else ())

    @property
    def forgets(self) -> list[str]:
        """The splits to unlearn: its several forget sets, else ``unlearn.forget``."""
        return self.forget_sets.forget if self.forget_sets else [self.unlearn.forget]

    def reads(self, role: Literal["target", "retrain"]) -> list[str]:
        """Return the splits that the target or the retrain model is fine-tuned on."""
        # The last of nested forget sets holds all others.
        nested = self.forget_sets is not None and self.forget_sets.mode == "nested"
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


def parse_task(text: str, where: str, find: Callable[[str], TaskSpec] | None = None) -> TaskSpec:
    """Parse a task's YAML; what it does not say itself it has from its ``base``.

    Mappings of the base (``columns``, ``unlearn`` …) are taken over key by key.

    Args:
        text: the YAML.
        where: what errors call it.
        find: looks up the task that ``base`` names; None: it may name none.

    Raises:
        UserError: the YAML is broken (with its line), or a key is unknown, missing, given twice or of a
            wrong kind.
    """
    raw = deepcopy(_values(text, where))
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


@lru_cache(maxsize=32)
def _values(text: str, where: str) -> Any:
    """Return a task's values as they stand there; a command looks up the same few tasks again and again."""
    return parse_yaml(text, where)


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
