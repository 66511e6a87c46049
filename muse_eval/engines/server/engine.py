"""The server engine: a model behind an OpenAI-compatible API, asked by token ids of this side's tokenizer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import transformers

from muse_eval.config import fingerprint
from muse_eval.engines import ModelSource
from muse_eval.engines.draws import draw_seed, require_warm
from muse_eval.engines.loading import tokenizer_digest
from muse_eval.engines.server.answers import Choice
from muse_eval.engines.server.client import Client, ForeignError, RefusalError
from muse_eval.engines.server.draws import SEEDS, draw_fields, require_seeds, require_vllm
from muse_eval.engines.server.identity import (
    Agreement,
    Served,
    ServedTokens,
    find_served,
    find_tokenizer,
    find_vocabulary,
)
from muse_eval.engines.server.threads import in_threads
from muse_eval.engines.server.ways import WAYS, Way, ranks_of
from muse_eval.engines.settings import ServerSettings
from muse_eval.engines.tokens import before_stop
from muse_eval.errors import UserError
from muse_eval.own_code import code_digest
from muse_eval.types import Batches, Generate, Generation, Logprobs, Request, TokenLogprobs, Truncate

T = TypeVar("T")
PROBE = "The keeper's 7 ships:\n\nQuestion: Où? Ωμέγα, 漢字 and 🙂 (two  spaces)\tAnswer: 3.14"
"""Asked to learn how the server tokenizes, which log-probabilities it gives and what its model is like."""
PROBE_TOKENS = 32
PROBE_PROMPTS = 4
"""Of the task's own, which a model that has unlearned continues in another way than its target does."""


# ── the engine ───────────────────────────────────────────────────────────────────────────────────
def open_server(
    source: ModelSource, settings: ServerSettings, asks: Sequence[Request] = ()
) -> "ServerEngine":
    """Open a served model; the server is first asked when its id, its provenance or an answer is.

    Args:
        source: names the model as it is served, and where.
        settings: how it is asked.
        asks: all that it will be asked: log-probs that it cannot give are then missed before all else.

    Raises:
        UserError: the address or the key will not do.
    """
    client = Client(source.base_url or "", source.api_key_env, settings)
    return ServerEngine(source, client, settings.concurrency, asks)


