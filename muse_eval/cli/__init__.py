"""The command line: a file for each verb, the options they share, and how what they come to is printed."""

from muse_eval.cli.app import main

__all__ = ["main"]
