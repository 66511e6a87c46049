"""Times muse-eval and the loops it replaces on the same model, data and machine, taking turns.

One opponent asks one example at a time, as the published evaluation does, the others in batches of 8 and 16
as a DataLoader and ``generate`` do. After each batch of muse-eval's every opponent does as large a share of
its examples, in CPU seconds of one thread, so that a busy machine slows all alike; all must come to the same
value. The floor is the arithmetic that nobody can leave out, at the machine's own matrix rate: it counts no
memory traffic and no overhead, so generation cannot come near it.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import Baseline, Outcome, Steps
from benchmarks.batched import Batched
from benchmarks.floor import Work
from benchmarks.measure import Meter, matrix_rate, resident
from benchmarks.subject import Subject, from_task, random_model
from benchmarks.turns import Cost, Line, Opponent
from muse_eval.config import parse_params
from muse_eval.engines.hf.engine import TransformersEngine
from muse_eval.plugins import metric
from muse_eval.scoring.answers import Store
from muse_eval.types import Context, Reference, Splits

GIB = 2**30
ONE, SIZES = "one at a time", (8, 16)
SAME_WORK = "PrivLeak, the published work"
EXAMPLES = 16
"""Of each split, where no model is given: all of it then takes two or three minutes."""


class Bench:
    """A subject, all sides ready to score it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.base = resident()
        self.opponents = {ONE: Baseline(subject.model, subject.tokenizer)} | {
            f"batches of {size}": Batched(subject.model, subject.tokenizer, size) for size in SIZES
        }
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
        steps: Callable[[Baseline], tuple[Steps, int]],
        floor: Callable[[Outcome], float],
        names: Sequence[str] = (),
        **params: Any,
    ) -> Line:
        """Score a column every way, taking turns.

        Args:
            what: title of the row.
            name: the metric.
            splits: what it scores.
            steps: an opponent's way through it and how many examples that has.
            floor: operations, from what the first opponent came to.
            names: the opponents that do this work; none: all.
            params: the metric's.
        """
        print(f"  {what} …", file=sys.stderr)
        mine = Meter()
        others = {at: Opponent(*steps(self.opponents[at])) for at in names or self.opponents}
        turns = 0

        def turn(done: int, total: int) -> None:
            nonlocal turns
            turns += 1
            mine.__exit__(None, None, None)
            for other in others.values():
                other.go_on(done, total)
            mine.__enter__()

        with mine:
            got = self.ours(name, splits, params, turn)
        ends = {at: other.finish() for at, other in others.items()}
        return Line(
            what=what,
            ours=self._cost(mine),
            theirs={at: self._cost(other.meter, _same(got, ends[at])) for at, other in others.items()},
            floor=floor(next(iter(ends.values()))) / self.rate,
            turns=turns,
        )

    def _cost(self, meter: Meter, same: str = "") -> Cost:
        return Cost(meter.cpu, meter.wall, (meter.peak - self.base) / GIB, same)


def _same(ours: Mapping[str, Any], theirs: Outcome) -> str:
    apart = abs(ours["value"] - theirs.value)
    verdict = "equal" if apart <= 1e-6 else f"{apart:.1e} apart"
    if not theirs.responses:
        return f"{ours['value']:.4f} {verdict}"
    alike = sum(a == b for a, b in zip(ours["responses"], theirs.responses, strict=True))
    return f"{ours['value']:.3f} {verdict}, {alike} of {len(theirs.responses)} answers"


def measure(bench: Bench) -> list[Line]:
    """Time every row."""
    subject = bench.subject
    splits, work = subject.splits, Work(subject.model)
    forget = splits["verbmem_f"]["forget"]
    lines = [
        bench.compare(
            "VerbMem Df",
            "verbmem",
            splits["verbmem_f"],
            lambda other: (other.verbmem(forget), len(forget)),
            lambda done: work.answers(done.lengths),
        )
    ]
    for column, title in (("knowmem_f", "KnowMem Df"), ("knowmem_r", "KnowMem Dr")):
        roles = splits[column]
        shared = partial(work.answers_of, shared=_shared(subject.tokenizer, roles))
        lines.append(bench.compare(title, "knowmem", roles, partial(_questions, roles), shared))
    texts = splits["privleak"]
    scored = [
        len(subject.tokenizer(row["text"]).input_ids) for r in ("forget", "holdout") for row in texts[r]
    ]
    everything = {role: texts[role] for role in ("forget", "retain", "holdout")}
    same = bench.compare(
        SAME_WORK,
        "privleak",
        texts,
        lambda other: (other.privleak(everything), other.counts(everything)),
        lambda done: work.texts(n for n, _ in done.lengths),
        (ONE,),
        retain=True,
        lower=True,
        moments=False,
    )
    default = bench.compare(
        "PrivLeak, the default's work",
        "privleak",
        texts,
        lambda other: (other.privleak(everything), other.counts(everything)),
        lambda _: work.texts(scored),
    )
    return [*lines, same, default]


def _questions(roles: Splits, other: Baseline) -> tuple[Steps, int]:
    return other.knowmem(roles["qa"], roles["icl"]), len(roles["qa"])


def totals(lines: Sequence[Line]) -> Line:
    """Add up what all sides do by default."""
    default = [line for line in lines if line.what != SAME_WORK]
    return Line(
        "four columns by default",
        _sum([line.ours for line in default]),
        {name: _sum([line.theirs[name] for line in default]) for name in default[0].theirs},
        sum(line.floor for line in default),
        sum(line.turns for line in default),
    )


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(one.cpu for one in costs), sum(one.wall for one in costs), max(one.peak for one in costs))


def _shared(tokenizer: Any, roles: Splits) -> int:
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in roles["icl"])
    return len(tokenizer(shots).input_ids)


def draw(lines: Sequence[Line], whole: Line) -> Table:
    """Lay the lines out."""
    table = Table()
    for heading in ("CPU seconds", "muse-eval", *whole.theirs, "floor", "× floor", "peak GiB", "value"):
        table.add_column(heading, justify="left" if heading in ("CPU seconds", "value") else "right")
    for line in [*lines, whole]:
        if line is whole:
            table.add_section()
        table.add_row(
            line.what,
            f"{line.ours.cpu:.1f}",
            *(_against(line, name) for name in whole.theirs),
            f"{line.floor:.1f}",
            f"{line.ours.cpu / line.floor:.1f}",
            " ".join(f"{cost.peak:.2f}" for cost in (line.ours, *line.theirs.values())),
            "\n".join(dict.fromkeys(cost.same for cost in line.theirs.values())),
        )
    return table


def _against(line: Line, name: str) -> str:
    cost = line.theirs.get(name)
    return f"{cost.cpu:.1f} ({cost.cpu / line.ours.cpu:.1f} ×)" if cost else ""


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
        "PrivLeak, the default's work: muse-eval scores forget and holdout with their moments, the batches "
        "without; one at a time scores what the published code does."
    )
    if given.json:
        numbers = {
            "subject": subject.name,
            "examples": limit,
            "matrix_rate": bench.rate,
            "lines": [asdict(line) for line in lines],
            "totals": asdict(whole),
        }
        given.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
