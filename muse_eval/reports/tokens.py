"""The log-probability of each token of a text, from the stored answers: no model is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from muse_eval.errors import UserError
from muse_eval.metrics.attacks import min_k
from muse_eval.results import StoredResult, part
from muse_eval.scoring.answers import EngineAnswers, engine_of, request_key
from muse_eval.types import Logprobs, TokenLogprobs, ignore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCALE = 100
"""Log-probabilities are shown to hundredths of a nat."""

GONE = "its stored answers are not in the cache: results/cache was cleared, or it was scored elsewhere"


@dataclass(frozen=True)
class Shading:
    """One text as a model sees it."""

    pieces: tuple[str, ...]
    """The text cut into the model's tokens; joined, the text."""
    values: list[int | None]
    """For each piece 2·round(−100·log p), 1 more where Min-K % counted it; None where there is no log p."""


class TokenEvidence:
    """What the cache still knows of one run's texts, token by token."""

    def __init__(self, result: StoredResult, column: str, cache: Path) -> None:
        """Find the run's answers and its tokenizer; ``missing`` says why there are none."""
        self._answers: list[EngineAnswers] = []
        self._tokenizer: PreTrainedTokenizerBase | None = None
        params = part(part(result.config, "columns"), column)
        self._k = float(params.get("k", 0.4))
        self._moments, self._truncate = bool(params.get("moments", True)), bool(params.get("truncate", False))
        self.missing = ""
        """Why nothing of it can be shown; empty where something can."""
        try:
            self._answers = _answers(result, cache)
            self._tokenizer = _tokenizer(result)
        except UserError as error:
            self.missing = str(error)

    def of(self, text: str, score: float | None) -> Shading | None:
        """Return a text token by token; None where what is stored does not give the record's own score.

        Args:
            text: the whole text.
            score: the headline attack's score in the record, in nats.
        """
        answer = self._answer(text)
        if answer is None or self._tokenizer is None or score is None:
            return None
        found = min_k(answer.logprobs, self._k)
        cut = _cut(self._tokenizer, text, len(answer.logprobs))
        if found is None or abs(found - score) > 1e-9 * max(1.0, abs(score)) or cut is None:
            return None
        counted = set(
            np.argsort(answer.logprobs, kind="stable")[: int(self._k * len(answer.logprobs))].tolist()
        )
        shown = [
            2 * round(-SCALE * float(value)) + (at in counted) for at, value in enumerate(answer.logprobs)
        ]
        silent = len(cut) - 1 - len(shown)
        return Shading(tuple(cut), [None, *shown, *[None] * silent])

    def _answer(self, text: str) -> TokenLogprobs | None:
        key = request_key(Logprobs(text, moments=self._moments, truncate=self._truncate))
        found = (answers.answers.get(key) for answers in self._answers)
        return next((one for one in found if isinstance(one, TokenLogprobs)), None)


def _answers(result: StoredResult, cache: Path) -> list[EngineAnswers]:
    """Open what the cache holds of the engine behind a run: its id names weights, tokenizer and precision."""
    model = part(result.config, "model")
    named = [str(model[key]) for key in ("engine", "weights", "tokenizer", "dtype") if key in model]
    found = []
    for folder in sorted(path for path in cache.glob("*") if path.is_dir()):
        engine = engine_of(folder)
        if len(named) == 4 and set(named) <= set(engine.split(" ")):
            found.append(EngineAnswers(cache, engine, ignore))
    if not found:
        raise UserError(GONE)
    return found


def _tokenizer(result: StoredResult) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a run from the folder that was scored, and make sure that it is the same."""
    from muse_eval.engines.loading import load_tokenizer, tokenizer_digest

    place = part(result.provenance, "engine").get("path")
    if not isinstance(place, str) or not Path(place).is_dir():
        raise UserError(f"its tokenizer is not on this machine ({place or 'no folder is known'})")
    tokenizer = load_tokenizer(None, place, ())
    if tokenizer_digest(tokenizer) != part(result.config, "model").get("tokenizer"):
        raise UserError(f"the tokenizer in {place} is not the one that it was scored with")
    if not tokenizer.is_fast:
        raise UserError("its tokenizer does not tell where in the text a token stands")
    return tokenizer


def _cut(tokenizer: "PreTrainedTokenizerBase", text: str, scored: int) -> list[str] | None:
    """Return a text in as many pieces as it has tokens, and one more where its end was cut off.

    The first token (BOS where there is one) has no log-probability. A token that shows nothing of its own,
    as a part of a letter, has an empty piece. None where there are less tokens than were scored.
    """
    spans: Sequence[tuple[int, int]] = tokenizer(
        text, return_offsets_mapping=True, verbose=False
    ).offset_mapping
    if len(spans) < scored + 1:
        return None
    pieces, end = [], 0
    for _, stop in spans[: scored + 1]:
        pieces.append(text[end : max(end, stop)])
        end = max(end, stop)
    return [*pieces, text[end:]] if end < len(text) else pieces


def whole_texts(records: Sequence[Mapping[str, Any]], rows: Mapping[str, Sequence[str]]) -> dict[int, str]:
    """Return, by its place among the records, the whole text of each whose digest a text or a row has.

    Args:
        records: a column's records.
        rows: split to the task's texts, as far as they are at hand.
    """
    found = {}
    for at, record in enumerate(records):
        texts = rows.get(str(record.get("split")), ())
        number = record.get("id")
        several = [
            record.get("text"),
            texts[number] if isinstance(number, int) and number < len(texts) else None,
        ]
        for text in several:
            if isinstance(text, str) and _digest(text) == record.get("prompt_sha256"):
                found[at] = text
    return found


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
