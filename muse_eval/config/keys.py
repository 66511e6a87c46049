"""The keys that each section of a description knows, so that a misspelt one is told with the nearest."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from muse_eval.errors import UserError, unknown_name

Fields = Mapping[str, FieldInfo]
"""A model's fields (``model_fields``)."""


def typed(fields: Fields) -> dict[str, FieldInfo]:
    """Return a model's fields under the keys that are typed for them: the alias where there is one."""
    return {field.alias or name: field for name, field in fields.items()}


def section(annotation: Any, path: Sequence[str]) -> Fields | None:
    """Return the fields of the model that a path leads to from a value of this type; None: to none.

    A mapping's own keys and a list's positions are steps of the path too.
    """
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) in (dict, list):
        return section(kinds[-1], path[1:]) if path else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return below(annotation.model_fields, path)
    return section(kinds[0], path) if len(kinds) == 1 else None


def below(fields: Fields, path: Sequence[str]) -> Fields | None:
    """Return the fields of the model that a path leads to from a model's own; None: to none."""
    if not path:
        return fields
    field = typed(fields).get(path[0])
    return section(field.annotation, path[1:]) if field else None


def unknown_key(error: ValidationError, where: str, fields: Fields | None) -> UserError | None:
    """Return what to say of the first unknown key, with the nearest that its section knows; None: no such.

    A key that is missing may be the very one misspelt, so an unknown one is told before it.

    Args:
        error: what pydantic says.
        where: what errors call the description.
        fields: of the model that refused; None: not to be had.
    """
    kinds = ("extra_forbidden", "unexpected_keyword_argument")
    path = next((one["loc"] for one in error.errors() if one["type"] in kinds), None)
    if path is None:
        return None
    *above, key = map(str, path)
    known = below(fields, above) if fields else None
    place = f"{where}: {'.'.join(above)}: " if above else f"{where}: "
    if known is None:
        return UserError(f"{place}unknown key {key!r}; remove it or mend its spelling")
    return UserError(f"{place}{unknown_name('key', key, typed(known))}")
