"""The page: a table's verdicts, pictures and the evidence behind every number, in one offline file."""

from muse_eval.reports.report import Report, report

__all__ = ["Report", "report"]
