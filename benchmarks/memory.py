"""Memory of scoring texts with a large vocabulary: grows with tokens × hidden, not with tokens × vocabulary.

Every size runs in a process of its own, so that no peak hides another's.
"""

import argparse
import subprocess
import sys
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.measure import Meter, resident
from muse_eval.engines.hf.scoring import CHUNK_ELEMENTS, MIN_CHUNK, score_texts
from muse_eval.types import Logprobs

VOCABULARY = 131_072
HIDDEN = 64
LENGTH = 512
SIZES = (512, 2_048, 8_192)
FULL_SIZES = (512, 2_048)
"""What the whole log-softmax is measured for; it is computed for the rest."""
MIB = 2**20


def model() -> Any:
    """Make a small Llama with a large vocabulary and random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        tie_word_embeddings=True,
    )
    made: Any = LlamaForCausalLM(config)
    return made.eval()


@torch.inference_mode()
def full_log_softmax(subject: Any, texts: list[list[int]]) -> None:
    """Score texts the plain way: logits and log-softmax of all tokens at once."""
    ids = torch.tensor(texts)
    table = torch.nn.functional.log_softmax(subject(input_ids=ids, use_cache=False).logits[:, :-1], dim=-1)
    table.gather(-1, ids[:, 1:, None])


def peak(way: str, tokens: int) -> float:
    """Return the MiB that scoring a batch takes over the loaded model."""
    torch.set_num_threads(1)
    subject = model()
    texts = torch.randint(3, VOCABULARY, (tokens // LENGTH, LENGTH)).tolist()
    score_texts(subject, [texts[0][:4]], [Logprobs("")], 0)
    before = resident()
    with Meter() as meter:
        if way == "full":
            full_log_softmax(subject, texts)
        else:
            score_texts(subject, texts, [Logprobs("", moments=way == "moments")] * len(texts), 0)
    return (meter.peak - before) / MIB


def in_child(way: str, tokens: int) -> float:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--way", way, "--tokens", str(tokens)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure every size and print the table, or one size for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--way", choices=("chunks", "moments", "full"), help=argparse.SUPPRESS)
    parser.add_argument("--tokens", type=int, default=LENGTH, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(peak(given.way, given.tokens))
        return
    table = Table(title=f"peak MiB over the model's, vocabulary {VOCABULARY:,}, hidden {HIDDEN}, float32")
    for heading in ("tokens of a batch", "muse-eval", "with moments", "whole log-softmax", "its table alone"):
        table.add_column(heading, justify="right")
    for tokens in SIZES:
        full = f"{in_child('full', tokens):,.0f}" if tokens in FULL_SIZES else "not run"
        alone = tokens * VOCABULARY * 4 / MIB
        ways = [f"{in_child(way, tokens):,.0f}" for way in ("chunks", "moments")]
        table.add_row(f"{tokens:,}", *ways, full, f"{alone:,.0f}")
    Console(width=110).print(table)
    chunk = max(MIN_CHUNK, CHUNK_ELEMENTS["cpu"] // VOCABULARY)
    size = chunk * VOCABULARY * 4 / MIB
    print(f"one chunk's logits: {chunk} tokens × {VOCABULARY:,} × 4 bytes = {size:.0f} MiB")


if __name__ == "__main__":
    main()
