"""A reckoning of the memory that a training takes, from a model's sizes alone: no weight has to exist.

What stays from step to step (weights, gradients, states) is counted; what comes and goes (activations, casts)
is reckoned, meant as a bound. ``least`` counts only what no run can do without.
"""

from dataclasses import dataclass

from muse_eval.unlearning.heads import BOUNDS

GIGA = 1e9
FULL = 4
"""Bytes of a float32 number."""
COPIES = {"chosen": 4, "all": 8}
"""How many times a batch's logits a loss makes of them, of which it reads the chosen token's, or all tokens'.

In float32, gradients, what is between; the frozen copy's of the same positions.
"""
SCORE = 10
"""Bytes kept of an attention score: before and after its softmax, and between."""


@dataclass(frozen=True)
class Sizes:
    """What of a model and a recipe decides the memory of its training: numbers of parameters and widths."""

    weights: int
    """Of the model, tied ones once."""
    trained: int
    """Those that get gradients: the adapters alone where there are any."""
    embedding: int
    """Of those trained, the token embeddings, whose states bitsandbytes keeps in 32 bits."""
    hidden: int
    inner: int
    """Width of the widest layer but the head."""
    layers: int
    vocabulary: int
    """Of the logits that a method reads; 0: it reads none."""
    scores: int = 0
    """Heads whose attention scores are kept, where attention is not computed in one piece."""
    adapters: bool = False
    frozen: bool = False
    """Whether a frozen copy of the model stands beside it."""
    item: int | None = None
    """Bytes of a weight where the model is loaded already; None: as its precision says."""
    reads: str = "chosen"
    """Whose logits a loss reads at a position: a key of ``COPIES``."""
    rows: int = 1
    """Rows whose activations a loss holds at once: a forget row, and where there is one its retain row."""

    def model_bytes(self, dtype: str) -> int:
        """Return the bytes of all weights, in a precision as ``UnlearnConfig.dtype`` comes to."""
        return self.weights * self._item(dtype)

    def trained_bytes(self, dtype: str) -> int:
        """Return the bytes of the weights that are trained, and of their gradients; adapters are float32."""
        return self.trained * (FULL if self.adapters else self._item(dtype))

    def state_bytes(self, dtype: str, optim: str) -> int:
        """Return the bytes of AdamW's two numbers a weight; none of its kinds makes a temporary copy."""
        if optim == "adamw_8bit":
            return 2 * (self.trained - self.embedding) + 2 * FULL * self.embedding
        return 2 * self.trained_bytes(dtype)

    def _item(self, dtype: str) -> int:
        return self.item or (2 if dtype == "bfloat16" else FULL)


@dataclass(frozen=True)
class Means:
    """How a training is carried out, as far as memory goes."""

    dtype: str
    """``float32``, ``mixed`` or ``bfloat16``."""
    optim: str
    checkpointing: bool
    tokens: int
    """Of a micro-batch's forget rows."""
    longest: int
    """Tokens of the longest row."""
    processes: int = 1
    sharded: bool = False
    """Whether the processes share one model out (FSDP), or each holds it (DDP)."""
    on_gpu: bool = True

    @property
    def number(self) -> int:
        """Bytes of a number that a layer computes."""
        return FULL if self.dtype == "float32" else 2

    @property
    def shards(self) -> int:
        """Processes that a weight is shared out over."""
        return self.processes if self.sharded else 1


def reckon(sizes: Sizes, means: Means) -> dict[str, float]:
    """Reckon the bytes on each device that a training takes at its peak, by what takes them."""
    model, trained = sizes.model_bytes(means.dtype), sizes.trained_bytes(means.dtype)
    parts = {
        "weights": model,
        "frozen copy": model * sizes.frozen,
        "gradients": trained,
        "optimizer": sizes.state_bytes(means.dtype, means.optim),
        "casts": 0 if means.dtype != "mixed" or means.checkpointing else 2 * sizes.weights,
        # DDP gathers gradients in buckets of its own.
        "buckets": trained if means.processes > 1 and not means.sharded else 0,
    }
    shared = {name: size / means.shards for name, size in parts.items()}
    if means.sharded:
        # The layers at work are whole, more of them where the next one is fetched ahead; so are the head and
        # its gradient, and a frozen copy's head, for as long as logits are read.
        heads = sizes.hidden * sizes.vocabulary * (2 + sizes.frozen)
        shared["gathered"] = (2 * sizes.weights / max(sizes.layers, 1) + heads) * means.number
    return shared | {"activations": float(_activations(sizes, means))}


def least(sizes: Sizes, means: Means) -> float:
    """Return the bytes on each device without which no step can be made.

    On a CPU frozen weights are not counted: they can stay in their file, which is mapped into memory.
    """
    parts = reckon(sizes, means)
    if not means.on_gpu:
        parts["weights"] = 0 if sizes.adapters else sizes.trained_bytes(means.dtype) / means.shards
    return sum(parts[name] for name in ("weights", "frozen copy", "gradients", "optimizer"))


def _activations(sizes: Sizes, means: Means) -> int:
    """Reckon what is kept for the backward pass: of each layer its input alone, or all that it computes.

    A layer is reckoned to keep 20 numbers of the hidden width a token and 6 of the inner, more than a Llama
    or a Qwen-3's does (tests/unlearning/test_memory.py), less than a GPT-2's with its dropout. Logits
    exist up to a bound (``heads``), those of a model that can be read so.
    """
    tokens = means.tokens * sizes.rows
    layer = tokens * (20 * sizes.hidden + 6 * sizes.inner) * means.number
    layer += tokens * means.longest * sizes.scores * SCORE
    # Under autocast what is added up from layer to layer is float32.
    stream = 2 if means.dtype == "bfloat16" else FULL
    kept = (
        sizes.layers * tokens * sizes.hidden * stream + layer if means.checkpointing else sizes.layers * layer
    )
    logits = min(means.tokens * sizes.vocabulary, BOUNDS["cuda" if means.on_gpu else "cpu"])
    # Those of the forget and of the retain rows stay until the backward pass; the loss takes one at a time.
    logits *= (sizes.rows + COPIES[sizes.reads]) * FULL
    # A chunk's gradient of the head is whole before it is added to that of the chunks before.
    return kept + logits + FULL * sizes.embedding
