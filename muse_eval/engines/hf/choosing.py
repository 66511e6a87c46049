"""Which token comes next: the likeliest, or one drawn by a noise that the row alone decides."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from muse_eval.engines.draws import draw_seed
from muse_eval.types import Generate

UNDEFINED = -1
"""Stands for the next token where the logits are not finite (NaN, or no token is possible)."""
DRAW_ELEMENTS = {"cpu": 2**16, "cuda": 2**24}
"""Logits drawn from at once: as many as a cache (CPU) or a sliver of memory (GPU) holds in float64."""
FEW = 1_024
"""Tokens among which a nucleus is looked for first: to sort a whole vocabulary takes long."""
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15 - 2**64, 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""SplitMix64's increment and multipliers, as signed integers."""


def likeliest(logits: Tensor) -> Tensor:
    """Return the likeliest token of each row of (rows, vocabulary); ``UNDEFINED`` where no logit is finite.

    argmax takes NaN for the largest, so one among the logits is found in what it chose.
    """
    chosen = logits.argmax(-1, keepdim=True)
    return chosen.masked_fill(~logits.gather(-1, chosen).isfinite(), UNDEFINED)[:, 0]


class Chooser:
    """Chooses the next tokens of a batch's rows: greedily where the temperature is 0, else by a draw.

    A draw is the Gumbel-max trick in float64: argmax of logit / temperature + noise. The noise is a hash of
    the row's prompt, seed and sample, of the step and of the token's id, so it is the same in every batch
    and on every device. Logits that another batch rounds in another way turn a draw only where two tokens
    lie within that rounding of each other, or a token that close to the nucleus's edge.
    """

    def __init__(self, seeds: Tensor, temperatures: Tensor, top_ps: Tensor) -> None:
        """Take (rows,) 64-bit seeds, and float64 temperatures and nuclei."""
        self.seeds, self.temperatures, self.top_ps = seeds, temperatures, top_ps
        self.drawn: list[bool] = (temperatures > 0).tolist()

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], asks: Sequence[Generate]) -> Self:
        """Take what the rows are asked, and their prompts' token ids."""
        pairs = zip(prompts, asks, strict=True)
        seeds = [draw_seed(prompt, ask) if ask.temperature else 0 for prompt, ask in pairs]
        temperatures = torch.tensor([ask.temperature for ask in asks], dtype=torch.float64)
        return cls(
            torch.tensor(seeds), temperatures, torch.tensor([ask.top_p for ask in asks], dtype=torch.float64)
        )

    def choose(self, logits: Tensor, rows: Sequence[int], step: int) -> Tensor:
        """Return the next token of each row.

        Args:
            logits: (rows, vocabulary).
            rows: which of the batch's rows they are.
            step: how many new tokens each has already.
        """
        chosen = likeliest(logits)
        if not any(self.drawn[row] for row in rows):
            return chosen
        places = enumerate(zip(rows, chosen.tolist(), strict=True))
        drawn = [place for place, (row, token) in places if self.drawn[row] and token != UNDEFINED]
        elements = DRAW_ELEMENTS.get(logits.device.type, DRAW_ELEMENTS["cuda"])
        at_once = max(1, elements // logits.shape[-1])
        for start in range(0, len(drawn), at_once):
            some = drawn[start : start + at_once]
            chosen[some] = self._draw(logits[some], torch.tensor([rows[place] for place in some]), step)
        return chosen

    def _draw(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        seeds, temperatures, top_ps = (
            of[rows, None].to(logits.device) for of in (self.seeds, self.temperatures, self.top_ps)
        )
        scores = logits.double()
        # The largest becomes 0, so that no temperature makes infinities of finite logits.
        scores = (scores - scores.amax(-1, keepdim=True)) / temperatures
        if bool((top_ps < 1).any()):
            scores = _nucleus(scores, top_ps)
        return (scores - _exponentials(seeds, step, logits.shape[-1]).log_()).argmax(-1)


def _nucleus(scores: Tensor, top_ps: Tensor) -> Tensor:
    """Keep of each row the likeliest tokens that have the probability ``top_ps`` together, and equals."""
    shares = scores.softmax(-1)
    for most in (FEW, scores.shape[-1]):
        likely = shares.topk(min(most, scores.shape[-1])).values
        if bool(((likely.sum(-1, keepdim=True) >= top_ps) | (top_ps == 1)).all()):
            break
    kept = (likely.cumsum(-1) - likely < top_ps).sum(-1, keepdim=True)
    return scores.masked_fill((shares < likely.gather(-1, kept - 1)) & (top_ps < 1), -torch.inf)


def _exponentials(seeds: Tensor, step: int, vocabulary: int) -> Tensor:
    """Return (rows, vocabulary) float64 exponential variables; minus their logarithms are Gumbel's.

    Each is a hash by SplitMix64 (Steele, Lea and Flood 2014) of seed (rows, 1), step and token id.
    """
    ids = torch.arange(1, vocabulary + 1, device=seeds.device)
    starts = _mixed(seeds + torch.full_like(seeds, step + 1) * GOLDEN)
    bits = _mixed(starts + ids * GOLDEN)
    # 52 bits and a half lie strictly between 0 and 1, and are exact.
    return _shifted(bits, 12).double().add_(0.5).mul_(2.0**-52).log_().neg_()


def _mixed(values: Tensor) -> Tensor:
    values = (values ^ _shifted(values, 30)) * FIRST
    values = (values ^ _shifted(values, 27)) * SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right as if without a sign."""
    shifted: Tensor = (values >> bits) & (2 ** (64 - bits) - 1)
    return shifted
