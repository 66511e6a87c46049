"""What a server says of a model, and the tokenizer on this side, which must agree with the server's."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from muse_eval.engines import ModelSource
from muse_eval.engines.checkpoint import Checkpoint, is_folder
from muse_eval.engines.loading import load_tokenizer
from muse_eval.engines.server.answers import Card
from muse_eval.engines.server.client import Client, RefusalError
from muse_eval.engines.tokens import Tokens
from muse_eval.errors import UserError, unknown_name


@dataclass(frozen=True)
class Served:
    """A model as its server describes it."""

    limit: int | None
    """Tokens that it reads at once."""
    vllm: bool
    folders: tuple[str, ...]
    """Here, where its files may lie if the server runs on this machine."""


def find_served(client: Client, name: str) -> Served:
    """Return what the server says of a model.

    Raises:
        UserError: the server cannot be reached or does not serve it.
    """
    cards: dict[str, Card] = {}
    for card in client.models():
        if cards.setdefault(card.id, card) != card:
            raise UserError(
                client.scrubbed(f"{client.url} tells of {card.id} twice, and differently; mend it")
            )
    if name not in cards:
        raise UserError(client.scrubbed(f"{client.url}: {unknown_name('model', name, cards)}"))
    # An adapter's card names its base model, and leaves the limit to that.
    card = cards[name]
    base = cards.get(card.parent or "")
    folders = (name, card.root, base.root if base else None)
    return Served(
        card.max_model_len or (base.max_model_len if base else None),
        card.owned_by == "vllm",
        tuple(folder for folder in folders if folder and _is_folder(folder)),
    )


def _is_folder(name: str) -> bool:
    """Tell whether what a server names, which may be anything, is a folder here."""
    try:
        return name.isprintable() and Path(name).is_dir()
    except (OSError, ValueError):
        return False


def find_tokenizer(source: ModelSource, served: Served) -> PreTrainedTokenizerBase:
    """Load the given tokenizer, else the one beside the served files, the task's, or the hub's.

    Raises:
        UserError: none of them can be had.
    """
    trust = source.trust_remote_code
    here = [Checkpoint(Path(folder).name, Path(folder), None) for folder in served.folders]
    own = next((found for found in here if found.has_tokenizer), None)
    try:
        return load_tokenizer(own, source.tokenizer, source.fallbacks, trust)
    except UserError:
        hub_id = "/" in source.model and not is_folder(source.model)
        if own or source.tokenizer or not hub_id:
            raise
    try:
        return load_tokenizer(None, source.model, (), trust)
    except UserError as error:
        raise UserError(f"no tokenizer for {source.model} ({error}); give --tokenizer") from None


def find_vocabulary(tokenizer: PreTrainedTokenizerBase, served: Served) -> int:
    """Return how many token ids there are, as far as it can be told on this side.

    A model may know more than its tokenizer, which decodes the rest to nothing: the configuration beside the
    tokenizer or the served files says so, if there is one.
    """
    sizes = [len(tokenizer)]
    for folder in (str(tokenizer.name_or_path), *served.folders):
        with suppress(OSError, ValueError, UserError):
            sizes += _vocabularies(json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")))
    return max(sizes)


def _vocabularies(config: Any) -> list[int]:
    known = [config, config.get("text_config")] if isinstance(config, dict) else []
    sizes = [one.get("vocab_size") for one in known if isinstance(one, dict)]
    return [size for size in sizes if type(size) is int]


class ServedTokens(Tokens):
    """A tokenizer with the context that a server serves."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int | None, spare: int = 0) -> None:
        """Take the server's limit and how much of it is not for the request's own tokens."""
        super().__init__(tokenizer, None, None if limit is None else limit - spare)
        self._limit = f"{limit}, one of it for a new token" if spare else str(limit)

    def _too_long(self, name: str, tokens: int, more: str) -> UserError:
        return UserError(
            f"{name}: {tokens} tokens{more} do not fit the server's limit of {self._limit}; serve the model "
            "with a larger --max-model-len, or give --truncate to score what fits (then flagged)"
        )


class Agreement:
    """A tokenizer beside the server's own, as far as the server shows it."""

    def __init__(self, client: Client, source: ModelSource, tokenizer: PreTrainedTokenizerBase) -> None:
        self._client, self._source, self.tokenizer = client, source, tokenizer

    def check(self, text: str) -> None:
        """Compare token ids, or else their number.

        Raises:
            UserError: they differ.
        """
        if self.check_ids(text):
            return
        try:
            answer = self._client.complete(self._source.model, text, max_tokens=1)
        except RefusalError:
            return
        theirs = answer.usage.prompt_tokens if answer.usage else None
        ours = [len(self._ids(text, special)) for special in (True, False)]
        if theirs and theirs not in ours:
            raise self._differs(f"it counts {theirs} tokens where this counts {ours[0]} in {text!r}")

    def check_ids(self, text: str) -> bool:
        """Compare token ids, and tell whether the server shows them; BOS alone may differ, ids get none.

        Raises:
            UserError: they differ.
        """
        theirs: list[int] | None = []
        ours: list[int] = []
        for special in (True, False):
            theirs = self._client.tokenize(self._source.model, text, special)
            ours = self._ids(text, special)
            if theirs is None or theirs == ours:
                return theirs is not None
        assert theirs is not None
        at = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), 0)
        here, there = ours[at : at + 3], theirs[at : at + 3]
        raise self._differs(f"it has {there} … where this has {here} … in {text[:60]!r}")

    def _ids(self, text: str, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special, verbose=False).input_ids
        return ids

    def _differs(self, why: str) -> UserError:
        return UserError(
            f"the tokenizer {self._source.tokenizer or 'of ' + self._source.model} does not agree with that "
            f"of the server at {self._client.url} ({why}); give the right --tokenizer"
        )
