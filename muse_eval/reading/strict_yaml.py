"""Reads YAML that others wrote: text, numbers, booleans, lists and mappings; keys once, all within bounds."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from muse_eval.errors import first_line
from muse_eval.reading.files import Unreadable, read_text, shown

MOST_BYTES = 2**20
MOST_DEPTH = 50
"""Values within one another, those that aliases stand for among them."""
MOST_VALUES = 100_000
"""Values in all, each counted as often as aliases repeat it."""
MOST_DIGITS = 100
"""Of a whole number."""
_TAG = "tag:yaml.org,2002:"


class MalformedYaml(Unreadable):
    """The text is no YAML at all, where other errors are of YAML that is refused."""


def parse_yaml(text: str, where: str, *, typed: bool = False) -> Any:
    """Parse YAML to text, numbers, booleans, None, lists and mappings; dates stay the text that they are.

    Args:
        text: the YAML.
        where: what errors call it.
        typed: whether it is an option's value, which has no lines to name.

    Raises:
        MalformedYaml: it is no YAML (with the line).
        Unreadable: a key is given twice, a number is not finite or has more than 100 digits, a value has a
            tag of another kind, or values lie more than 50 deep or, aliases written out, are too many.
    """
    if len(text) > MOST_BYTES:
        raise Unreadable(f"{where}: {len(text):,} characters of YAML; at most {MOST_BYTES:,} are read")
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and not typed else ""
        problem = shown(getattr(error, "problem", None) or first_line(error))
        kind = Unreadable if isinstance(error, _Refused) else MalformedYaml
        raise kind(f"{where}{line}: not valid YAML: {problem}") from None


def read_yaml(path: Path, what: str = "") -> Any:
    """Read a file of YAML; see ``parse_yaml`` for what is refused.

    Raises:
        MissingFile: there is none.
        Unreadable: it cannot be read, or not as YAML.
    """
    return parse_yaml(read_text(path, what, MOST_BYTES), f"{what} {path}".strip())


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, node_or_event: Any) -> None:
        super().__init__(problem=problem, problem_mark=node_or_event.start_mark)


class _Loader(yaml.SafeLoader):
    """Looks at each node when it is composed, when all within it are known: nothing is built of a bad one."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - what the library calls it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._within = 0
        self._measured: dict[yaml.Node, tuple[int, int]] = {}
        """Of each node how deep it is and how many values it holds, aliases written out."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._within += 1
        if self._within > MOST_DEPTH:
            raise _Refused(f"nested more than {MOST_DEPTH} deep", event)
        node: Any = super().compose_node(parent, index)
        self._within -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._measured[node] = self._measure(node)
        elif node not in self._measured:
            raise _Refused(f"the alias {event.anchor!r:.60} stands for what it is a part of", event)
        return node

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            self._require_once(node)
            children = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        sizes = [self._measured[child] for child in children]
        depth = 1 + max((depth for depth, _ in sizes), default=0)
        count = 1 + sum(count for _, count in sizes)
        if depth > MOST_DEPTH:
            raise _Refused(f"nested more than {MOST_DEPTH} deep", node)
        if count > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values, aliases written out", node)
        return depth, count

    def _require_once(self, node: yaml.MappingNode) -> None:
        keys = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused("a key must be one word or number", key_node)
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node)
            if isinstance(key, list | dict):
                raise _Refused("a key must be one word or number", key_node)
            if key in keys:
                raise _Refused(f"the key {shown(repr(key))} is given twice", key_node)
            keys.add(key)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError):
            raise _Refused(f"{shown(repr(node.value))} is no {node.tag.rpartition(':')[2]}", node) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _Refused("a number must be finite", node)
        return value

    def construct_whole(self, node: yaml.ScalarNode) -> Any:
        if len(str(self.construct_scalar(node)).lstrip("+-")) > MOST_DIGITS:
            raise _Refused(f"a whole number of more than {MOST_DIGITS} digits", node)
        return self.construct_yaml_int(node)

    def construct_other(self, node: yaml.Node) -> Any:
        raise _Refused(f"no value can be of the kind {shown(repr(node.tag))}", node)


_CONSTRUCTORS: dict[str | None, Callable[[Any, Any], Any]] = {
    f"{_TAG}int": _Loader.construct_whole,
    f"{_TAG}value": _Loader.construct_yaml_str,
    **{f"{_TAG}{kind}": _Loader.construct_other for kind in ("timestamp", "binary", "omap", "pairs", "set")},
    None: _Loader.construct_other,
}
_Loader.yaml_constructors = {**yaml.SafeLoader.yaml_constructors, **_CONSTRUCTORS}
