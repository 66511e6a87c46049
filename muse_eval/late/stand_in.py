"""What stands for a module, or for a thing in it, until it is used."""

import importlib
import sys
from typing import Any


class StandIn:
    """A module that is not loaded yet, or a name in it; what is done with the name is done with the real one.

    Asking for an instance of it loads nothing: of a class that nobody has loaded there is none.
    """

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str = "") -> None:
        """Stand for a module, or for ``name`` in it."""
        self._module = module
        self._name = name

    def __repr__(self) -> str:
        return f"<{'.'.join(part for part in (self._module, self._name) if part)}, not loaded yet>"

    def __bool__(self) -> bool:
        return bool(_real(self))

    def __call__(self, *given: Any, **named: Any) -> Any:  # noqa: D102 - as others' are
        return _real(self)(*given, **named)

    def __getattr__(self, name: str) -> Any:
        if self._name or name.startswith("__"):
            return getattr(_real(self), name)
        return StandIn(self._module, name)

    def __instancecheck__(self, thing: object) -> bool:
        return self._module in sys.modules and isinstance(thing, _real(self))

    def __subclasscheck__(self, kind: type) -> bool:
        return self._module in sys.modules and issubclass(kind, _real(self))

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_real(self),)

    def __or__(self, other: Any) -> Any:
        return _real(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | _real(self)


def _real(of: StandIn) -> Any:
    module = importlib.import_module(of._module)
    return getattr(module, of._name) if of._name else module
