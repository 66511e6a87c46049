"""What stands for torch's compiler until something is compiled, and keeps the marks that functions get."""

import importlib
import sys
from collections.abc import Callable
from functools import partial, wraps
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import Any

from muse_eval.late.stand_in import StandIn

NAME = "torch._dynamo"
ASKED = {"config": "error_on_nested_fx_trace", "eval_frame": "OptimizedModule"}
"""By part, what is taken from the compiler while nothing is compiled: a setting that a checkpoint keeps for a
trace, and the class of compiled modules, to ask whether a module is one."""


class Part:
    """A part of ``torch._dynamo`` before that is loaded; whatever is not ``ASKED`` for loads it."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        """Stand for one part."""
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name: str) -> Any:
        if ASKED[self._name] == name and NAME not in sys.modules:
            return StandIn(f"{NAME}.{self._name}", name)
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real(), name, value)

    def _real(self) -> ModuleType:
        return importlib.import_module(f"{NAME}.{self._name}")


class Compiler:
    """``torch._dynamo`` before it is loaded; whatever is no mark loads it.

    A mark says how to compile a function. It is kept and made when the compiler is loaded, by whomever.
    """

    def __init__(self) -> None:
        """Know of no mark yet."""
        self._marks: list[Callable[[ModuleType], object]] = []

    def __getattr__(self, name: str) -> Any:
        if name in ASKED and NAME not in sys.modules:
            return Part(name)
        return getattr(importlib.import_module(NAME), name)

    def allow_in_graph(self, fn: Any) -> Any:
        """Mark a function that the compiler is not to look into."""
        return self._mark("allow_in_graph", fn)

    def assume_constant_result(self, fn: Any) -> Any:
        """Mark a function whose result stays."""
        return self._mark("assume_constant_result", fn)

    def graph_break(self, msg: str = "") -> None:
        """End a graph, of which there is none."""

    def disable(self, fn: Any = None, recursive: bool = True, **how: Any) -> Any:
        """Mark a function that is never compiled."""
        if fn is None:
            return partial(self.disable, recursive=recursive, **how)
        if not isinstance(fn, FunctionType):
            return importlib.import_module(NAME).disable(fn, recursive, **how)
        disabled: list[Callable[..., Any]] = []
        self._marks.append(lambda compiler: disabled.append(compiler.disable(fn, recursive, **how)))

        @wraps(fn)
        def call(*given: Any, **named: Any) -> Any:
            return (disabled[0] if disabled else fn)(*given, **named)

        return call

    def _mark(self, how: str, fn: Any) -> Any:
        if not isinstance(fn, FunctionType):
            return getattr(importlib.import_module(NAME), how)(fn)
        self._marks.append(lambda compiler: getattr(compiler, how)(fn))
        return fn

    def loaded(self, compiler: ModuleType) -> None:
        """Make the marks that were kept."""
        while self._marks:
            self._marks.pop(0)(compiler)


class Watch:
    """Finds ``torch._dynamo`` where it lies, and tells its stand-in once it is loaded."""

    def __init__(self, stand_in: Compiler) -> None:
        """Watch for one stand-in."""
        self._stand_in = stand_in

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Return where it is; None for every other module."""
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        found = find_spec(name)
        if found is not None and found.loader is not None:
            load = found.loader.exec_module

            def load_and_tell(module: ModuleType) -> None:
                load(module)
                self._stand_in.loaded(module)

            found.loader.exec_module = load_and_tell  # type: ignore[method-assign]
        return found


def stand_in() -> None:
    """Put a stand-in where torch's compiler will be, unless it is there already."""
    torch = sys.modules["torch"]
    if NAME not in sys.modules and "_dynamo" not in vars(torch):
        torch._dynamo = Compiler()  # type: ignore[attr-defined]
        sys.meta_path.insert(0, Watch(torch._dynamo))
