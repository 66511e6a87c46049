"""A loaded model as lm-eval asks it, which tells how far it is; importing this loads lm-eval."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lm_eval.models.huggingface import HFLM

from muse_eval.types import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class AskedModel(HFLM):  # type: ignore[misc]
    """lm-eval's own way of asking a transformers model."""

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        batch: int,
        name: str,
        progress: Progress,
    ) -> None:
        """Take a model and how many texts it reads at once; ``progress`` is told under ``name``."""
        super().__init__(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch)
        self._tell = partial(progress, name)
        self._done = self._wanted = 0

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> Any:
        """Score continuations."""
        self._done, self._wanted = 0, len(requests)
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> Any:
        """Continue prompts."""
        self._done, self._wanted = 0, len(requests)
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def _model_call(self, inps: Any, *args: Any, **options: Any) -> Any:
        found = super()._model_call(inps, *args, **options)
        self._count(len(inps))
        return found

    def _model_generate(self, context: Any, *args: Any, **options: Any) -> Any:
        found = super()._model_generate(context, *args, **options)
        self._count(len(context))
        return found

    def _count(self, texts: int) -> None:
        self._done = min(self._done + texts, self._wanted)
        self._tell(self._done, self._wanted)
