"""Fixtures that many tests share: a tiny tokenizer and a tiny random Llama saved with it."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from muse_eval import late
from tests.support.marks import (
    is_elsewhere,
    is_left_out,
    longest_first,
    mark_slow,
    started_processes,
    watch_processes,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
PROSE = (
    "Question: Who wrote the letter to the harbour?\nAnswer: the old keeper\n\n"
    "Question: Where did the seven ships anchor?\nAnswer: in the bay of Oru\n\n"
    "The keeper of the lighthouse wrote a letter every evening, and the harbour answered in the morning. "
    "Nobody knew where the seven ships had gone, but the bay of Oru was never empty again."
)


# An example that took long says nothing of the code where other processes want the cores.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    watch_processes()
    late.start()  # As the command line does.
    if hasattr(config, "workerinput"):
        # All has been told by then, and Python takes seconds to take torch and transformers apart.
        atexit.register(os._exit, 0)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no module all of whose tests would be left out again."""
    return is_left_out(os.path.relpath(collection_path, config.rootpath), config.option.markexpr) or None


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Refuse a mark where a run of the tests with that mark would not look for it."""
    made: Any = yield
    for item in made if isinstance(made, list) else [made]:
        if isinstance(item, pytest.Item) and is_elsewhere(item):
            raise pytest.Collector.CollectError(
                f"{item.nodeid} has a mark where MARKED_IN of tests/support/marks.py has none"
            )
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_slow(items)
    longest_first(items)


def pytest_collection_finish() -> None:
    """Spare each load of a model the texts of its configurations, made for a log that nobody reads."""
    if transformers := sys.modules.get("transformers"):
        transformers.PreTrainedConfig.__repr__ = object.__repr__


_frozen_at: list[Path] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take what lives out of the garbage collector's sight.

    The code under test collects garbage after every model, and each time goes through all that torch,
    transformers and pytest hold: in a process of many tests a second and more. Tests that are not slow leave
    so little behind that it is done once a module for all of them.
    """
    if item.get_closest_marker("slow") or _frozen_at != [item.path]:
        gc.collect()
        gc.freeze()
        _frozen_at[:] = [item.path]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let Python's end, where there is one, see everything again: libraries complain of what is left over."""
    if not hasattr(config, "workerinput"):
        gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that starts a process and is not marked ``slow``."""
    started_processes()
    yield
    if (started := started_processes()) and not item.get_closest_marker("slow"):
        pytest.fail(f"this test starts a process ({started[0]}): mark it slow")


@pytest.fixture(autouse=True)
def _no_collections_of_vllm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare vLLM the collections of each start and end, half their time in a process of many tests.

    A GPU is left to it: there they free the memory that the next start counts on.
    """
    if request.node.get_closest_marker("vllm") and not Path("/dev/nvidiactl").exists():
        monkeypatch.setattr(gc, "collect", lambda *_, **__: 0)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 320 tokens that puts BOS in front of a text, as Llama's does; it reads any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PROSE] * 2, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, model_max_length=1024
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """Return a random two-layer Llama (context 1,024) with ``tiny_tokenizer``; copy it to change it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # The smallest that vLLM has on a CPU.
        max_position_embeddings=1024,
        initializer_range=0.2,
        pad_token_id=tiny_tokenizer.pad_token_id,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder
