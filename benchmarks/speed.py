"""Times muse-eval and one example at a time on the same model, data and machine, taking turns.

Each row runs muse-eval, then the baseline, then muse-eval again, in CPU seconds of one thread; both sides
must come to the same value. The floor is the arithmetic that nobody can leave out, at the machine's own
matrix rate: it counts no memory traffic and no overhead, so generation cannot come near it.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import Baseline, Outcome
from benchmarks.measure import Meter, matrix_rate, resident
from benchmarks.subject import Subject, from_task, random_model
from muse_eval.config import parse_params
from muse_eval.engines.hf import TransformersEngine
from muse_eval.plugins import metric
from muse_eval.store import Store
from muse_eval.types import Context, Reference, Splits

GIB = 2**30
EXAMPLES = 16
"""Of each split, where no model is given: all of it then takes two or three minutes."""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    ours: float
    """CPU seconds, mean of two turns."""
    spread: float
    """CPU seconds between those two."""
    baseline: float
    ours_wall: float
    baseline_wall: float
    floor: float
    """CPU seconds of the arithmetic alone."""
    peak: float
    """GiB over the model's, of muse-eval."""
    baseline_peak: float
    same: str
    """How the two sides' values compare."""

    @property
    def ratio(self) -> float:
        """How many times faster muse-eval is."""
        return self.baseline / self.ours


class Bench:
    """A subject, both sides ready to score it, and the lines so far."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.base = resident()
        self.baseline = Baseline(subject.model, subject.tokenizer)
        self.rate = matrix_rate()

    def ours(self, name: str, splits: Splits, **params: Any) -> Mapping[str, Any]:
        """Score a column as `muse-eval run` does: metric, store on disk, engine, interval."""
        found = metric(name)
        values = parse_params(found.params, params, name)
        engine = TransformersEngine(self.subject.model, self.subject.tokenizer)
        with tempfile.TemporaryDirectory() as cache, engine:
            store = Store(Path(cache), lambda _: None)
            answers = store.ask(engine, found.requests(splits, values)).values
            # A reference of AUC ½ makes a PrivLeak of any AUC, so that the interval is computed too.
            reference = Reference("published", "", {"Min-40%": 0.5})
            score = found.score(splits, answers, values, Context(reference=reference))
        value = score.extras["auc"]["forget_holdout_Min-40%"] if name == "privleak" else score.value
        return {"value": value, "responses": [record.texts.get("response") for record in score.records]}

    def compare(
        self,
        what: str,
        ours: Callable[[], Mapping[str, Any]],
        theirs: Callable[[], Outcome],
        flops: Callable[[Outcome], float],
        known: tuple[Meter, Outcome] | None = None,
    ) -> tuple[Line, tuple[Meter, Outcome]]:
        """Time ours, theirs, ours; ``known`` is a baseline already timed for the same work."""
        print(f"  {what} …", file=sys.stderr)
        turns = [Meter(), Meter()]
        with turns[0]:
            got = ours()
        if known is None:
            with Meter() as meter:
                outcome = theirs()
            known = meter, outcome
        with turns[1]:
            ours()
        meter, outcome = known
        line = Line(
            what=what,
            ours=sum(turn.cpu for turn in turns) / 2,
            spread=abs(turns[0].cpu - turns[1].cpu),
            baseline=meter.cpu,
            ours_wall=sum(turn.wall for turn in turns) / 2,
            baseline_wall=meter.wall,
            floor=flops(outcome) / self.rate,
            peak=(turns[0].peak - self.base) / GIB,
            baseline_peak=(meter.peak - self.base) / GIB,
            same=_same(got, outcome),
        )
        return line, known


def _same(ours: Mapping[str, Any], theirs: Outcome) -> str:
    apart = abs(ours["value"] - theirs.value)
    verdict = "equal" if apart <= 1e-6 else f"{apart:.1e} apart"
    if not theirs.responses:
        return f"{ours['value']:.4f} {verdict}"
    alike = sum(a == b for a, b in zip(ours["responses"], theirs.responses, strict=True))
    return f"{ours['value']:.3f} {verdict}, {alike} of {len(theirs.responses)} answers"


class Work:
    """The operations of forward passes, counted from a model's configuration."""

    def __init__(self, model: Any) -> None:
        config = model.config
        linear = sum(
            module.weight.numel() for module in model.model.modules() if isinstance(module, torch.nn.Linear)
        )
        self._body = 2 * linear
        self._head = 2 * config.hidden_size * config.vocab_size
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._pair = 4 * heads * size * config.num_hidden_layers
        """A query meets a key: its score and its share of the values."""

    def texts(self, lengths: Iterable[int]) -> float:
        """Every token through the body, every token but the last through the head."""
        return float(sum(self._tokens(0, n) + (n - 1) * self._head for n in lengths))

    def answers(self, lengths: Sequence[tuple[int, int]], shared: int = 0) -> float:
        """Prompts (what they share once) and their answers; the head for the answers' tokens alone."""
        once = self._tokens(0, shared)
        rest = (self._tokens(shared, p + new - 1) + new * self._head for p, new in lengths)
        return float(once + sum(rest))

    def _tokens(self, start: int, end: int) -> int:
        pairs = (end * (end + 1) - start * (start + 1)) // 2
        return int((end - start) * self._body + pairs * self._pair)


