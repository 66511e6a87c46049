"""The sizes of models with random weights that a benchmark can make."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int

    @property
    def layer(self) -> int:
        """The weights of a layer."""
        return 4 * self.hidden**2 + 3 * self.hidden * self.inner

    @property
    def embedding(self) -> int:
        """The weights that turn tokens into vectors; the output has as many."""
        return self.hidden * self.vocabulary

    @property
    def weights(self) -> int:
        """All weights, but for the norms."""
        return self.layers * self.layer + 2 * self.embedding


SHAPES = {
    "tiny": Shape(64, 2, 4, 172, 2_048),
    "1m": Shape(128, 4, 4, 344, 2_048),
    "27m": Shape(512, 6, 8, 1_376, 8_192),
    "100m": Shape(768, 12, 12, 2_048, 32_000),
    "1b": Shape(2_048, 22, 32, 5_632, 32_000),
    "3b": Shape(3_200, 26, 32, 8_640, 32_000),
    "7b": Shape(4_096, 32, 32, 11_008, 32_000),
}
"""Models with random weights that a benchmark can make: the last has Llama-2-7B's sizes."""
