"""The nouns of muse-eval: asks and answers, engines, metrics and methods, scores and results, listeners."""

from muse_eval.types.asks import (
    Answer,
    AnswerT,
    Batches,
    Engine,
    Generate,
    Generation,
    Logprobs,
    Request,
    Row,
    Splits,
    TokenLogprobs,
    Truncate,
)
from muse_eval.types.listeners import Log, Note, Progress, Stage, Warn, ignore
from muse_eval.types.methods import (
    ActivationMethod,
    AnyMethod,
    LogitMethod,
    LogitMixture,
    Method,
    PreferenceMethod,
    SeqLogps,
    WeightMethod,
)
from muse_eval.types.metrics import Context, Metric, Record, Reference, Score
from muse_eval.types.results import Result

__all__ = [
    "ActivationMethod",
    "Answer",
    "AnswerT",
    "AnyMethod",
    "Batches",
    "Context",
    "Engine",
    "Generate",
    "Generation",
    "Log",
    "LogitMethod",
    "LogitMixture",
    "Logprobs",
    "Method",
    "Metric",
    "Note",
    "PreferenceMethod",
    "Progress",
    "Record",
    "Reference",
    "Request",
    "Result",
    "Row",
    "Score",
    "SeqLogps",
    "Splits",
    "Stage",
    "TokenLogprobs",
    "Truncate",
    "Warn",
    "WeightMethod",
    "ignore",
]
