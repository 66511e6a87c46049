"""Loading a checkpoint: each weight goes straight to where it stays."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, core_model_loading

from muse_eval.engines.checkpoint import find_checkpoint
from muse_eval.engines.loading import LoadOptions, load_model
from muse_eval.errors import UserError


class Copies(TorchDispatchMode):
    """Counts the elements that are copied to another place or type, by what they become."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("_to_copy", "copy_", "clone") and out.dim() > 1:
            self.elements[out.dtype] += out.numel()
        return out


def counted(folder: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[torch.dtype], int]:
    # A thread has dispatch modes of its own.
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
    with Copies() as copies:
        model = load_model(find_checkpoint(str(folder)), LoadOptions(dtype, "cpu"))
    return copies.elements, sum(one.numel() for one in model.parameters() if one.dim() > 1)


def test_weights_that_are_there_in_their_type_are_not_copied(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counted(tiny_model, "float32", monkeypatch)[0].total() == 0


def test_weights_of_another_type_are_copied_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied, weights = counted(tiny_model, "bfloat16", monkeypatch)
    assert copied == {torch.bfloat16: weights}


def test_each_weight_is_read_for_its_device(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, where nothing could be read first and moved on behind our back."""
    asked: list[Any] = []
    read = core_model_loading._materialize_copy

    def materialize(tensor: Any, device: Any = None, dtype: Any = None) -> Any:
        asked.append(device)
        return read(tensor, device, dtype)

    monkeypatch.setattr(core_model_loading, "_materialize_copy", materialize)
    monkeypatch.setattr(LoadOptions, "torch_device", torch.device("meta"))
    model = load_model(find_checkpoint(str(tiny_model)), LoadOptions("float32"))
    assert set(asked) == {torch.device("meta")}
    assert len(asked) == len(model.state_dict())
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"meta"}


def test_a_loaded_model_is_the_plain_one(tiny_model: Path) -> None:
    found = load_model(find_checkpoint(str(tiny_model)), LoadOptions("float32", "cpu"))
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    buffers = dict(plain.named_buffers())
    assert {name for name, _ in found.named_buffers()} == set(buffers)
    for name, tensor in (*found.state_dict().items(), *found.named_buffers()):
        assert torch.equal(tensor, {**plain.state_dict(), **buffers}[name]), name
    assert not hasattr(found, "hf_device_map")
    assert not found.training


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_where_a_weight_finds_no_memory_it_is_said_in_one_line(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_args: Any, **_kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(core_model_loading, "_materialize_copy", full)
    with pytest.raises(
        UserError, match=r"^tiny does not fit on cpu; give --set .*--dtype bfloat16, or a larger"
    ):
        load_model(find_checkpoint(str(tiny_model)), LoadOptions("float32", "cpu"))
