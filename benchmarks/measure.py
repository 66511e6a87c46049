"""What the benchmarks measure with: CPU and wall seconds, peak memory, the machine's matrix rate."""

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psutil
import torch

PAUSE = 0.005
"""Seconds between two looks at the memory: a fraction of a percent of one CPU."""


def resident() -> int:
    """Return this process's resident memory, in bytes."""
    return int(psutil.Process().memory_info().rss)


@dataclass
class Meter:
    """Seconds and peak memory of what runs within it, summed over all the times it is entered."""

    cpu: float = 0.0
    wall: float = 0.0
    peak: int = 0
    """Bytes resident at the most."""
    _began: tuple[float, float] = (0.0, 0.0)
    _over: threading.Event = field(default_factory=threading.Event)
    _watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._over.clear()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self._began = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu += time.process_time() - self._began[0]
        self.wall += time.perf_counter() - self._began[1]
        self._over.set()
        assert self._watch is not None
        self._watch.join()

    def _look(self) -> None:
        process = psutil.Process()
        while True:
            self.peak = max(self.peak, int(process.memory_info().rss))
            if self._over.wait(PAUSE):
                return


def matrix_rate(device: str = "cpu", size: int = 1536, times: int = 5) -> float:
    """Return the floating-point operations a CPU second gives in a square float32 product, at best.

    On a GPU: those of a wall second, in bfloat16.
    """
    if device == "cuda":
        return _gpu_rate(8_192, times)
    left, right = torch.randn(size, size), torch.randn(size, size)
    torch.mm(left, right)
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        torch.mm(left, right)
        best = min(best, time.process_time() - began)
    return 2 * size**3 / best


def _gpu_rate(size: int, times: int) -> float:
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    seconds = []
    for _ in range(times):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(left, left)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def memory_rate(device: str = "cpu", times: int = 5) -> float:
    """Return the bytes a second that a large copy reads and writes, at best."""
    gpu = device == "cuda"
    left = torch.ones(2**30 if gpu else 2**26, dtype=torch.uint8, device=device)
    right = torch.empty_like(left)
    best = float("inf")
    for _ in range(times):
        if gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        right.copy_(left)
        if gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * left.numel() / best
