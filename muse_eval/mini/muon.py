"""Muon: momentum whose update is orthogonalised (Jordan et al. 2024), in float32 and batched by shape.

``torch.optim.Muon`` iterates in bfloat16, which is slow on a CPU without bfloat16 units.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton–Schulz iteration; they drive singular values to about 1 in five rounds."""
ROUNDS = 5
RMS = 0.2
"""Root mean square of an update's entries, as AdamW's usually are, so that both take the same rate."""


class Muon:
    """Update matrices of one shape together, as one stack; the learning rate comes with each step."""

    def __init__(self, matrices: Iterable[Tensor], momentum: float) -> None:
        self.momentum = momentum
        self.stacks: list[tuple[list[Tensor], Tensor]] = []
        shapes: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        for shape, alike in shapes.items():
            self.stacks.append((alike, torch.zeros(len(alike), *shape)))

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Apply the gradients at learning rate ``lr``."""
        for matrices, average in self.stacks:
            grads = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
            average.lerp_(grads, 1 - self.momentum)
            updates = orthogonalise(grads.lerp_(average, self.momentum))
            scale = RMS * max(updates.shape[-2:]) ** 0.5
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.sub_(update, alpha=lr * scale)


def orthogonalise(stack: Tensor) -> Tensor:
    """Move each matrix of a (batch, rows, columns) stack to about the nearest orthogonal one."""
    a, b, c = COEFFICIENTS
    tall = stack.shape[-2] > stack.shape[-1]
    x: Tensor = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
