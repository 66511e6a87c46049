"""The arithmetic that nobody can leave out: of forward passes, and of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.shapes import Shape

if TYPE_CHECKING:
    from benchmarks.baseline import Outcome


class Work:
    """The operations of forward passes, counted from a model's configuration."""

    def __init__(self, model: Any) -> None:
        config = model.config
        linear = sum(
            module.weight.numel() for module in model.model.modules() if isinstance(module, torch.nn.Linear)
        )
        self._body = 2 * linear
        self._head = 2 * config.hidden_size * config.vocab_size
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._pair = 4 * heads * size * config.num_hidden_layers
        """A query meets a key: its score and its share of the values."""

    def texts(self, lengths: Iterable[int]) -> float:
        """Every token through the body, every token but the last through the head."""
        return float(sum(self._tokens(0, n) + (n - 1) * self._head for n in lengths))

    def answers(self, lengths: Sequence[tuple[int, int]], shared: int = 0) -> float:
        """Prompts (what they share once) and their answers; the head for the answers' tokens alone."""
        once = self._tokens(0, shared)
        rest = (self._tokens(shared, p + new - 1) + new * self._head for p, new in lengths)
        return float(once + sum(rest))

    def answers_of(self, done: Outcome, shared: int) -> float:
        """Count the operations of an outcome's answers."""
        return self.answers(done.lengths, shared)

    def _tokens(self, start: int, end: int) -> int:
        pairs = (end * (end + 1) - start * (start + 1)) // 2
        return int((end - start) * self._body + pairs * self._pair)


def utilisation(sizes: Shape, tokens_per_second: float, rate: float, operations: int = 6) -> float:
    """Return the share of the machine's matrix rate: so many operations a weight and token, no recomputing.

    Six where all weights train; four where they are frozen under adapters, so that none has a gradient.
    """
    # Looking a token up is no product.
    return operations * (sizes.weights - sizes.embedding) * tokens_per_second / rate
