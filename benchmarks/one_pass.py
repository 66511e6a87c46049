"""What scoring texts costs over one plain forward pass and log-softmax a text, at real sizes on a CPU.

Two random models: 135 million weights with a vocabulary of 49 thousand (as SmolLM2), and 270 million with
one of 262 thousand and sliding windows (as Gemma 3). Both sides score the same texts and take turns batch by
batch, in CPU seconds of one thread; the ratio is what batches, chunks of the head and moments add. The peak
is over the loaded model's memory.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from benchmarks.measure import Meter, resident
from benchmarks.shapes import Shape
from benchmarks.subject import CONTEXT, Joiner, make_llama
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.mini import corpus
from muse_eval.mini.tokenizer import train_tokenizer
from muse_eval.types import Logprobs

MIB = 2**20
WAYS: dict[str, tuple[bool, int | None]] = {
    "log-probabilities": (False, None),
    "… in batches of 4,096 tokens": (False, 4_096),
    "… with moments": (True, None),
}
"""What is asked: whether moments are, and the tokens of a batch; None: as many as by default."""


def llama() -> Any:
    """Make a Llama of SmolLM2-135M's sizes."""
    return make_llama(
        Shape(hidden=576, layers=30, heads=9, inner=1_536, vocabulary=49_152),
        torch.device("cpu"),
        torch.float32,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )


def gemma() -> Any:
    """Make a Gemma 3 of the 270M's sizes: five layers of six see 512 tokens."""
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=262_144,
            hidden_size=640,
            num_hidden_layers=18,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            intermediate_size=2_048,
            sliding_window=512,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
        )
    )


SHAPES = {"135m": llama, "270m": gemma}


@torch.inference_mode()
def plain(model: Any, ids: Sequence[int]) -> np.ndarray:
    """Score one text: one forward pass, one log-softmax of its whole logits."""
    tokens = torch.tensor([ids])
    table = model(input_ids=tokens, use_cache=False).logits[0, :-1].log_softmax(-1)
    found: np.ndarray = table.gather(-1, tokens[0, 1:, None])[:, 0].numpy()
    return found


def compare(model: Any, tokenizer: Any, texts: Sequence[str], way: str) -> list[str]:
    """Score the texts both ways, taking turns, and return the row of the table."""
    moments, batch = WAYS[way]
    ids = [tokenizer(text).input_ids for text in texts]
    engine = TransformersEngine(model, tokenizer, batch_tokens=batch)
    asks = [Logprobs(text, moments=moments) for text in texts]
    before, ours, theirs, apart = resident(), Meter(), Meter(), 0.0
    with engine:
        # What happens once, whoever comes first, is no side's.
        for _ in engine.logprobs(asks[:1]):
            plain(model, ids[0])
        batches = iter(engine.logprobs(asks))
        while True:
            with ours:
                some = next(batches, None)
            if some is None:
                break
            for index, found in some:
                with theirs:
                    expected = plain(model, ids[index])
                apart = max(apart, float(np.abs(found.logprobs - expected).max()))
    peaks = [f"{(meter.peak - before) / MIB:.0f}" for meter in (ours, theirs)]
    return [f"{ours.cpu:.1f}", f"{theirs.cpu:.1f}", f"{ours.cpu / theirs.cpu:.3f}", *peaks, f"{apart:.0e}"]


def in_child(shape: str, way: str, given: argparse.Namespace) -> list[str]:
    """Measure in a fresh process, so that no peak hides another's."""
    asked = ["--shape", shape, "--way", way, "--texts", str(given.texts), "--tokens", str(given.tokens)]
    command = [sys.executable, "-m", "benchmarks.one_pass", *asked]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[str] = json.loads(done.stdout)
    return found


def measure(shape: str, way: str, given: argparse.Namespace) -> list[str]:
    """Make the model and the texts, and compare."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = corpus.splits()
    tokenizer = train_tokenizer([row["text"] for row in world["base/chapters"]], 2_048, CONTEXT)
    chapters = [row["text"] for row in world["raw/forget"]]
    texts = Joiner(tokenizer, given.texts).join(chapters, given.tokens * 5 // 6)
    return compare(SHAPES[shape]().eval(), tokenizer, texts, way)


def main() -> None:
    """Measure every size and every way and print the table, or one for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="one of them; none: both")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1_000, help="of the longest text")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given.shape, given.way, given)))
        return
    table = Table()
    for heading in ("model", "asked", "muse-eval, CPU s", "plain", "ratio", "peak MiB", "plain's", "apart"):
        table.add_column(heading, justify="left" if heading in ("model", "asked") else "right")
    for shape in [given.shape] if given.shape else SHAPES:
        for way in WAYS:
            table.add_row(shape, way, *in_child(shape, way, given))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
