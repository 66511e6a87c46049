"""How MUSE's texts fall into a tokenizer's tokens: the figures of docs/protocol.md, no model needed.

python -m benchmarks.tokenizer_fit --tokenizer DIR --data-dir MUSE-NEWS
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from muse_eval.metrics.rouge import clean_up, rouge

TOKENS = 128
"""New tokens of VerbMem's continuation, and tokens of its truth, BOS counted."""


class Corpus:
    """MUSE's scoring texts, and the forget articles with their white space evened out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.verbmem = self._rows("verbmem/forget")
        self.answers = [
            str(row["answer"]) for side in ("forget", "retain") for row in self._rows(f"knowmem/{side}_qa")
        ]
        self.scored = [
            row if isinstance(row, str) else str(row["text"])
            for split in ("forget", "holdout", "retain")
            for row in self._rows(f"privleak/{split}")
        ]
        raw = [row if isinstance(row, str) else str(row["text"]) for row in self._rows("raw/forget")]
        self.articles = even("\n\n".join(raw))

    def _rows(self, split: str) -> list[Any]:
        rows: list[Any] = json.loads((self._folder / f"{split}.json").read_text(encoding="utf-8"))
        return rows


def even(text: str) -> str:
    return " ".join(text.split())


def perfect_verbmem(corpus: Corpus, tokenizer: Any) -> list[float]:
    """Return ROUGE-L of each truth that is found in the articles against the article's own next tokens."""
    scores = []
    for row in corpus.verbmem:
        start = corpus.articles.find(even(row["gt"]))
        if start >= 0:
            following = corpus.articles[start : start + 20 * TOKENS]
            said = tokenizer(following, add_special_tokens=False).input_ids[:TOKENS]
            response, truth = (
                clean_up(tokenizer.decode(ids, skip_special_tokens=True))
                for ids in (said, cut(tokenizer, row))
            )
            scores.append(float(rouge(response, truth)["rougeL"] or 0.0))
    return scores


def cut(tokenizer: Any, row: dict[str, str]) -> list[int]:
    ids: list[int] = tokenizer(row["gt"]).input_ids[:TOKENS]
    return ids


def joined(tokenizer: Any, pairs: Iterable[tuple[str, str]]) -> int:
    """Count the pairs whose second text changes the first one's tokens."""
    count = 0
    for first, second in pairs:
        ids = tokenizer(first).input_ids
        count += tokenizer(first + second).input_ids[: len(ids)] != ids
    return count


def found_cuts(corpus: Corpus) -> list[tuple[str, str]]:
    """Return each prompt and its truth as they stand in the articles: with a space between, or none."""
    pairs = []
    for row in corpus.verbmem:
        for space in ("", " "):
            if even(row["prompt"] + space + row["gt"]) in corpus.articles:
                pairs.append((row["prompt"], space + row["gt"]))
                break
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--data-dir", required=True, type=Path)
    options = parser.parse_args()
    tokenizer, corpus = AutoTokenizer.from_pretrained(options.tokenizer), Corpus(options.data_dir)
    lengths = [len(tokenizer(row["gt"]).input_ids) for row in corpus.verbmem]
    perfect = perfect_verbmem(corpus, tokenizer)
    cuts = found_cuts(corpus)
    texts = [row[side] for row in corpus.verbmem for side in ("prompt", "gt")]
    whole = [*texts, *corpus.scored]
    back = sum(
        tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text for text in whole
    )
    altered = sum(clean_up(text) != text for text in [*texts, *corpus.answers])
    spaces = sum(row["prompt"][-1:].isspace() for row in corpus.verbmem)
    apart = sum(not rest.startswith(" ") for _, rest in cuts)
    answers = corpus.answers
    print(
        f"KnowMem: {joined(tokenizer, (('Answer: ', a) for a in answers))} of {len(answers)} answers are "
        "joined to the prompt's space"
    )
    print(f"KnowMem: {joined(tokenizer, (('Answer:', ' ' + a) for a in answers))} are joined to the colon")
    print(f"VerbMem: truths have {min(lengths)} to {max(lengths)} tokens, median {median(lengths):g}")
    print(
        f"VerbMem: {100 * sum(perfect) / len(perfect):.1f} for {len(perfect)} truths continued word for word"
    )
    print(
        f"VerbMem: {spaces} prompts end in white space; of {len(cuts)} found in raw/forget {apart} go "
        f"on without a space, {joined(tokenizer, cuts)} end inside a token"
    )
    print(f"clean-up alters {altered} of {len(texts) + len(answers)} prompts, truths and answers")
    print(f"decoding gives back {back} of {len(whole)} texts")


if __name__ == "__main__":
    main()
