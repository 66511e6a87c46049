"""What the scoring stage asks: a task's own questions, or made-up ones as long as MUSE-News's."""

import random
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from benchmarks.gpu.job import Job
from benchmarks.gpu.words import draw, word_tokenizer
from benchmarks.subject import CONTEXT
from muse_eval.config import RunConfig
from muse_eval.metrics.knowmem import STOP
from muse_eval.mini.tokenizer import train_tokenizer
from muse_eval.scoring.plan import plan
from muse_eval.types import Generate, Logprobs

Ask = Generate | Logprobs
Columns = dict[str, Sequence[Ask]]
"""Column's name to what it asks a model."""

NEWS = {"verbmem": (100, 985, 128), "knowmem": (100, 354, 16, 32), "privleak": (200, 2_019)}
"""MUSE-News under a vocabulary of 32,000: examples; tokens read (shared ones, then own), and new ones."""
TINY = {"verbmem": (4, 60, 8), "knowmem": (4, 40, 6, 6), "privleak": (6, 90)}


def make_columns(job: Job) -> tuple[Columns, PreTrainedTokenizerBase, str]:
    """Return each column's questions, a tokenizer that reads them, and where they came from."""
    if job.data_dir is None:
        made = made_up(job)
        return made, word_tokenizer(job.sizes.vocabulary), "made-up texts as long as MUSE-News's"
    planned = plan(RunConfig(model="none", task=job.task, data_dir=Path(job.data_dir), engine="hf"))
    columns: Columns = {
        column.name: [ask for ask in column.requests if isinstance(ask, Generate | Logprobs)]
        for column in planned.columns
    }
    texts = [
        ask.prompt if isinstance(ask, Generate) else ask.text for asks in columns.values() for ask in asks
    ]
    # Llama's own takes a download; trained on the very texts, this one's tokens are longer.
    tokenizer = train_tokenizer(texts, job.sizes.vocabulary, CONTEXT)
    return columns, tokenizer, f"{planned.task.title}, tokenizer trained on its texts"


def made_up(job: Job) -> Columns:
    """Draw as many questions as MUSE-News has, as long as its own."""
    rng, vocabulary = random.Random(0), job.sizes.vocabulary
    sizes = TINY if job.small else NEWS
    examples, read, new = sizes["verbmem"]
    prompts = [draw(rng, vocabulary, read + rng.randint(-9, 9)) for _ in range(examples)]
    columns: Columns = {"verbmem_f": [Generate(prompt, new) for prompt in prompts]}
    examples, shared, own, new = sizes["knowmem"]
    for name in ("knowmem_f", "knowmem_r"):
        shots = draw(rng, vocabulary, shared)
        questions = [draw(rng, vocabulary, own + rng.randint(-5, 5)) for _ in range(examples)]
        columns[name] = [Generate(f"{shots} {question}", new, STOP) for question in questions]
    examples, longest = sizes["privleak"]
    # 395 thousand tokens in 200 texts, none longer than 2,019.
    lengths = [longest - rng.randint(0, longest // 25) for _ in range(examples)]
    columns["privleak"] = [Logprobs(draw(rng, vocabulary, length), moments=True) for length in lengths]
    return columns
