"""Stage ``exactness``: float32 on the device gives what float32 on the CPU gives, however it is batched.

Five architectures of random weights answer the same questions through muse-eval's own engine. Greedy answers
must be equal, but where the two likeliest tokens lie within 1e-4; log-probabilities must lie within 1e-4.
What half precision changes is told, and no verdict hangs on it.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerBase,
    Qwen3Config,
)

from benchmarks.gpu.answers import (
    Agreement,
    Answers,
    CountingEngine,
    Gaps,
    Questions,
    agree,
    answer,
    make_questions,
)
from benchmarks.gpu.job import Job, Row, Rows
from benchmarks.gpu.memory import release
from benchmarks.gpu.words import SPECIAL, word_tokenizer
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.engines.loading import has_soft_caps

COLUMNS = {
    "what": "",
    "same": "answers equal",
    "tied": "tied",
    "wrong": "wrong",
    "worst": "log p, at most",
    "batches": "in batches of 1, 7, 64",
    "eager": "eager attention",
    "drift": "16 bits: mean",
    "drift_worst": "16 bits: at most",
    "drift_same": "16 bits: answers equal",
    "exact": "exact",
}
SIZES = (1, 7, 64)
"""Requests in a batch."""
ALONE = 8
"""Of each kind of question, so many are asked in batches of one, which are slow."""
MEMORY = "out of memory"
"""The row that shows what happens then."""
EVERYTHING = 10**9
"""Tokens of a batch that memory shall not hold."""

Config = Callable[[], Any]


def configs(small: bool) -> dict[str, Config]:
    """Return each architecture's configuration: as large as the test oracle, or to prove that this runs."""
    hidden, layers, inner, vocabulary = (64, 2, 172, 512) if small else (128, 4, 344, 4_096)
    # Far apart enough that rounding does not swap the two likeliest tokens.
    common: dict[str, Any] = {"vocab_size": vocabulary, "initializer_range": 0.1}
    common |= SPECIAL
    usual: dict[str, Any] = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 4}
    usual |= {"intermediate_size": inner, "max_position_embeddings": 1_024}
    groups: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 32}
    return {
        "Llama": lambda: LlamaConfig(**common, **usual),
        "GPT-2": lambda: GPT2Config(**common, n_embd=hidden, n_layer=layers, n_head=4, n_positions=1_024),
        "GPT-NeoX": lambda: GPTNeoXConfig(**common, **usual),
        "Gemma-2": lambda: Gemma2Config(
            **common, **usual, **groups, sliding_window=64, query_pre_attn_scalar=32
        ),
        "Qwen-3": lambda: Qwen3Config(**common, **usual, **groups),
    }


def run(job: Job, rows: Rows) -> dict[str, Any]:
    """Compare every architecture; return whether all were exact."""
    # Not even where a container's environment turns it on.
    torch.set_float32_matmul_precision("highest")
    count, longest, new = (9, 60, 6) if job.small else (64, 200, 12)
    made = configs(job.small)
    vocabulary = made["Llama"]().vocab_size
    tokenizer = word_tokenizer(vocabulary)
    questions = make_questions(vocabulary, count, longest, new)
    for name, config in made.items():
        rows.attempt(name, partial(compare, job, config, tokenizer, questions))
    if job.on_gpu:
        rows.attempt(MEMORY, partial(run_out, job, made["Llama"], tokenizer, vocabulary))
    else:
        rows.skip(MEMORY, "only a GPU's memory can be made scarce")
    # What failed, or had no time, is not exact.
    checked = [row for row in rows.all if job.on_gpu or row["what"] != MEMORY]
    return {"exact": all(row.get("exact") is True for row in checked)}


