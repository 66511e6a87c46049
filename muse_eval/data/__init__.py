"""A task's texts and questions: where they come from, what they must look like, what is odd in them."""

from muse_eval.data.corpus.cutting import by_tokens, by_words
from muse_eval.data.corpus.splits import Making, make_corpus
from muse_eval.data.corpus.task import plan_rows, task_yaml
from muse_eval.data.examples import Finding
from muse_eval.data.sides import Rows
from muse_eval.data.sources import MissingSplit
from muse_eval.data.splits import Data, export, open_data

__all__ = [
    "Data",
    "Finding",
    "Making",
    "MissingSplit",
    "Rows",
    "by_tokens",
    "by_words",
    "export",
    "make_corpus",
    "open_data",
    "plan_rows",
    "task_yaml",
]