def measure(subject: Subject) -> tuple[Bench, list[Line], dict[str, float]]:
    """Time every row; return them with both sides' CPU seconds for the default four columns."""
    bench, work = Bench(subject), Work(subject.model)
    splits = subject.splits
    lines = []
    verbmem = splits["verbmem_f"]
    line, _ = bench.compare(
        "VerbMem Df",
        lambda: bench.ours("verbmem", verbmem),
        lambda: bench.baseline.verbmem(verbmem["forget"]),
        lambda done: work.answers(done.lengths),
    )
    lines.append(line)
    for column, title in (("knowmem_f", "KnowMem Df"), ("knowmem_r", "KnowMem Dr")):
        roles = splits[column]
        shared = _shared(subject.tokenizer, roles)
        line, _ = bench.compare(
            title,
            lambda roles=roles: bench.ours("knowmem", roles),  # type: ignore[misc]
            lambda roles=roles: bench.baseline.knowmem(roles["qa"], roles["icl"]),  # type: ignore[misc]
            lambda done, shared=shared: work.answers(done.lengths, shared),  # type: ignore[misc]
        )
        lines.append(line)
    texts = splits["privleak"]
    line, timed = bench.compare(
        "PrivLeak, the baseline's work",
        lambda: bench.ours("privleak", texts, retain=True, lower=True, moments=False),
        lambda: bench.baseline.privleak({role: texts[role] for role in ("forget", "retain", "holdout")}),
        lambda done: work.texts(n for n, _ in done.lengths),
    )
    lines.append(line)
    scored = [
        len(subject.tokenizer(row["text"]).input_ids) for r in ("forget", "holdout") for row in texts[r]
    ]
    line, _ = bench.compare(
        "PrivLeak, the default's work",
        lambda: bench.ours("privleak", texts),
        lambda: timed[1],
        lambda _: work.texts(scored),
        known=timed,
    )
    lines.append(line)
    default = [line for line in lines if line.what != "PrivLeak, the baseline's work"]
    totals = {
        "ours": sum(line.ours for line in default),
        "baseline": sum(line.baseline for line in default),
        "ours_wall": sum(line.ours_wall for line in default),
        "baseline_wall": sum(line.baseline_wall for line in default),
        "floor": sum(line.floor for line in default),
        "peak": max(line.peak for line in default),
    }
    return bench, lines, totals


def _shared(tokenizer: Any, roles: Splits) -> int:
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in roles["icl"])
    return len(tokenizer(shots).input_ids)


def draw(lines: Sequence[Line], totals: Mapping[str, float]) -> Table:
    """Lay the lines out."""
    table = Table()
    for heading in (
        "CPU seconds",
        "muse-eval",
        "one at a time",
        "ratio",
        "floor",
        "× floor",
        "wall (theirs)",
        "peak GiB (theirs)",
        "value",
    ):
        table.add_column(heading, justify="left" if heading in ("CPU seconds", "value") else "right")
    for line in lines:
        table.add_row(
            line.what,
            f"{line.ours:.1f} ± {line.spread / 2:.1f}",
            f"{line.baseline:.1f}",
            f"{line.ratio:.1f}",
            f"{line.floor:.1f}",
            f"{line.ours / line.floor:.1f}",
            f"{line.ours_wall:.1f} ({line.baseline_wall:.1f})",
            f"{line.peak:.2f} ({line.baseline_peak:.2f})",
            line.same,
        )
    table.add_section()
    table.add_row(
        "four columns by default",
        f"{totals['ours']:.1f}",
        f"{totals['baseline']:.1f}",
        f"{totals['baseline'] / totals['ours']:.1f}",
        f"{totals['floor']:.1f}",
        f"{totals['ours'] / totals['floor']:.1f}",
        f"{totals['ours_wall']:.1f} ({totals['baseline_wall']:.1f})",
        f"{totals['peak']:.2f}",
    )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="a checkpoint; none: a random model on generated texts")
    parser.add_argument("--task", default="muse_news", help="the task that --model is scored on")
    parser.add_argument("--data-dir", type=Path, help="the task's data in the layout of MUSE's loader")
    parser.add_argument("--examples", type=int, help="only the first N of each split")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.model:
        subject = from_task(given.model, given.task, given.data_dir, given.examples)
    else:
        subject = random_model(given.examples or EXAMPLES)
    limit = given.examples or (None if given.model else EXAMPLES)
    some = f"the first {limit} examples of each split" if limit else "every example"
    print(f"{subject.name}, {some}, float32, one thread, torch {torch.__version__}, {platform.machine()}")
    bench, lines, totals = measure(subject)
    Console(width=170).print(draw(lines, totals))
    print(
        f"matrix rate {bench.rate / 1e9:.0f} GFLOP/s of one thread; peaks are over the loaded model's memory."
    )
    print(
        "The last PrivLeak row: ours scores what its default asks, the baseline what the published one does."
    )
    if given.json:
        numbers = {
            "subject": subject.name,
            "examples": limit,
            "matrix_rate": bench.rate,
            "lines": [{**asdict(line), "ratio": line.ratio} for line in lines],
            "totals": totals,
        }
        given.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
