"""``--set`` as it is typed: ``KEY=VALUE``, the values read as YAML."""

from typing import Any

from muse_eval.errors import UserError
from muse_eval.reading import MalformedYaml, parse_yaml, shown


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
        UserError: a pair has no ``=``, a key is given twice, or a value is YAML that is refused.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"--set {pair}: write it as {form}")
        if key in found:
            raise UserError(f"--set {key} is given twice")
        try:
            found[key] = parse_yaml(value, f"--set {shown(key)}", typed=True)
        except MalformedYaml:
            found[key] = value
    return found
