"""Folders that outlive a crash: written whole, forced to the disk, taken in turn, looked through for gaps."""

from muse_eval.folders.weights import weights_fault
from muse_eval.folders.writing import FULL, in_turn, nearest, sweep, sync, sync_tree, write_whole, writing

__all__ = [
    "FULL",
    "in_turn",
    "nearest",
    "sweep",
    "sync",
    "sync_tree",
    "weights_fault",
    "write_whole",
    "writing",
]
