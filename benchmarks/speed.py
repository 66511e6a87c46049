"""Times muse-eval and one example at a time on the same model, data and machine, taking turns.

After each batch of muse-eval's the baseline does as large a share of its examples, in CPU seconds of one
thread, so that a busy machine slows both alike; both must come to the same value. The floor is the arithmetic
that nobody can leave out, at the machine's own matrix rate: it counts no memory traffic and no overhead, so
generation cannot come near it.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import Baseline, Outcome, Steps
from benchmarks.floor import Work
from benchmarks.measure import Meter, matrix_rate, resident
from benchmarks.subject import Subject, from_task, random_model
from muse_eval.config import parse_params
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.plugins import metric
from muse_eval.scoring.answers import Store
from muse_eval.types import Context, Reference, Splits

GIB = 2**30
EXAMPLES = 16
"""Of each split, where no model is given: all of it then takes two or three minutes."""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    ours: float
    """CPU seconds."""
    baseline: float
    ours_wall: float
    baseline_wall: float
    floor: float
    """CPU seconds of the arithmetic alone."""
    peak: float
    """GiB over the model's, of muse-eval."""
    baseline_peak: float
    turns: int
    """How many times the two took turns."""
    same: str
    """How the two sides' values compare."""

    @property
    def ratio(self) -> float:
        """How many times faster muse-eval is."""
        return self.baseline / self.ours


class Bench:
    """A subject, both sides ready to score it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.base = resident()
        self.baseline = Baseline(subject.model, subject.tokenizer)
        self.rate = matrix_rate()

    def ours(
        self, name: str, splits: Splits, params: Mapping[str, Any], turn: Callable[[int, int], None]
    ) -> Mapping[str, Any]:
        """Score a column as `muse-eval run` does: metric, store on disk, engine, interval."""
        found = metric(name)
        values = parse_params(found.params, params, name)
        engine = TransformersEngine(self.subject.model, self.subject.tokenizer)
        with tempfile.TemporaryDirectory() as cache, engine:
            store = Store(Path(cache), lambda _: None)
            answers = store.ask(engine, found.requests(splits, values), turn).values
            # A reference of AUC ½ makes a PrivLeak of any AUC, so that the interval is computed too.
            reference = Reference("published", "", {"Min-40%": 0.5})
            score = found.score(splits, answers, values, Context(reference=reference))
        value = score.extras["auc"]["forget_holdout_Min-40%"] if name == "privleak" else score.value
        return {"value": value, "responses": [record.texts.get("response") for record in score.records]}

    def compare(
        self,
        what: str,
        name: str,
        splits: Splits,
        theirs: Steps,
        examples: int,
        floor: Callable[[Outcome], float],
        **params: Any,
    ) -> Line:
        """Score a column both ways, taking turns; the baseline has so many examples."""
        print(f"  {what} …", file=sys.stderr)
        mine, other = Meter(), Meter()
        outcomes: list[Outcome] = []
        turns = 0

        def turn(done: int, total: int) -> None:
            nonlocal turns
            turns += 1
            mine.__exit__(None, None, None)
            with other:
                outcomes.extend(islice(theirs, done * examples // total - len(outcomes)))
            mine.__enter__()

        with mine:
            got = self.ours(name, splits, params, turn)
        with other:
            outcomes.extend(theirs)
        return Line(
            what=what,
            ours=mine.cpu,
            baseline=other.cpu,
            ours_wall=mine.wall,
            baseline_wall=other.wall,
            floor=floor(outcomes[-1]) / self.rate,
            peak=(mine.peak - self.base) / GIB,
            baseline_peak=(other.peak - self.base) / GIB,
            turns=turns,
            same=_same(got, outcomes[-1]),
        )


def _same(ours: Mapping[str, Any], theirs: Outcome) -> str:
    apart = abs(ours["value"] - theirs.value)
    verdict = "equal" if apart <= 1e-6 else f"{apart:.1e} apart"
    if not theirs.responses:
        return f"{ours['value']:.4f} {verdict}"
    alike = sum(a == b for a, b in zip(ours["responses"], theirs.responses, strict=True))
    return f"{ours['value']:.3f} {verdict}, {alike} of {len(theirs.responses)} answers"


SAME_WORK = "PrivLeak, the baseline's work"


def measure(bench: Bench) -> list[Line]:
    """Time every row."""
    subject = bench.subject
    splits, work, baseline = subject.splits, Work(subject.model), bench.baseline
    forget = splits["verbmem_f"]["forget"]
    lines = [
        bench.compare(
            "VerbMem Df",
            "verbmem",
            splits["verbmem_f"],
            baseline.verbmem(forget),
            len(forget),
            lambda done: work.answers(done.lengths),
        )
    ]
    for column, title in (("knowmem_f", "KnowMem Df"), ("knowmem_r", "KnowMem Dr")):
        roles = splits[column]
        shared = partial(work.answers_of, shared=_shared(subject.tokenizer, roles))
        steps = baseline.knowmem(roles["qa"], roles["icl"])
        lines.append(bench.compare(title, "knowmem", roles, steps, len(roles["qa"]), shared))
    texts = splits["privleak"]
    scored = [
        len(subject.tokenizer(row["text"]).input_ids) for r in ("forget", "holdout") for row in texts[r]
    ]
    everything = {role: texts[role] for role in ("forget", "retain", "holdout")}
    ways: tuple[tuple[str, Callable[[Outcome], float], dict[str, bool]], ...] = (
        (
            SAME_WORK,
            lambda done: work.texts(n for n, _ in done.lengths),
            {"retain": True, "lower": True, "moments": False},
        ),
        ("PrivLeak, the default's work", lambda _: work.texts(scored), {}),
    )
    for what, floor, params in ways:
        steps, count = baseline.privleak(everything), sum(map(len, everything.values()))
        lines.append(bench.compare(what, "privleak", texts, steps, count, floor, **params))
    return lines


def totals(lines: Sequence[Line]) -> dict[str, float]:
    """Add up what both sides do by default."""
    default = [line for line in lines if line.what != SAME_WORK]
    names = ("ours", "baseline", "ours_wall", "baseline_wall", "floor")
    sums = {name: sum(float(getattr(line, name)) for line in default) for name in names}
    return {**sums, "peak": max(line.peak for line in default)}


def _shared(tokenizer: Any, roles: Splits) -> int:
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in roles["icl"])
    return len(tokenizer(shots).input_ids)


def draw(lines: Sequence[Line], whole: Mapping[str, float]) -> Table:
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
            f"{line.ours:.1f}",
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
        f"{whole['ours']:.1f}",
        f"{whole['baseline']:.1f}",
        f"{whole['baseline'] / whole['ours']:.1f}",
        f"{whole['floor']:.1f}",
        f"{whole['ours'] / whole['floor']:.1f}",
        f"{whole['ours_wall']:.1f} ({whole['baseline_wall']:.1f})",
        f"{whole['peak']:.2f}",
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
    bench = Bench(subject)
    lines = measure(bench)
    whole = totals(lines)
    Console(width=170).print(draw(lines, whole))
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
            "totals": whole,
        }
        given.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
