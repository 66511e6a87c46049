"""Whole runs against two oracles: the published code's values on real data, and a naive one written here."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from muse_eval.config.run import RunConfig
from muse_eval.results import runs
from muse_eval.scoring.run import run
from tests.e2e import pinned_task

SHARED = Path(__file__).parents[3] / "shared"
ORACLE = SHARED / "oracle-news"
COLUMNS = ("verbmem_f", "knowmem_f", "knowmem_r")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ── the published code's values ──────────────────────────────────────────────────────────────────
@pytest.mark.shared
@pytest.mark.skipif(not ORACLE.is_dir(), reason="the reference oracle is not here")
def test_the_published_code_s_values_on_real_news(tmp_path: Path) -> None:
    config = RunConfig(
        model=str(ORACLE),
        task="muse_news",
        data_dir=SHARED / "muse-data" / "news",
        dtype="float32",
        settings={"privleak.retain": True, "privleak.lower": True},
        results=tmp_path,
    )
    folder = run(config).folder
    result = runs.load(folder)
    assert result is not None
    expected = json.loads((ORACLE / "expected.json").read_text(encoding="utf-8"))
    text = (ORACLE / "expected_examples.jsonl").read_text(encoding="utf-8")
    examples = {
        (one["metric"], one.get("split", ""), one["id"]): one for one in map(json.loads, text.splitlines())
    }
    records = list(runs.load_records(folder))
    assert len(records) == len(examples) == 600

    # Every response, every truth, every question: the very same text.
    for record in (one for one in records if one["column"] in COLUMNS):
        wanted = examples[record["column"], "", record["id"]]
        assert record["response"] == wanted["response"]
        assert sha256(record["truth"]) == wanted["truth_sha256"]
        assert record["prompt_sha256"] == wanted["prompt_sha256"]
        for name, score in record["scores"].items():
            assert score == pytest.approx(wanted[name], abs=1e-12)
    for record in (one for one in records if one["column"] == "privleak"):
        wanted = examples["privleak", record["split"].removeprefix("privleak/"), record["id"]]
        assert record["prompt_sha256"] == wanted["text_sha256"]
        names = [name for name in wanted if name.startswith(("PPL", "Min-"))]
        assert len(names) == 10
        for name in names:
            if wanted[name] is None or wanted[name] != wanted[name]:
                assert record["scores"][name] is None
            else:
                assert record["scores"][name] == pytest.approx(wanted[name], abs=1e-4)

    for column in COLUMNS:
        assert result.columns[column].value == pytest.approx(expected["headline"][column], abs=1e-6)
        for name, value in expected["aggregates"][column].items():
            if name.startswith("mean_"):
                assert result.extras[column][name] == pytest.approx(value, abs=1e-6)
    # Llama-2's kind of tokenizer joins every true answer to the prompt's space, and its model follows.
    fits = {name: result.extras[name]["answer_space"] for name in ("knowmem_f", "knowmem_r")}
    assert fits == {
        "knowmem_f": {"joined": 100, "astray": 1},
        "knowmem_r": {"joined": 100, "astray": 0},
    }
    assert all(result.columns[name].flags == () for name in fits)
    # Another kernel may swap one pair of 100 × 100.
    for name, value in expected["auc"].items():
        assert result.extras["auc"][name] == pytest.approx(value, abs=1e-4 + 1e-9), name
    assert result.columns["privleak"].value == pytest.approx(
        expected["headline"]["privleak"], abs=100 * 1e-4 / 0.4772 + 1e-6
    )
    assert result.columns["privleak"].flags == ("reference-published",)


# ── a naive one, independent of the package ──────────────────────────────────────────────────────
def tokens(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def rouge_l(response: str, truth: str) -> float:
    one, other = tokens(response), tokens(truth)
    row = [0] * (len(other) + 1)
    for word in one:
        before = row
        row = [0]
        for j, also in enumerate(other):
            row.append(before[j] + 1 if word == also else max(before[j + 1], row[j]))
    return 2 * row[-1] / (len(one) + len(other)) if one and other else 0.0


def closed(text: str) -> str:
    """Close the spaces that MUSE's decoding closes."""
    for spaced in (" .", " ?", " !", " ,"):
        text = text.replace(spaced, spaced.strip())
    text = text.replace(" ' ", "'")
    for spaced in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(spaced, spaced.strip())
    return text


