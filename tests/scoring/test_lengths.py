"""What a tokenizer says of a task's data: counts, what does not fit, and the bound of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from muse_eval.config.task import TaskSpec
from muse_eval.data.examples import Finding
from muse_eval.engines.tokens import Tokens
from muse_eval.errors import UserError
from muse_eval.metrics.knowmem import Params, prompts
from muse_eval.scoring import lengths
from tests.e2e import COLUMNS, TASK, muse, write_data, write_task
from tests.support.corpus import Splits, corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def task(**changes: Any) -> TaskSpec:
    """Describe MUSE's columns over the corpus, with short truths and few pairs."""
    return TaskSpec.model_validate({**TASK, "columns": COLUMNS, **changes})


def told(
    tokenizer: PreTrainedTokenizerFast, context: int | None, spec: TaskSpec | None = None, splits: Any = None
) -> tuple[dict[str, lengths.Length], list[Finding]]:
    """Return the lengths by what they are of (``verbmem_f truths``), and what does not fit."""
    tokens = Tokens(tokenizer, None, context)
    found, unfit = lengths.measure(spec or task(), splits or corpus(), tokens)
    assert all("\n" not in str(one) for one in (*found, *unfit))
    named = {f"{one.of} {one.what} {one.split}": one for one in found}
    assert len(named) == len(found)
    return named, list(unfit)


