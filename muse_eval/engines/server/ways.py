"""The ways in which servers give the log-probabilities of a prompt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from muse_eval.engines.server.answers import Choice, Scored


def _entries(choice: Choice, ids: list[int]) -> list[Scored] | None:
    """Read vLLM's own field: each token's entry is under its id, so they are surely ours."""
    found = choice.prompt_logprobs
    if found is None or len(found) != len(ids):
        return None
    entries = [(one or {}).get(str(token)) for one, token in zip(found[1:], ids[1:], strict=True)]
    known = [one for one in entries if one is not None]
    return known if len(known) == len(entries) else None


def _of_vllm(choice: Choice, ids: list[int], _spare: int) -> list[float] | None:
    entries = _entries(choice, ids)
    return None if entries is None else [one.logprob for one in entries]


def ranks_of(choice: Choice, ids: list[int]) -> list[int] | None:
    """Return each token's rank but the first's, where the server tells them all (vLLM does)."""
    ranks = [one.rank for one in _entries(choice, ids) or ()]
    known = [one for one in ranks if one is not None]
    return known if len(known) == len(ids) - 1 else None


def _of_echo(choice: Choice, ids: list[int], spare: int) -> list[float] | None:
    """Read what OpenAI's ``echo`` gives; a token too many in front (a second BOS) is none of ours."""
    found = choice.logprobs.token_logprobs if choice.logprobs else None
    if found is None or not len(ids) <= len(found) <= len(ids) + spare:
        return None
    values = [one for one in found[1 : len(ids)] if one is not None]
    return values if len(values) == len(ids) - 1 else None


@dataclass(frozen=True)
class Way:
    """A way in which servers give the log-probabilities of a prompt."""

    fields: Mapping[str, Any]
    read: Callable[[Choice, list[int], int], list[float] | None]
    spare: int
    """Tokens that must be generated beside, for which the context must have room."""


WAYS = (
    Way({"prompt_logprobs": 0, "max_tokens": 1, "return_token_ids": True}, _of_vllm, 1),
    Way({"echo": True, "logprobs": 1, "max_tokens": 0}, _of_echo, 0),
    Way({"echo": True, "logprobs": 1, "max_tokens": 1}, _of_echo, 1),
)