class Naive:
    """A model, one example at a time, without a cache of its own, batches or padding."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.logprobs = cache(self._logprobs)

    def decode(self, ids: Any) -> str:
        return closed(str(self.tokenizer.decode(ids, skip_special_tokens=True)))

    @torch.inference_mode()
    def write(self, prompt: str, size: int) -> str:
        ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        new = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=size, do_sample=False, pad_token_id=0
        )
        return self.decode(new[0, ids.shape[1] :])

    @torch.inference_mode()
    def _logprobs(self, text: str) -> list[float]:
        ids = self.tokenizer(text, return_tensors="pt").input_ids
        logs = self.model(ids).logits[0].log_softmax(-1)
        return [float(logs[i - 1, ids[0, i]]) for i in range(1, ids.shape[1])]

    def verbmem(self, rows: list[dict[str, str]]) -> float:
        scores = [
            rouge_l(self.write(row["prompt"], 128), self.decode(self.tokenizer(row["gt"]).input_ids[:128]))
            for row in rows
        ]
        return 100 * sum(scores) / len(scores)

    def knowmem(self, rows: list[dict[str, str]], shots: list[dict[str, str]]) -> float:
        scores = []
        for row in rows:
            prompt = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in shots[:10])
            text = self.write(f"{prompt}Question: {row['question']}\nAnswer: ", 32)
            for stop in ("\n\n", "\nQuestion", "Question:"):
                text = text.split(stop)[0]
            scores.append(rouge_l(text, row["answer"]))
        return 100 * sum(scores) / len(scores)

    def auc(self, forget: list[str], holdout: list[str], score: Callable[[str], float]) -> float:
        pairs = [(score(h), score(f)) for h in holdout for f in forget]
        return sum(1.0 if h < f else 0.5 if h == f else 0.0 for h, f in pairs) / len(pairs)

    def lowest(self, share: float) -> Callable[[str], float]:
        def score(text: str) -> float:
            logs = sorted(self.logprobs(text))
            kept = logs[: int(share * len(logs))]
            return -sum(kept) / len(kept)

        return score

    def loss(self, text: str) -> float:
        logs = self.logprobs(text)
        return -sum(logs) / len(logs)


PROSE = (
    "The keeper of the lighthouse wrote a letter every evening , and the harbour answered in the morning . "
    "It is n't known where the seven ships had gone , but the bay of Oru was never empty again ! "
)


def made_up(naive: Naive) -> dict[str, list[Any]]:
    """Splits that the model knows in part: its own words mixed with others, longer than what is scored."""
    prompts = [f"{i}. {PROSE[i * 7 :]}" for i in range(6)]
    own = [naive.write(prompt, 90) for prompt in prompts]
    questions = [f"What did the {who} do?" for who in ("keeper", "harbour", "ships", "bay", "letter", "sea")]
    shots = [{"question": f"Is {i} odd?", "answer": ("no", "yes")[i % 2]} for i in range(11)]
    prompt = "".join(f"Question: {s['question']}\nAnswer: {s['answer']}\n\n" for s in shots[:10])
    said = [naive.write(f"{prompt}Question: {question}\nAnswer: ", 32) for question in questions]
    qa = [
        {"question": question, "answer": f"a {text} b" if i % 2 else "the keeper"}
        for i, (question, text) in enumerate(zip(questions, said, strict=True))
    ]
    texts = [f"{PROSE[i * 3 : 60 + i * 5]} {i}" for i in range(16)]
    return {
        "verbmem/forget": [
            {"prompt": prompt, "gt": f"{words[i::2]} {PROSE * 2}"}
            for i, (prompt, words) in enumerate(zip(prompts, own, strict=True))
        ],
        "knowmem/forget_qa": qa,
        "knowmem/forget_qa_icl": shots,
        "knowmem/retain_qa": list(reversed(qa[1:])),
        "knowmem/retain_qa_icl": shots,
        "privleak/forget": texts[:7],
        "privleak/holdout": texts[7:],
        "privleak/retain": texts[:2],
    }


def test_a_naive_oracle_on_made_up_splits(tiny_model: Path, tmp_path: Path) -> None:
    naive = Naive(tiny_model)
    splits = made_up(naive)
    for name, rows in splits.items():
        path = tmp_path / "data" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    config = RunConfig(
        model=str(tiny_model),
        task=str(pinned_task("muse_books", tmp_path / "data", tmp_path / "books.yaml")),
        data_dir=tmp_path / "data",
        dtype="float32",
        results=tmp_path / "results",
    )
    result = run(config).result
    assert result is not None
    forget, holdout = splits["privleak/forget"], splits["privleak/holdout"]
    own = naive.auc(forget, holdout, naive.lowest(0.4))
    expected = {
        "verbmem_f": naive.verbmem(splits["verbmem/forget"]),
        "knowmem_f": naive.knowmem(splits["knowmem/forget_qa"], splits["knowmem/forget_qa_icl"]),
        "privleak": 100 * (own - 0.5393) / 0.5393,
        "knowmem_r": naive.knowmem(splits["knowmem/retain_qa"], splits["knowmem/retain_qa_icl"]),
    }
    assert {name: score.value for name, score in result.columns.items()} == pytest.approx(expected, abs=1e-6)
    # The made-up splits are neither known by heart nor unknown, or they would show nothing.
    assert all(0 < expected[column] < 100 for column in COLUMNS)
    assert 0 < own < 1
    auc = result.extras["auc"]
    assert auc["forget_holdout_Min-40%"] == pytest.approx(own, abs=1e-12)
    assert auc["forget_holdout_Min-20%"] == pytest.approx(naive.auc(forget, holdout, naive.lowest(0.2)))
    assert auc["forget_holdout_PPL"] == pytest.approx(naive.auc(forget, holdout, naive.loss))
    assert auc["forget_holdout_PPL/zlib"] == pytest.approx(
        naive.auc(forget, holdout, lambda text: naive.loss(text) / len(zlib.compress(text.encode())))
    )
