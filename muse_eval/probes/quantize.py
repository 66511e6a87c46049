"""Quantization: the weights of linear layers rounded to few bits, which can undo small changes to them.

Unlearned MUSE models regain much of VerbMem at 4 bit (arXiv 2410.16454). The rounding is torchao's and
bitsandbytes' own, weight-only; what is scored is the rounded weights as ordinary floats, so that every engine
can answer: the quantized model but for the last digits of its kernels. The output head stays as it is, as
transformers' own loading leaves it.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from muse_eval.errors import UserError
from muse_eval.types import ModelProbe, Subject

if TYPE_CHECKING:
    from torch import Tensor

Scheme = Literal["int8", "int4", "nf4"]
GROUP = 32
"""Weights of a row that share a scale in ``int4``."""
BLOCK = 64
"""Weights that share a scale in ``nf4``."""
PACKAGES = {"int8": "torchao", "int4": "torchao", "nf4": "bitsandbytes"}


@dataclass(frozen=True)
class Params:
    """Its parameters."""

    schemes: tuple[Scheme, ...] = ("int8", "int4", "nf4")
    """``int8``: a scale for each output (torchao). ``int4``: a scale for each 32 weights (torchao).
    ``nf4``: 4-bit NormalFloat in blocks of 64 (bitsandbytes)."""


def strengths(params: Params) -> Sequence[str]:
    """Name the strengths: the schemes."""
    return params.schemes


def by_torchao(weight: "Tensor", scheme: Scheme) -> "Tensor":
    """Round a weight (out, in) by one of torchao's weight-only schemes.

    Raises:
        UserError: ``int4`` finds rows that its groups do not divide.
    """
    import torch

    with _quiet():
        from torchao import quantization
        from torchao.quantization.granularity import PerGroup

        if scheme == "int4" and weight.shape[1] % GROUP:
            raise UserError(
                f"int4 rounds groups of {GROUP} weights, and a layer has {weight.shape[1]} inputs"
            )
        config = {
            "int8": quantization.Int8WeightOnlyConfig,
            "int4": partial(
                quantization.IntxWeightOnlyConfig,
                weight_dtype=getattr(torch, scheme),
                granularity=PerGroup(GROUP),
            ),
        }[scheme]()
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        quantization.quantize_(layer, config)
        rounded: Tensor = layer.weight.dequantize()
    return rounded


def by_bitsandbytes(weight: "Tensor", scheme: Scheme) -> "Tensor":  # noqa: ARG001
    """Round a weight (out, in) to 4-bit NormalFloat, in blocks of 64."""
    from torch.nn.functional import pad

    with _quiet():
        from bitsandbytes import functional

        # A block a row: its CPU kernel (0.50) gives other numbers where rows and blocks do not end together.
        flat = weight.reshape(-1)
        rows = pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK).contiguous()
        packed, state = functional.quantize_4bit(rows, blocksize=BLOCK, quant_type="nf4")
        rounded: Tensor = functional.dequantize_4bit(packed, state)
    return rounded.reshape(-1)[: len(flat)].reshape(weight.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what both packages say of kernels for other machines and of their own future."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


ROUNDINGS: Mapping[str, Callable[..., "Tensor"]] = {
    "int8": by_torchao,
    "int4": by_torchao,
    "nf4": by_bitsandbytes,
}


def alter(subject: Subject, params: Params) -> Mapping[str, Path]:
    """Round the weights by each scheme."""
    return {
        scheme: subject.reweigh(label(scheme), partial(ROUNDINGS[scheme], scheme=scheme))
        for scheme in params.schemes
    }


def label(scheme: Scheme) -> str:
    """Name a rounding by its scheme and by the package that rounds, with its version."""
    package = PACKAGES[scheme]
    return f"{scheme}-{package}-{version(package)}"


def lacks(params: Params) -> str:
    """Say which packages of the schemes are not installed."""
    missing = {scheme: package for scheme, package in PACKAGES.items() if find_spec(package) is None}
    wanted = [f"{scheme} needs {missing[scheme]}" for scheme in params.schemes if scheme in missing]
    able = ",".join(scheme for scheme in params.schemes if scheme not in missing)
    others = f", or --set quantize.schemes=[{able}]" if able else ""
    return f"{', '.join(wanted)}: in the checkout, pip install '.[quantize]'{others}" if wanted else ""


PROBE = ModelProbe(params=Params, strengths=strengths, alter=alter, says="at {}", lacks=lacks)
