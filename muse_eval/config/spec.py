"""Strict, frozen descriptions (pydantic), their canonical JSON and fingerprints, and what is wrong in one."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from muse_eval.config.keys import Fields, unknown_key
from muse_eval.errors import UserError, unknown_name
from muse_eval.reading import shown

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(gt=0)]


class Spec(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    message = first["msg"].removeprefix("Value error, ")
    got = shown(repr(first["input"]))
    return UserError(f"{where}: {shown(key) or 'value'}: {message[0].lower()}{message[1:]} (got {got})")


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


def build(kind: type[Any], where: str, **values: Any) -> Any:
    """Build a frozen spec, or say in one line which option is wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise explain(error, where, kind.model_fields) from None