class ServerEngine:
    """Answers from a served model, several requests at once."""

    def __init__(
        self, source: ModelSource, client: Client, concurrency: int, asks: Sequence[Request] = ()
    ) -> None:
        """Take the model, its server, and all that will be asked."""
        self._source, self._client, self._concurrency = source, client, concurrency
        self._asks = list(asks)
        self._compared = False
        self._no_way, self._ranked = "", False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    # ── what it is ──────────────────────────────────────────────────────────────────────────────
    @cached_property
    def id(self) -> str:
        """The pin, or the address and how the model behaves; the tokenizer; the digest of this code."""
        known = self.provenance
        return (
            f"server {known['weights']} {known['tokenizer']} {self._cut} "
            f"transformers-{transformers.__version__} {code_digest('engines')[:16]}"
        )

    @property
    def _cut(self) -> str:
        """Where the server's context cuts what is too long, if that may be cut."""
        if not any(getattr(ask, "truncate", False) is True for ask in self._asks):
            return "uncut"
        return f"cut at {self._served.limit} with {self._way.spare if self._way else 0} to spare"

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Model, pin, tokenizer and address; the rest is the server's affair."""
        source, client = self._source, self._client
        tokenizer = self._agreement.tokenizer
        texts = [ask for ask in self._asks if isinstance(ask, Logprobs)]
        if texts:
            # Before any answer is paid for.
            self._require_way(any(ask.ranks for ask in texts))
        self._require_draws(self._asks)
        pinned = bool(source.revision)
        return {
            "engine": "server",
            "model": source.model,
            "path": None,
            "revision": source.revision or None,
            "weights": f"pinned {source.model}@{source.revision}" if pinned else self._unpinned(),
            "tokenizer": tokenizer_digest(tokenizer),
            "dtype": "server",
            "device": client.url,
            "pinned": pinned,
        }

    def _unpinned(self) -> str:
        """Describe a model that nothing pins by what it says to a fixed text.

        Whoever runs the server can put another model under the same name. It must not be given the former
        one's cached answers, and its behaviour is all that shows. The mean is rounded, because a server may
        add in another order next time; where the digest changes all the same, answers are asked again.
        """
        ids = self._probe
        said = [self._continued("the probe", one, {"max_tokens": PROBE_TOKENS}, ()) for one in self._probes()]
        mean = None
        if self._way is not None:
            mean = round(float(np.mean(self._scored(self._way, "the probe", ids)[0])), 2)
        digest = fingerprint({"continuation": said, "mean": mean})[:16]
        return f"unpinned {self._source.model} {self._client.url} {digest}"

    def _probes(self) -> list[list[int]]:
        """Return what an unpinned model is told by: a fixed text, and the first prompts it is to continue."""
        prompts = [ask for ask in self._asks if isinstance(ask, Generate)][:PROBE_PROMPTS]
        texts = [self._prompts.ids(ask) for ask in prompts]
        limit = self._served.limit
        room = None if limit is None else max(1, limit - PROBE_TOKENS)
        return [self._probe, *(ids[:room] for ids in texts if ids)]

    @cached_property
    def _served(self) -> Served:
        return find_served(self._client, self._source.model)

    # ── its tokens ──────────────────────────────────────────────────────────────────────────────
    @cached_property
    def _agreement(self) -> Agreement:
        tokenizer = find_tokenizer(self._source, self._served)
        found = Agreement(self._client, self._source, tokenizer)
        found.check(PROBE)
        return found

    @cached_property
    def _vocabulary(self) -> int:
        return find_vocabulary(self._agreement.tokenizer, self._served)

    @cached_property
    def _prompts(self) -> ServedTokens:
        return ServedTokens(self._agreement.tokenizer, self._served.limit)

    @cached_property
    def _texts(self) -> ServedTokens:
        return ServedTokens(self._agreement.tokenizer, self._served.limit, self._require_way().spare)

    @cached_property
    def _probe(self) -> list[int]:
        ids: list[int] = self._agreement.tokenizer(PROBE).input_ids
        return ids if self._served.limit is None else ids[: max(2, self._served.limit - PROBE_TOKENS)]

    # ── the three questions ─────────────────────────────────────────────────────────────────────
    def truncate(self, asks: Sequence[Truncate]) -> list[str]:
        """Cut each text with the tokenizer on this side."""
        return self._prompts.truncate(asks) if asks else []

    def generate(self, asks: Sequence[Generate]) -> Batches[Generation]:
        """Continue prompts greedily or by draws, the longest first."""
        if not asks:
            return iter(())
        fitted = [self._prompts.fit_prompt(ask) for ask in asks]
        self._require_draws(asks)
        self._compare(asks[0].prompt)

        def answer(index: int) -> Generation:
            ask, (ids, cut) = asks[index], fitted[index]
            fields = {"max_tokens": ask.max_tokens, **({"stop": list(ask.stop)} if ask.stop else {})}
            if ask.temperature:
                fields |= draw_fields(ask.temperature, ask.top_p, draw_seed(ids, ask))
            return Generation(self._continued(ask.name, ids, fields, ask.stop), cut)

        return self._in_threads(
            answer, [len(ids) + a.max_tokens for (ids, _), a in zip(fitted, asks, strict=True)]
        )

    def logprobs(self, asks: Sequence[Logprobs]) -> Batches[TokenLogprobs]:
        """Score texts, the longest first; a server does not tell the moments of its distribution."""
        if not asks:
            return iter(())
        way = self._require_way(any(ask.ranks for ask in asks))
        fitted = [self._texts.fit_text(ask) for ask in asks]
        self._compare(asks[0].text)

        def answer(index: int) -> TokenLogprobs:
            (ids, cut), ask = fitted[index], asks[index]
            values, ranks = self._scored(way, ask.name, ids)
            behind = slice(self._texts.first_scored(ask) - 1, None)
            if ask.ranks and ranks is None:
                raise UserError(f"{ask.name}: {self._client.url} gave no ranks for its {len(ids)} tokens")
            told = np.asarray(ranks[behind], np.int32) if ask.ranks and ranks is not None else None
            return TokenLogprobs(values[behind], truncated=cut, ranks=told)

        return self._in_threads(answer, [len(ids) for ids, _ in fitted])

    def _require_draws(self, asks: Sequence[Request]) -> None:
        """Refuse draws that the server does not make, before any answer is paid for."""
        drawn = [ask for ask in asks if isinstance(ask, Generate) and ask.temperature]
        if drawn:
            require_warm(drawn)
            require_vllm(self._client.url, self._served.vllm)
            require_seeds(self._client.url, self._said_by_seed)

    @cached_property
    def _said_by_seed(self) -> list[str]:
        each = [{"max_tokens": PROBE_TOKENS, **draw_fields(2.0, 1.0, seed)} for seed in SEEDS]
        return [self._continued("the probe", self._probe, fields, ()) for fields in each]

    def _compare(self, text: str) -> None:
        """Compare token ids once more, on a text of the task's own."""
        if not self._compared:
            self._agreement.check_ids(text)
            self._compared = True

    def _in_threads(self, answer: Callable[[int], T], sizes: Sequence[int]) -> Iterator[list[tuple[int, T]]]:
        order = sorted(range(len(sizes)), key=lambda index: (-sizes[index], index))
        return in_threads(answer, order, self._concurrency)

    def _continued(self, name: str, ids: list[int], fields: Mapping[str, Any], stop: tuple[str, ...]) -> str:
        whole: dict[str, Any] = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0, **fields}
        if self._served.vllm:
            # vLLM takes defaults from the model's generation_config.json, a penalty too.
            whole |= {"repetition_penalty": 1.0, "skip_special_tokens": True, "return_token_ids": True}
        choice = self._choice(name, ids, whole)
        new = choice.token_ids
        # Decoded here where it can be, as from every engine; a server may treat spaces in its own way.
        return before_stop(choice.text if new is None else self._prompts.decode(new), stop)

    @cached_property
    def _way(self) -> Way | None:
        """How this server gives log-probabilities of a prompt, if it does."""
        for way in WAYS:
            try:
                answer = self._client.complete(self._source.model, self._probe, **way.fields)
            except RefusalError:
                continue
            except ForeignError as foreign:
                # Who asks for no log-probs need not know.
                self._no_way = f" ({foreign})"
                continue
            if way.read(answer.choice, self._probe, way.spare) is not None:
                self._ranked = ranks_of(answer.choice, self._probe) is not None
                return way
        return None

    def _require_way(self, ranks: bool = False) -> Way:
        if self._way is None:
            raise UserError(
                f"the server at {self._client.url} returns no prompt log-probs{self._no_way}; PrivLeak needs "
                "them: serve the model with vllm serve, or score it with --engine vllm or hf, or give "
                "--metrics without privleak"
            )
        if ranks and not self._ranked:
            raise UserError(
                f"the server at {self._client.url} tells no ranks; serve the model with vllm serve, or score "
                "it with --engine vllm or hf"
            )
        return self._way

    def _scored(self, way: Way, name: str, ids: list[int]) -> tuple[np.ndarray, list[int] | None]:
        choice = self._choice(name, ids, way.fields)
        values = way.read(choice, ids, way.spare)
        if values is None:
            raise UserError(f"{name}: {self._client.url} gave no log-probs for its {len(ids)} tokens")
        return np.asarray(values, dtype=np.float32), ranks_of(choice, ids)

    def _choice(self, name: str, ids: list[int], fields: Mapping[str, Any]) -> Choice:
        try:
            return self._client.complete(
                self._source.model, ids, vocabulary=self._vocabulary, **fields
            ).choice
        except RefusalError as refusal:
            raise UserError(
                f"{name}: the server at {self._client.url} refuses its {len(ids)} tokens ({refusal}); serve "
                "the model with a larger context if they are too many, give the right --tokenizer if unknown"
            ) from None
        except ForeignError as foreign:
            raise UserError(f"{name}: {foreign}") from None
