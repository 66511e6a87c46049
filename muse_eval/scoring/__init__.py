"""Scores a model on a task: questions from the metrics, answers from an engine, kept and made into a run."""