# ── one architecture ─────────────────────────────────────────────────────────────────────────────
def make_model(make: Config, attention: str | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """Make a model of random weights on the CPU; in float32 they depend on nothing but the config."""
    torch.manual_seed(0)
    config = make()  # a new one each time, since a model writes into its own
    if has_soft_caps(config):
        attention = "eager"
    chosen = {"attn_implementation": attention} if attention else {}
    return AutoModelForCausalLM.from_config(config, dtype=dtype, **chosen).eval()


def compare(job: Job, config: Config, tokenizer: PreTrainedTokenizerBase, questions: Questions) -> Row:
    """Answer on the CPU and on the device, in batches of several sizes, with both attentions, in 16 bits."""
    base = make_model(config)
    with TransformersEngine(base, tokenizer) as engine:
        plain = answer(engine, replace(questions, shared=[], texts=[]), ())
        stops = [_stop(text) for text in plain.texts["prompts"]]
        reference = answer(engine, questions, stops)
    gaps = Gaps(base, questions, reference)

    def asked(model: Any, size: int | None = None) -> Answers:
        some = questions.first(ALONE) if size == 1 else questions
        with TransformersEngine(model, tokenizer) as engine:
            return answer(engine, some, stops[: len(some.prompts)], size)

    model = copy.deepcopy(base).to(job.place)
    found = agree(reference, asked(model), gaps)
    batched = [
        agree(reference.first(ALONE) if size == 1 else reference, asked(model, size), gaps) for size in SIZES
    ]
    # Made anew, not cast: a model in half precision keeps the frequencies of its positions in float32.
    half = make_model(config, dtype=job.dtype if job.on_gpu else torch.bfloat16)
    half.load_state_dict(base.state_dict())
    drift = agree(reference, asked(half.to(job.place)), gaps)
    row = {**_columns(found), "batches": _worst(batched)}
    checked = [found, *batched]
    if not has_soft_caps(base.config):  # those are never run otherwise
        eager = agree(reference, asked(make_model(config, "eager").to(job.place)), gaps)
        checked.append(eager)
        row["eager"] = _worst([eager])
    row |= {"drift": _finite(drift.mean), "drift_worst": _finite(drift.worst), "drift_same": drift.same}
    row["wrong_answers"] = [name for one in checked for name in one.wrong][:9]
    row["exact"] = all(one.exact for one in checked)
    return row


def _stop(text: str) -> str:
    """Return a stop string in the second half of an answer."""
    words = text.split()
    return f" {words[len(words) // 2]}"


def _columns(found: Agreement) -> Row:
    return {
        "same": found.same,
        "tied": found.tied,
        "wrong": len(found.wrong),
        "worst": _finite(found.worst),
    }


def _worst(found: list[Agreement]) -> float | None:
    return _finite(max(one.worst for one in found))


def _finite(value: float) -> float | None:
    """Return a number that JSON has; what is none of these fails the check all the same."""
    return value if math.isfinite(value) else None


# ── too little memory ────────────────────────────────────────────────────────────────────────────
def run_out(job: Job, config: Config, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> Row:
    """Give all questions as one batch a third of the memory it takes; it must be halved and go on.

    Raises:
        RuntimeError: memory did not run out, so that nothing was shown.
    """
    questions = make_questions(vocabulary, 256, 500, 8)
    model = make_model(config).to(job.place)
    release()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    stops = ["none"] * len(questions.prompts)
    with TransformersEngine(model, tokenizer, batch_tokens=EVERYTHING) as engine:
        roomy = answer(engine, questions, stops)
    need = torch.cuda.max_memory_reserved() - before
    release()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((before + need / 3) / total)
    try:
        with CountingEngine(model, tokenizer, batch_tokens=EVERYTHING) as engine:
            scarce = answer(engine, questions, stops)
            ran_out = engine.ran_out
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    if not ran_out:
        raise RuntimeError(f"a third of {need / 2**20:.0f} MiB was enough: nothing was shown")
    gaps = Gaps(make_model(config), questions, roomy)
    found = agree(roomy, scarce, gaps)
    return {**_columns(found), "halved": ran_out, "exact": found.exact}