def count(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    return len(tokenizer(text).input_ids)


def test_everything_that_is_asked_is_counted(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    splits = corpus()
    found, _ = told(tiny_tokenizer, 10_000)
    assert list(found) == [
        "verbmem_f prompts verbmem/forget",
        "verbmem_f truths verbmem/forget",
        "knowmem_f prompts knowmem/forget_qa",
        "knowmem_f answers knowmem/forget_qa",
        "privleak texts privleak/forget",
        "privleak texts privleak/holdout",
        "knowmem_r prompts knowmem/retain_qa",
        "knowmem_r answers knowmem/retain_qa",
        "unlearn training rows raw/forget",
        "unlearn training rows raw/retain1",
    ]
    one = found["verbmem_f prompts verbmem/forget"]
    counts = sorted(count(tiny_tokenizer, row["prompt"]) for row in splits["verbmem/forget"])
    assert (one.count, one.least, one.most, one.new, one.bound) == (20, counts[0], counts[-1], 8, 10_000)
    assert one.median == (counts[9] + counts[10]) / 2
    assert str(one) == (
        f"verbmem_f: 20 prompts of verbmem/forget: {counts[0]} to {counts[-1]} tokens "
        f"(median {one.median:g}) and 8 new ones, context 10000"
    )
    asked = {"qa": splits["knowmem/forget_qa"], "icl": splits["knowmem/forget_qa_icl"]}
    most = max(count(tiny_tokenizer, prompt) for prompt in prompts(asked, Params(shots=2)))
    assert found["knowmem_f prompts knowmem/forget_qa"].most == most
    # An answer stands behind the prompt, so it has no BOS of its own.
    answers = [count(tiny_tokenizer, row["answer"]) - 1 for row in splits["knowmem/forget_qa"]]
    assert found["knowmem_f answers knowmem/forget_qa"].least == min(answers)
    assert found["privleak texts privleak/holdout"].new == 0
    assert str(told(tiny_tokenizer, None)[0]["privleak texts privleak/holdout"]).endswith("no bound known")


def test_what_the_context_cannot_hold_is_named_by_row(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = corpus()["privleak/holdout"]
    counts = [count(tiny_tokenizer, row["text"]) for row in rows]
    longest = max(range(20), key=counts.__getitem__)
    forget = max(count(tiny_tokenizer, row["text"]) for row in corpus()["privleak/forget"])
    context = max(counts) - 1
    _, unfit = told(tiny_tokenizer, context)
    named = {one.split: one for one in unfit if one.kind == "too-long"}
    beyond = tuple(row for row, size in enumerate(counts) if size > context)
    assert longest in beyond
    assert named["privleak/holdout"].rows == beyond
    assert f"than the context of {context} holds in row" in str(named["privleak/holdout"])
    assert f"{longest} ({max(counts)})" in str(named["privleak/holdout"])
    assert ("privleak/forget" in named) == (forget > context)
    assert not any(one.kind == "too-long" for one in told(tiny_tokenizer, max(*counts, forget))[1])


def test_new_tokens_need_room_too(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    columns = {"verbmem_f": {**COLUMNS["verbmem_f"], "params": {"max_tokens": 300}}}
    spec = task(columns=columns, unlearn={"rows": "chunk", "max_len": 16})
    most = max(count(tiny_tokenizer, row["prompt"]) for row in corpus()["verbmem/forget"])

    def too_long(context: int) -> list[Finding]:
        return [one for one in told(tiny_tokenizer, context, spec)[1] if one.kind == "too-long"]

    assert too_long(most + 300) == []
    (one,) = too_long(most + 299)
    assert "more tokens, with 300 new ones, than the context of" in str(one)


def test_truths_and_answers_against_max_tokens(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    splits: Splits = corpus()
    splits["knowmem/forget_qa"][4]["answer"] = answer = "owl " * 40
    splits["verbmem/forget"][7]["gt"] = " owl"
    sizes = {"verbmem_f": count(tiny_tokenizer, " owl"), "knowmem_f": count(tiny_tokenizer, answer) - 1}

    def unfit(**changed: int) -> list[tuple[str, str, tuple[int, ...]]]:
        columns = {
            name: {**COLUMNS[name], "params": {"max_tokens": size + changed.get(name, 0)}}
            for name, size in sizes.items()
        }
        columns["knowmem_f"]["params"]["shots"] = 2
        spec = task(columns=columns, unlearn={"rows": "chunk", "max_len": 16})
        return [(one.kind, one.split, one.rows) for one in told(tiny_tokenizer, 10_000, spec, splits)[1]]

    assert unfit() == []
    assert unfit(verbmem_f=1) == [("short-truth", "verbmem/forget", (7,))]
    assert unfit(knowmem_f=-1) == [("long-answer", "knowmem/forget_qa", (4,))]


def test_rows_that_training_cuts(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    rows = corpus()["raw/forget"]
    counts = [count(tiny_tokenizer, row["text"]) for row in rows]
    most = max(counts)
    for max_len, expected in ((most, ()), (most - 1, tuple(i for i, n in enumerate(counts) if n == most))):
        spec = task(unlearn={"rows": "document", "max_len": max_len})
        _, unfit = told(tiny_tokenizer, 10_000, spec)
        cut = [one.rows for one in unfit if (one.kind, one.split) == ("cut-row", "raw/forget")]
        assert cut == ([expected] if expected else [])


def test_windows_and_training_rows_beyond_the_context(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    spec = task(unlearn={"rows": "chunk", "max_len": 64}, columns={"a": COLUMNS["verbmem_f"]})
    found, unfit = told(tiny_tokenizer, 63, spec)
    windows = found["unlearn windows raw/forget"]
    assert (windows.least, windows.most, windows.bound) == (64, 64, 63)
    long = [one for one in unfit if (one.kind, one.split) == ("too-long", "raw/forget")]
    assert [str(one) for one in long] == [
        "raw/forget: training rows of 64 tokens are beyond the context of 63; lower unlearn.max_len"
    ]
    assert not any(one.split == "raw/forget" for one in told(tiny_tokenizer, 64, spec)[1])


def test_what_is_missing_or_blank_is_left_out(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    splits = corpus()
    del splits["privleak/holdout"], splits["raw/retain1"]
    del splits["knowmem/forget_qa_icl"][1:]
    splits["raw/forget"][3]["text"] = "  "
    found, _ = told(tiny_tokenizer, 10_000, splits=splits)
    assert list(found) == [
        "verbmem_f prompts verbmem/forget",
        "verbmem_f truths verbmem/forget",
        "knowmem_f answers knowmem/forget_qa",
        "knowmem_r prompts knowmem/retain_qa",
        "knowmem_r answers knowmem/retain_qa",
        "unlearn training rows raw/forget",
    ]
    assert found["unlearn training rows raw/forget"].count == 19


# ── the tokenizer and its context ────────────────────────────────────────────────────────────────
def test_the_context_is_the_model_s_else_the_tokenizer_s(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def context() -> int | None:
        return lengths.load(str(folder)).context

    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    assert context() == 512
    (folder / "config.json").write_text("{}")
    assert context() == 1024
    (folder / "config.json").unlink()
    assert context() == 1024
    names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    names.pop("model_max_length")
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    assert context() is None
    with pytest.raises(UserError, match="holds no tokenizer"):
        lengths.load(str(tmp_path))


def test_verify_counts_with_a_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    """A truth of 12 words that are some 40 of its tokens is short by words, and is not by tokens."""
    columns = {"verbmem_f": {**COLUMNS["verbmem_f"], "params": {"max_tokens": 26}}}
    path = write_task(tmp_path / "own.yaml", columns=columns)
    splits = corpus()
    splits["verbmem/forget"][2]["gt"] = " ".join(splits["verbmem/forget"][2]["gt"].split()[:12])
    arguments = ("data", "verify", "--task", path, "--data-dir", write_data(tmp_path / "data", splits))
    plain = muse(*arguments)
    assert "truths of under 13 words in row 2" in plain.stderr
    assert "tokens (median" not in plain.stdout
    counted = muse(*arguments, "--tokenizer", tiny_model)
    assert "verbmem_f: 20 prompts of verbmem/forget: " in counted.stdout
    assert "new ones, context 1024\n" in counted.stdout
    assert "truths of under" not in counted.stderr
    assert "unlearn.max_len (64) tokens in rows 0 (" in counted.stderr
    assert (plain.exit_code, counted.exit_code) == (0, 0)
    shown = json.loads(muse(*arguments, "--tokenizer", tiny_model, "--json").stdout)
    assert [one["what"] for one in shown["lengths"]] == [
        "prompts",
        "truths",
        "training rows",
        "training rows",
    ]
    assert shown["lengths"][0].keys() == {
        *("of", "split", "what", "count", "least", "median", "most", "bound", "new"),
    }
    assert json.loads(muse(*arguments, "--json").stdout)["lengths"] == []
    wrong = muse(*arguments, "--tokenizer", tmp_path / "data")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
