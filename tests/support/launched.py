"""What ``accelerate launch`` starts in each process: jobs (``--jobs JSON``), and behind them a command line.

Without a GPU accelerate takes an FSDP launch for plain DDP, although torch shards on CPUs (gloo) as well.
``shard_on_cpu`` opens that door; all behind it is accelerate's and torch's own.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from muse_eval.errors import UserError
from muse_eval.unlearning import heads
from muse_eval.unlearning.training import processes, train
from tests.unlearning.test_unlearn import FORGET, RETAIN, config_for

BOUND = heads.BOUNDS["cpu"]


def shard_on_cpu() -> None:
    """Let accelerate's state say FSDP where it says several CPU processes."""
    real = state.AcceleratorState.__init__

    def init(self: Any, *given: Any, fsdp_plugin: Any = None, **named: Any) -> None:
        fresh = not state.AcceleratorState._shared_state
        real(self, *given, fsdp_plugin=fsdp_plugin, **named)
        if fresh and fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            if self.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    state.AcceleratorState.__init__ = init


def note_shards(path: Path) -> None:
    """Write down, before the weights are gathered, which part of them this process holds."""
    real = processes.full_state

    def noting(trainer: Any) -> dict[str, Any]:
        own = [
            (p.to_local().numel(), p.numel()) for p in trainer.model.parameters() if isinstance(p, DTensor)
        ]
        frozen = [isinstance(p, DTensor) for p in trainer.frozen.parameters()] if trainer.frozen else []
        count = len(list(trainer.model.parameters()))
        told = {
            "own": sum(n for n, _ in own) / sum(n for _, n in own),
            "frozen": all(frozen),
            "all": len(own) == count,
        }
        path.with_name(f"{path.name}.{trainer.args.process_index}").write_text(json.dumps(told))
        return real(trainer)

    processes.full_state = noting


def forget_texts(job: dict[str, Any]) -> list[str]:
    """Return the texts that a job forgets: all as long, or each a word longer than the one before."""
    texts = (FORGET + FORGET)[: job.get("rows", 6)]
    if not job.get("uneven"):
        return texts
    return [" ".join(text.split()[: 5 + number]) for number, text in enumerate(texts)]


def work(job: dict[str, Any]) -> None:
    """Carry out a job, or write down why not; the main process dies (-9) in the step ``kill``."""
    out = Path(job["out"])
    if processes.is_sharded():
        note_shards(out.with_name(f"{out.name}.shards"))

    def progress(_: str, step: int, __: int) -> None:
        if step == job.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)

    # So many logits at a time; else the whole of such small batches.
    heads.BOUNDS["cpu"] = job.get("bound", BOUND)
    config = config_for(Path(job["target"]), job["method"], **job.get("changes", {}))
    texts = forget_texts(job)
    try:
        train.unlearn(config, texts, RETAIN, out, keep_checkpoints=job.get("keep", False), progress=progress)
    except UserError as error:
        out.with_name(f"{out.name}.refused.{os.environ['RANK']}").write_text(str(error), encoding="utf-8")


def main() -> None:
    """Do the jobs, then the command line if there is one, its files no larger than the environment allows."""
    if processes.is_sharded():
        shard_on_cpu()
    _, _, jobs, *command = sys.argv
    for job in json.loads(jobs):
        work(job)
    if not command:
        return processes.leave()
    from muse_eval.cli.app import main as command_line

    sys.argv[1:] = command
    heads.BOUNDS["cpu"] = BOUND
    if limit := os.environ.get("FILE_LIMIT"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    return command_line()


if __name__ == "__main__":
    main()
