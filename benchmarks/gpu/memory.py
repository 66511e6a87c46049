"""Clock and memory of a device; both wait for it first, since it works behind Python's back."""

import gc
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import torch

GIB = 2**30


def release() -> None:
    """Free what nothing uses any more, on the device too."""
    gc.collect()
    if torch.cuda.is_initialized():
        with suppress(RuntimeError):  # from a card that a kernel has failed on; told where that happened
            torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def held(device: torch.device) -> int:
    """Return the bytes that live tensors take on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return int(torch.cuda.memory_allocated(device))
    # By type and not by isinstance: some lazy objects import a library when asked for their class.
    tensors = (one for one in gc.get_objects() if issubclass(type(one), torch.Tensor))
    storages = [one.untyped_storage() for one in tensors if one.device == device]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


class Span:
    """Seconds, and on a GPU the peak of its memory, of what runs within."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds = 0.0
        self.peak: float | None = None
        """GiB that tensors took at the most; None on a CPU."""
        self._began = 0.0

    def __enter__(self) -> Self:
        synchronize(self._device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return  # The device may be what failed; waiting for it would hide the error behind another.
        synchronize(self._device)
        self.seconds = time.perf_counter() - self._began
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device) / GIB
