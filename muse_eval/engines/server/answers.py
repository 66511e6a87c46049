"""What is read of a server's answers: text and numbers, each of the very kind that it must be.

Nothing is converted: "3" is no number and true is not 1. Keys that are not described here are not read.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from muse_eval.printable import one_line
from muse_eval.reading import RepeatedKey, Unreadable, parse_json

ROUNDING = 1e-4
"""How far above 0 a log-probability may lie: float32's error of a logit of a thousand."""
LOWEST = -1e9
"""No model's log-probability lies below."""
MOST_TOKENS = 10**9
TEXT_OF_A_TOKEN = 1_024
"""Characters that no token exceeds."""
BROKEN_OFF = ("abort", "error", "content_filter")
"""Reasons to finish that leave an answer which the model would have gone on with."""

Id = Annotated[int, Field(ge=0, lt=2**31)]
Ids = Annotated[list[Id], Field(fail_fast=True)]
Count = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
Rank = Annotated[int, Field(ge=1, lt=2**31)]
Logprob = Annotated[float, Field(ge=LOWEST, le=ROUNDING)]


SHOWN = 1_000
"""Characters that are shown of a part; whoever prints them takes out the key, and then cuts them shorter."""


class UnfitError(ValueError):
    """An answer is not what was asked for; the message says what it is."""

    def __init__(self, why: str, place: str = "") -> None:
        super().__init__(why)
        self.place = place
        """The part that is not as it must be, or the JSON; empty: the whole."""


class Answer(BaseModel):
    """Something that a server says, or a part of it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def no_error(cls, value: Any) -> Any:
        """Refuse an error, whatever else is there."""
        if isinstance(value, dict) and value.get("error") is not None:
            error = value["error"]
            said = error.get("message") if isinstance(error, dict) else error
            raise PydanticCustomError("error", "{said}", {"said": f"an error: {_shown(said)}"})
        return value


# ── models ───────────────────────────────────────────────────────────────────────────────────────
class Card(Answer):
    """What a server tells of a model that it serves."""

    id: str
    owned_by: str | None = None
    root: str | None = None
    """Where vLLM has the model's files from."""
    parent: str | None = None
    """The model that an adapter changes."""
    max_model_len: Annotated[int, Field(gt=0, le=MOST_TOKENS)] | None = None


class Models(Answer):
    """The answer of ``/models``."""

    data: Annotated[list[Card], Field(fail_fast=True)]


# ── completions ──────────────────────────────────────────────────────────────────────────────────
class Scored(Answer):
    """vLLM's entry for a token of the prompt."""

    logprob: Logprob
    rank: Rank | None = None


class Echoed(Answer):
    """OpenAI's log-probabilities."""

    token_logprobs: Annotated[list[Logprob | None], Field(fail_fast=True)] | None = None


class Usage(Answer):
    """What a server counts."""

    prompt_tokens: Count | None = None


class Choice(Answer):
    """The one continuation that is asked for."""

    index: Annotated[int, Field(ge=0, le=0)] = 0
    text: str
    finish_reason: str | None = None
    logprobs: Echoed | None = None
    token_ids: Ids | None = None
    prompt_token_ids: Ids | None = None
    prompt_logprobs: Annotated[list[dict[str, Scored] | None], Field(fail_fast=True)] | None = None

    @model_validator(mode="before")
    @classmethod
    def no_chat(cls, value: Any) -> Any:
        """Say what a chat's answer is."""
        if isinstance(value, dict) and "text" not in value and "message" in value:
            raise PydanticCustomError("chat", "a chat's message, not the continuation of a prompt")
        return value

    @field_validator("text")
    @classmethod
    def no_halves(cls, text: str) -> str:
        """Refuse halves of a character, which no file holds."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("text", "text with half a character (a lone surrogate)") from None
        return text

    @field_validator("finish_reason")
    @classmethod
    def whole(cls, reason: str | None) -> str | None:
        """Refuse a continuation that something else than the model ended."""
        if reason in BROKEN_OFF:
            raise PydanticCustomError("broken", "{said}", {"said": f"broken off by the server ({reason})"})
        return reason


class Completion(Answer):
    """The answer of ``/completions`` to one prompt."""

    choices: Annotated[list[Choice], Field(min_length=1, max_length=1, fail_fast=True)]
    usage: Usage | None = None

    @property
    def choice(self) -> Choice:
        """The one answer."""
        return self.choices[0]

    def check(self, prompt: Sequence[int] | str, max_tokens: int, vocabulary: int | None) -> Self:
        """Return the answer, if it is one to this prompt.

        Args:
            prompt: ids or text.
            max_tokens: that were to be generated at most.
            vocabulary: ids that there are; None: unknown.

        Raises:
            UnfitError: it is about another prompt, longer than asked, or of ids that do not exist.
        """
        choice, new = self.choice, self.choice.token_ids or []
        if not isinstance(prompt, str) and choice.prompt_token_ids not in (None, list(prompt)):
            raise UnfitError("choices[0].prompt_token_ids are not those of the prompt")
        if len(new) > max_tokens:
            raise UnfitError(
                f"choices[0].token_ids holds {len(new)} tokens where {max_tokens} were asked for"
            )
        if vocabulary is not None and new and max(new) >= vocabulary:
            raise UnfitError(
                f"choices[0].token_ids holds {max(new)}, and the vocabulary ends at {vocabulary - 1}: "
                "give the right --tokenizer, a folder with the model's config.json"
            )
        if len(choice.text) > TEXT_OF_A_TOKEN * (len(prompt) + max_tokens):
            raise UnfitError(
                f"choices[0].text holds {len(choice.text):,} characters: more than was asked for"
            )
        return self


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────
class Tokenized(Answer):
    """The answer of vLLM's ``/tokenize``."""

    tokens: Ids | None = None


# ── reading them ─────────────────────────────────────────────────────────────────────────────────
A = TypeVar("A", bound=Answer)


def read_answer(kind: type[A], content: bytes, content_type: str) -> A:
    """Read an answer.

    Raises:
        UnfitError: it is not JSON, gives a key twice, or is not of this kind.
    """
    if not content_type.split(";")[0].strip().lower().endswith("json"):
        raise UnfitError(f"its content type is {content_type[:SHOWN] or 'missing'}, not application/json")
    value = _parsed(content)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _unfit(error) from None


def _parsed(content: bytes) -> Any:
    try:
        return parse_json(content, "it")
    except RepeatedKey:
        # Not shown: cut short, it could hold a part of the server's secret that nothing takes out any more.
        raise UnfitError("it gives a key of an object twice", "JSON") from None
    except Unreadable as error:
        raise UnfitError(str(error), "JSON") from None


_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}


def _unfit(error: ValidationError) -> UnfitError:
    """Say which part is not as it must be, and what came in its place."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{one}]" if isinstance(one, int) else f".{one[:SHOWN]}" for one in first["loc"]).lstrip(
        "."
    )
    shown, expected = _shown(first["input"]), _KINDS.get(first["type"])
    if first["type"] == "missing":
        said = "missing"
    elif expected is not None:
        said = f"{shown}, not {expected}"
    else:
        said = first["msg"].replace("Input should be ", f"{shown}, which should be ")
    return UnfitError(f"{place or 'it'} is {said}", place)


def _shown(value: Any) -> str:
    """Return what a part of an answer is, in a few words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return str(value) if abs(value) < 1e12 else "a number without bounds"
    if isinstance(value, str):
        return f'"{one_line(value[:SHOWN])}"'
    return "a list" if isinstance(value, list) else "an object"
