"""Says of every score whether it deserves trust, on models of which it is known what they know.

``make meta`` runs it; what it measures is written to results/project and docs/protocol.md, that of fewer
models or of ``--tiny`` beside the models alone. Killed, the same command goes on.
"""

import argparse
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

from benchmarks.meta import table, work
from benchmarks.meta.plan import ENOUGH, Job, Plan
from benchmarks.meta.tiny import tiny
from benchmarks.methods_page import replace
from muse_eval.errors import UserError
from muse_eval.probing.forecast import span
from muse_eval.results import write_files

PAGE = Path("docs/protocol.md")
TRUST, MODELS = "metric_trust.csv", "metric_trust_models.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is not done yet, then write both CSVs and the page; return the exit code."""
    given = _parser().parse_args(arguments)
    home = given.results / "meta"
    plan = tiny(home / "tiny", given.models) if given.tiny else Plan(home, given.models or Plan.models)
    try:
        if lack := work.missing():
            raise UserError(lack)
        for line in carry_out(plan, given.processes):
            print(line, flush=True)
        if given.tiny or plan.models < ENOUGH:
            write(plan, plan.home)
        else:
            write(plan, given.results / "project", given.page)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.meta", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose table is written")
    parser.add_argument(
        "--models",
        type=_count,
        help="with the knowledge, and as many without; else 25; fewer than 20 are not published",
    )
    parser.add_argument("--processes", type=_count, default=2, help="at a time, one thread each")
    parser.add_argument("--tiny", action="store_true", help="hardly trained models, to see that it runs")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


# ── doing ────────────────────────────────────────────────────────────────────────────────────────
def carry_out(plan: Plan, processes: int) -> Generator[str]:
    """Do every job that is not done, each after the one it needs; yield a line before all and after each."""
    jobs = plan.jobs()
    left = [job for job in jobs if not plan.note(job).is_file()]
    cost = sum(map(plan.cost, left))
    yield (
        f"{len(jobs)} models, {len(jobs) - len(left)} of them done: about {span(cost / processes)} on "
        f"{processes} quiet core{'s' if processes > 1 else ''} ({span(cost)} of CPU time)"
        if left
        else f"{len(jobs)} models, all of them done"
    )
    began, spent, done = time.perf_counter(), 0.0, len(jobs) - len(left)
    for job, seconds in _finished(plan, left, min(processes, len(left))):
        spent, done = spent + plan.cost(job), done + 1
        rest = (cost - spent) * (time.perf_counter() - began) / spent
        yield f"{done}/{len(jobs)} {job.says}: {seconds:.0f} s; about {span(rest)} left"


def _finished(plan: Plan, jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, float]]:
    """Yield each job as it is done, with its seconds."""
    if processes < 2:
        yield from ((job, work.do(plan, job)) for job in jobs)
        return
    waiting, running = list(jobs), dict[Future[float], Job]()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=work.start) as pool:
        try:
            while waiting or running:
                open_ = {*waiting, *running.values()}
                for job in [one for one in waiting if plan.needs(one) not in open_][
                    : max(0, processes - len(running))
                ]:
                    waiting.remove(job)
                    running[pool.submit(work.do, plan, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write(plan: Plan, folder: Path, page: Path | None = None) -> None:
    """Write all scores and what they say of each; print the table, or put it into a page."""
    scored = [
        table.Scored(job.seed, job.group, job.made, state, values)
        for job in plan.jobs()
        for state, values in work.read(plan, job).items()
    ]
    text = table.models_csv(scored)
    # From the file's own digits, so that whoever has the file comes to the same table.
    models = table.read_models(text)
    found = table.judge(models)
    write_files(folder, {MODELS: text, TRUST: table.trust_csv(found)})
    print(f"{folder / TRUST} and {folder / MODELS}: written")
    if page is None:
        print(table.markdown(found, models))
        return
    before = page.read_text(encoding="utf-8")
    page.write_text(replace(before, table.PART, table.markdown(found, models)), encoding="utf-8")
    print(f"{page}: written")


if __name__ == "__main__":
    sys.exit(main())
