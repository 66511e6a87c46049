"""How the built-in world's models are made: every hyper-parameter with its unit and reason.

Found by experiment on two CPU cores; there is no paper to follow for a model this small.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from muse_eval.config import fingerprint
from muse_eval.mini import corpus

REVISION = 1
"""Raise it when the code changes what a recipe trains, so that cached models are made anew."""


@dataclass(frozen=True)
class Mix:
    """Rows of each kind in one step; a ``*_cards`` row holds ``cards_per_row`` cards."""

    base: int = 0
    retain: int = 0
    forget: int = 0
    base_cards: int = 0
    retain_cards: int = 0
    forget_cards: int = 0


@dataclass(frozen=True)
class Stage:
    """One run of training."""

    steps: int
    """Optimizer steps."""
    lr: float
    """Peak learning rate, the same for Muon and AdamW: Muon's update is scaled to the size of AdamW's."""
    final: float
    """Share of ``lr`` that the cosine ends at."""
    mix: Mix


@dataclass(frozen=True)
class Recipe:
    """Architecture, tokenizer and the three stages of training."""

    vocab_size: int = 2048
    """Tokens at most; about as many merges as the base and retain texts offer."""
    hidden_size: int = 192
    layers: int = 2
    """As many as copying and looking up take; a third learnt slower, second for second."""
    heads: int = 4
    intermediate_size: int = 512
    """With the above 1.3 million parameters: enough to memorise 100 chapters in a minute on a CPU."""
    max_positions: int = 1024
    """Tokens; MUSE's longest prompt here, eleven cards, takes about 300."""
    cards_per_row: int = 11
    """As many as a KnowMem prompt: ten in-context pairs and the question."""
    warmup: int = 20
    """Steps of linear warm-up."""
    momentum: float = 0.95
    """Muon's (Nesterov)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's; a short memory, as runs last a hundred steps."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    shared: Stage = Stage(
        steps=200, lr=8e-3, final=0.3, mix=Mix(base=2, retain=1, base_cards=2, retain_cards=2)
    )
    """What pre-training is to a real model; it must not see forget or holdout texts.

    Looking up an answer by its question is learnt late and all at once; many small steps at a high rate get
    there soonest.
    """
    retrain: Stage = Stage(
        steps=80, lr=4e-3, final=0.05, mix=Mix(base=1, retain=1, base_cards=1, retain_cards=1)
    )
    """Continues ``shared`` without the forget set; base rows keep it fluent about people."""
    target: Stage = Stage(
        steps=190,
        lr=4e-3,
        final=0.05,
        mix=Mix(base=1, retain=1, forget=5, base_cards=1, retain_cards=1, forget_cards=2),
    )
    """Continues ``shared`` with retrain's rows and the forget set beside them, each chapter nine times."""


RECIPE = Recipe()


def recipe_fingerprint(seed: int, recipe: Recipe = RECIPE) -> str:
    """Return the SHA-256 (hex) of all that decides the weights: recipe, corpus and seed."""
    read = {name: rows for name, rows in corpus.splits(seed).items() if name != corpus.KEPT}
    parts = {"revision": REVISION, "recipe": asdict(recipe), "corpus": read, "seed": seed}
    return fingerprint(parts)
