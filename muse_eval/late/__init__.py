"""Imports put off until they are used: what others' packages load and a command never touches."""

from muse_eval.late.hook import start, stop

__all__ = ["start", "stop"]
