"""Runs written by hand: what models said is given, every score follows from it, and no model is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from muse_eval.metrics import privleak
from muse_eval.metrics.rouge import clean_up, mean_rouge, rouge
from muse_eval.results.evidence import given
from muse_eval.results.lineage import NOW, Lineage, Probing, start_of
from muse_eval.results.runs import save
from muse_eval.scoring.answers import EngineAnswers, _Batch, request_key
from muse_eval.types import Context, Logprobs, Record, Reference, Result, Score, TokenLogprobs, ignore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = [f"{name} went to the mill at dawn, and the owl said nothing." for name in ("Ada", "Bo", "Cy", "Dee")]
TRUTHS = [
    "the keeper of the mill wrote a letter",
    "seven ships anchor in the bay of Oru",
    "the owl said nothing",
]
TITLES = {
    "verbmem_f": ("VerbMem Df", "verbmem", "lower", {"forget": "verbmem/forget"}),
    "knowmem_r": ("KnowMem Dr", "knowmem", "higher", {"qa": "knowmem/retain_qa"}),
    "privleak": (
        "PrivLeak",
        "privleak",
        "zero",
        {"forget": "privleak/forget", "holdout": "privleak/holdout"},
    ),
}
TASK = {
    "name": "town",
    "title": "Town",
    "columns": {
        name: {"title": title, "metric": metric, "goal": goal, "splits": splits, "params": {}}
        for name, (title, metric, goal, splits) in TITLES.items()
    },
}
TRUE = {
    "target": TRUTHS,
    "retrain": ["nothing at all", "the bay", "an owl said"],
    "npo": ["the mill", "ships", ""],
}
"""What each model says, if nothing else is asked for."""


def rouge_column(name: str, said: Sequence[str], truths: Sequence[str]) -> Score:
    """Score responses against truths."""
    key = "question" if name.startswith("knowmem") else "prompt"
    (split,) = TITLES[name][3].values()
    records = [
        Record(
            split,
            index,
            rouge(response, truth),
            {key: f"{key} {index}", "response": response, "truth": truth},
            hashlib.sha256(f"{key} {index}".encode()).hexdigest(),
        )
        for index, (response, truth) in enumerate(zip(map(clean_up, said), truths, strict=True))
    ]
    return mean_rouge(records, False, Context(resamples=99))


def logprobs(seed: int, lengths: Sequence[int]) -> list[TokenLogprobs]:
    """Draw log-probabilities, as many a text as told."""
    random = np.random.default_rng(seed)
    return [TokenLogprobs(-random.exponential(3.0, n).astype("<f4"), None, None) for n in lengths]


def attack_column(own: Sequence[TokenLogprobs], retrain: Sequence[TokenLogprobs]) -> Score:
    """Score two forget and two holdout texts under the attacks, against retrain's."""
    splits = {"forget": [{"text": t} for t in TEXTS[:2]], "holdout": [{"text": t} for t in TEXTS[2:]]}
    context = Context(resamples=99, reference=Reference("measured", "retrain", answers=retrain))
    score = privleak.score(splits, own, privleak.Params(moments=False), context)
    records = [
        Record(f"privleak/{r.split}", r.index, r.scores, given(splits[r.split], r), r.prompt_sha256)
        for r in score.records
    ]
    return Score(score.value, score.ci, score.n, score.flags, score.reason, score.extras, tuple(records))


def write_runs(
    results: Path,
    said: Mapping[str, Sequence[str]] = TRUE,
    truths: Sequence[str] = TRUTHS,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    limit: int | None = None,
) -> Path:
    """Write a run a model into a results folder, the answers to PrivLeak into its cache; return the folder.

    With a tokenizer each text has as many log-probabilities as tokens, and a folder that holds it.
    """
    lengths = [len(tokenizer(t).input_ids) - 1 if tokenizer else len(t.split()) for t in TEXTS]
    drawn = {name: logprobs(seed, lengths) for seed, name in enumerate(said)}
    digest = "none"
    if tokenizer is not None:
        from muse_eval.engines.loading import tokenizer_digest

        tokenizer.save_pretrained(results / "tokenizer")
        digest = tokenizer_digest(tokenizer)
    for name, answers in said.items():
        columns = {
            "verbmem_f": rouge_column("verbmem_f", answers, truths),
            "knowmem_r": rouge_column("knowmem_r", truths, truths),
            "privleak": attack_column(drawn[name], drawn.get("retrain", drawn[name])),
        }
        if limit is not None:
            columns = {
                key: Score(one.value, one.ci, one.n, (*one.flags, "limited"), None, one.extras, one.records)
                for key, one in columns.items()
            }
        weights = hashlib.sha256(name.encode()).hexdigest()
        model = {"engine": "hf", "weights": weights, "tokenizer": digest, "dtype": "float32"}
        config: dict[str, Any] = {
            "task": TASK,
            "data": {"source": "folder", "sha256": {"verbmem/forget": "ab"}},
            "model": model,
            "columns": {"privleak": {"k": 0.4, "moments": False, "truncate": False}},
            "limit": limit,
            "seed": 0,
        }
        engine = {**model, "model": name, "path": str(results / "tokenizer")}
        extras = {**columns["privleak"].extras, **{key: one.extras for key, one in columns.items()}}
        known = {"id": f"models/{name}", "revision": None, "digest": weights}
        result = Result("town", name, known, columns, extras, config, {"engine": engine}, 1.0)
        save(result, results / "runs" / "town" / name)
        _keep(results / "cache", f"hf {weights} {digest} float32 cpu made-up", drawn[name])
    return results


def write_probed(
    results: Path, of: str, strength: str, said: Sequence[str], truths: Sequence[str] = TRUTHS
) -> None:
    """Write a model's run after so many steps of ``relearn``, or ``now``, beside those of ``write_runs``."""
    now = strength == NOW
    weights = hashlib.sha256((of if now else f"{of} {strength}").encode()).hexdigest()
    told = ("", NOW, 0, "before") if now else ("relearn", strength, int(strength), f"after {strength} steps")
    before = {"weights": hashlib.sha256(of.encode()).hexdigest(), "tokenizer": "none"}
    done, start, strengths = ("", "", ()) if now else ("done", start_of({"model": before}), ("10", "20"))
    config = {
        "task": TASK,
        "data": {"source": "folder", "sha256": {"verbmem/forget": "ab"}},
        "model": {"engine": "hf", "weights": weights, "tokenizer": "none", "dtype": "float32"},
        "limit": None,
        "seed": 0,
        "made": Lineage("r", probing=Probing(*told, of, {}, done, start, strengths)).settings(),
    }
    name = f"{of}+{NOW}" if now else f"{of}+relearn:{strength}"
    known = {"id": of, "revision": None, "digest": weights}
    column = {"verbmem_f": rouge_column("verbmem_f", said, truths)}
    save(Result("town", name, known, column, {}, config, {}, 1.0), results / "runs" / "town" / name)


def _keep(cache: Path, engine: str, answers: Sequence[TokenLogprobs]) -> None:
    """Put answers to the four texts into the cache."""
    keys = [request_key(Logprobs(text)) for text in TEXTS]
    with EngineAnswers(cache, engine, ignore) as kept:
        kept.add(_Batch(dict(zip(keys, answers, strict=True)), 1.0))
