"""Token ids of requests: within the model's vocabulary, within its context, and decoded again."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from muse_eval.engines.draws import require_drawable
from muse_eval.errors import UserError
from muse_eval.types import Generate, GradientNorm, Logprobs, Request, Truncate


class Tokens:
    """A tokenizer with the bounds of the model it serves."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None, context: int | None
    ) -> None:
        """Take a tokenizer, how many ids the model knows and how many tokens it reads; None: any number."""
        self.tokenizer, self.vocabulary, self.context = tokenizer, vocabulary, context

    @property
    def pad(self) -> int:
        """An id that may stand where nobody looks."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None and (self.vocabulary is None or pad < self.vocabulary) else 0

    def ids(self, ask: Request) -> list[int]:
        """Return a request's token ids, as the tokenizer makes them (BOS in front where it has one).

        Raises:
            UserError: the model knows no such id.
        """
        text = ask.prompt if isinstance(ask, Generate) else ask.text
        ids: list[int] = self.tokenizer(text, verbose=False).input_ids
        if ids and self.vocabulary is not None and max(ids) >= self.vocabulary:
            raise UserError(
                f"the tokenizer does not fit the model: {ask.name} has token id {max(ids)}, "
                f"the model knows {self.vocabulary}; give the right --tokenizer"
            )
        return ids

    def truncate(self, asks: Sequence[Truncate]) -> list[str]:
        """Cut each text to its tokens and decode it again, special tokens skipped."""
        return [self.decode(self.ids(ask)[: ask.max_tokens]) for ask in asks]

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids, special tokens skipped, spaces left alone."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def fit_prompt(self, ask: Generate) -> tuple[list[int], bool]:
        """Return the prompt's ids and whether their beginning had to go for the context.

        Raises:
            UserError: there are none, or too many; or what is to be drawn cannot be.
        """
        require_drawable(ask)
        ids, context = self.ids(ask), self.context
        if not ids:
            raise UserError(f"{ask.name} has no tokens: its prompt is empty and the tokenizer adds no BOS")
        if context is None or len(ids) + ask.max_tokens <= context:
            return ids, False
        if not ask.truncate or context <= ask.max_tokens + 1:
            raise self._too_long(ask.name, len(ids), f" and {ask.max_tokens} new ones")
        return self._end(ids, context - ask.max_tokens), True

    def fit_text(self, ask: Logprobs | GradientNorm) -> tuple[list[int], bool]:
        """Return the text's ids and whether some had to go for the context: at its end, or its beginning.

        Raises:
            UserError: there are less than two, or too many.
        """
        ids, context = self.ids(ask), self.context
        if len(ids) < 2:
            raise UserError(f"{ask.name} has {len(ids)} tokens; log-probabilities need at least two")
        if context is None or len(ids) <= context:
            return ids, False
        if not ask.truncate:
            raise self._too_long(ask.name, len(ids), "")
        after = isinstance(ask, Logprobs) and ask.after
        return (self._end(ids, context) if after else ids[:context]), True

    def first_scored(self, ask: Logprobs) -> int:
        """Return the place, in what ``fit_text`` returns, of the first token that is answered.

        Behind an ``after`` it is the first in which the text's tokens and those of the beginning alone part:
        also a token that reaches over the seam, where the tokenizer joins both sides.

        Raises:
            UserError: there is none.
        """
        if not ask.after:
            return 1
        ids, beginning = self.ids(ask), self.ids(replace(ask, text=ask.after))
        shared = next(
            (at for at, (a, b) in enumerate(zip(ids, beginning, strict=False)) if a != b),
            min(len(ids), len(beginning)),
        )
        if shared == len(ids):
            raise UserError(f"{ask.name}: no token stands behind its prompt; mend or leave out the example")
        gone = 0 if self.context is None else max(0, len(ids) - self.context)
        return max(1, shared - gone)

    def _end(self, ids: list[int], most: int) -> list[int]:
        """Return the last ids, BOS kept in front."""
        bos = ids[:1] if ids[0] == self.tokenizer.bos_token_id else []
        return bos + ids[len(ids) - (most - len(bos)) :]

    def _too_long(self, name: str, tokens: int, more: str) -> UserError:
        return UserError(
            f"{name}: {tokens} tokens{more} do not fit the model's context of {self.context}; "
            "give --truncate to score what fits (the result is then flagged)"
        )


def has_stop(text: str, stop: tuple[str, ...]) -> bool:
    """Tell whether a stop string is in the text."""
    return any(string in text for string in stop)


def before_stop(text: str, stop: tuple[str, ...]) -> str:
    """Return the text before the earliest stop string."""
    return text[: min((text.find(string) for string in stop if string in text), default=len(text))]
