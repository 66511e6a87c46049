"""How a composed checkpoint's two models make one: what its ``composed.json`` says.

A composed checkpoint is a folder with ``composed.json``, an ordinary checkpoint in each of ``target`` and
``reinforced``, and beside them the tokenizer and a copy of the target's configuration.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from muse_eval import plugins
from muse_eval.config import Spec, explain, parse_params
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.reading import MissingFile, Unreadable, read_json

if TYPE_CHECKING:
    from torch import Tensor

COMPOSED = "composed.json"
PARTS = ("target", "reinforced")
"""Folders of the models, in the order in which a mixture takes them."""


class ComposedSpec(Spec):
    """The content of ``composed.json``."""

    schema_version: Literal[1]
    method: str
    """``whp``, or another mixture (``plugins.mixture``)."""
    params: dict[str, Any]


@dataclass(frozen=True)
class Composition:
    """A mixture with its parameters."""

    method: str
    params: Any
    combine: Callable[["Tensor", "Tensor", Any], "Tensor"]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides an answer beside the models: method, parameters, and the code that combines."""
        code = code_digest(f"unlearning/methods/{self.method}.py")
        return {"method": self.method, "params": asdict(self.params), "code": code}


def read_composition(folder: Path, model: str) -> Composition | None:
    """Return how a folder's models are combined; None where it is an ordinary checkpoint.

    Raises:
        UserError: its ``composed.json`` is broken, names no mixture or parameters that it has not, or a
            part is missing (``model`` is then what the folder is called).
    """
    path = folder / COMPOSED
    try:
        spec = ComposedSpec.model_validate(read_json(path))
        mixture = plugins.mixture(spec.method)
    except MissingFile:
        return None
    except Unreadable as error:
        raise UserError(f"{error}; mend it, or make the model again") from None
    except ValidationError as error:
        raise explain(error, str(path), ComposedSpec.model_fields) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    missing = [name for name in PARTS if not (folder / name).is_dir()]
    if missing:
        raise UserError(f"{model} lacks the folder {missing[0]} of a model that {COMPOSED} combines; add it")
    params = parse_params(mixture.params, spec.params, f"{path}: method {spec.method}")
    return Composition(spec.method, params, mixture.combine)
