"""Writes the YAML of a task over a new corpus: its columns, and how its models are made and unlearned."""

import json
from dataclasses import dataclass

from muse_eval.config import fitting_batch
from muse_eval.data.corpus.splits import Making, NewCorpus

MARK = "# Made by muse-eval data init"
"""How the YAML begins."""
LONGEST_ROW = 2048
"""Tokens of a row at most: MUSE's windows. Longer texts are joined and cut into such."""
TOKENS_PER_WORD = 2
"""More than any tokenizer makes of English prose, on average; rows are not padded to this bound."""
SPECIAL = 2
"""Special tokens of a row at most: one at its beginning, one at its end."""
ROUND = 64

COLUMNS = {
    "verbmem_f": ("VerbMem Df", "verbmem", "lower", {"forget": "verbmem/forget"}),
    "knowmem_f": (
        "KnowMem Df",
        "knowmem",
        "lower",
        {"qa": "knowmem/forget_qa", "icl": "knowmem/forget_qa_icl"},
    ),
    "privleak": (
        "PrivLeak",
        "privleak",
        "zero",
        {"forget": "privleak/forget", "holdout": "privleak/holdout", "retain": "privleak/retain"},
    ),
    "knowmem_r": (
        "KnowMem Dr",
        "knowmem",
        "higher",
        {"qa": "knowmem/retain_qa", "icl": "knowmem/retain_qa_icl"},
    ),
    "verbmem_r": ("VerbMem Dr", "verbmem", "higher", {"forget": "verbmem/retain"}),
}
"""Title, metric, goal and splits of each column that a corpus may have."""


@dataclass(frozen=True)
class Rows:
    """What a row of training text is, and how many there are of each side."""

    kind: str
    max_len: int
    forget: int
    retain: int
    longest: int
    """Tokens of the longest text; where they are not known, as many as there may be."""

    def __str__(self) -> str:
        """Say what a row is, and why."""
        if self.kind == "document":
            return f"a text a row, cut at {self.max_len} tokens"
        return (
            f"all texts as one, cut into windows of {self.max_len} tokens: "
            f"the longest may have {self.longest:,}, too many for a row"
        )


def plan_rows(corpus: NewCorpus, how: Making) -> Rows:
    """Return rows that hold every text whole, or windows where a text is too long for one."""
    lengths = {
        side: [_tokens(str(text), how) for text in corpus.splits[f"raw/{split}"]]
        for side, split in (("forget", "forget"), ("retain", "retain1"))
    }
    longest = max(max(found) for found in lengths.values())
    if longest <= LONGEST_ROW:
        wide = -(-longest // ROUND) * ROUND
        return Rows("document", wide, len(lengths["forget"]), len(lengths["retain"]), longest)
    forget, retain = (-(-sum(lengths[side]) // LONGEST_ROW) for side in ("forget", "retain"))
    return Rows("chunk", LONGEST_ROW, forget, retain, longest)


def _tokens(text: str, how: Making) -> int:
    """Return a text's tokens, special ones counted, or as many as it may have where only words are known."""
    units = how.measure(text)[-1][1]
    if how.unit != "words":
        return units + SPECIAL
    # Older tokenizers make a token or more of every letter beyond ASCII.
    return TOKENS_PER_WORD * units + sum(not letter.isascii() for letter in text) + SPECIAL


def task_yaml(name: str, source: str, corpus: NewCorpus, rows: Rows) -> str:
    """Return the task's YAML, which stands in the folder of its data.

    Args:
        name: the task's.
        source: where the data come from.
        corpus: what was made.
        rows: as ``plan_rows`` returns them.
    """
    columns = "".join(
        _column(key, corpus)
        for key, (*_, splits) in COLUMNS.items()
        if corpus.splits.keys() >= {*splits.values()}
    )
    batch = fitting_batch(rows.forget + rows.retain)
    return f"""\
{MARK}; docs/tasks.md has every key. Change what you like.
name: {json.dumps(name, ensure_ascii=False)}
title: {json.dumps(name, ensure_ascii=False)}
source: {json.dumps(source, ensure_ascii=False)}
data: {{source: folder, folder: .}}
columns:
{columns}finetune:  # how target and retrain model are made
  lr: 1.0e-5  # for some billion parameters; 135 million need about 2.0e-4
  epochs: 8
  batch_size: {batch}
unlearn:
  forget: raw/forget
  retain: raw/retain1
  rows: {rows.kind}
  max_len: {rows.max_len}
  lr: 1.0e-5  # for some billion parameters; 135 million need about 5.0e-5
  epochs: 5
  batch_size: {batch}
  lambda: 1.0
"""


def _column(key: str, corpus: NewCorpus) -> str:
    title, metric, goal, splits = COLUMNS[key]
    named = ", ".join(f"{role}: {split}" for role, split in splits.items())
    params = {"verbmem": f"{{max_tokens: {corpus.truth}}}", "privleak": ""}.get(metric)
    if params is None:
        params = f"{{shots: {corpus.shots[splits['qa'].removeprefix('knowmem/').removesuffix('_qa')]}}}"
    lines = [f"title: {title}", f"metric: {metric}", f"goal: {goal}", f"splits: {{{named}}}"]
    lines += [f"params: {params}"] if params else []
    return f"  {key}:\n" + "".join(f"    {line}\n" for line in lines)
