"""What others' packages load and a command never touches waits for its use; and a process ends at once."""

from muse_eval.late.ending import ended_at_once
from muse_eval.late.hook import start, stop

__all__ = ["ended_at_once", "start", "stop"]
